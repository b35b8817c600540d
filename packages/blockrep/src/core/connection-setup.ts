import type { Packet } from "../wire/packets.ts";
import type { NetOptions, RandomSource, SocketError, SocketId } from "./ports.ts";

/** What the set-up asks of the connection that owns it. */
export interface SetupActions {
  dial(): SocketId;
  close(socket: SocketId): void;
  send(socket: SocketId, packet: Packet): void;
  note(text: string): void;
  /** Both sockets exist and stayed open for the check time. */
  established(data: SocketId, meta: SocketId, resolveConflicts: boolean): void;
  /** An attempt to reach the peer began and ended without a connection. */
  unreachable(error: SocketError): void;
  /** The peer was reached in one direction or the other. */
  reached(): void;
}

const FIRST_PACKET_PING_TIMEOUTS = 4;

/**
 * The two sockets of a connection. Either node may open either of them; the dialler names the purpose with its first
 * packet. When both dial at the same moment the attempts cross, each side keeps the newest incoming socket of a kind, and
 * coin flips make sure that the two do not repeat that in step for ever.
 *
 * The kernel's procedure alternates between dialling and waiting for a connection. This one always listens and dials at
 * the times when the kernel would, which any mixture of the two gets along with.
 *
 * @see DRBD 8.4 drbd_receiver.c conn_connect
 */
export class ConnectionSetup {
  readonly #net: () => NetOptions;
  readonly #random: RandomSource;
  readonly #do: SetupActions;
  #data: SocketId | undefined;
  #meta: SocketId | undefined;
  #dialling: SocketId | undefined;
  #dialDeadline = Infinity;
  #diallingSinceMs = 0;
  #dialAt = Infinity;
  #checkAt = Infinity;
  #resolveConflicts = false;
  #running = false;
  /** Accepted sockets that have not said yet what they are for, with the time by which they must. */
  readonly #unknown: Map<SocketId, number> = new Map();

  constructor(net: () => NetOptions, random: RandomSource, actions: SetupActions) {
    this.#net = net;
    this.#random = random;
    this.#do = actions;
  }

  get running(): boolean {
    return this.#running;
  }

  start(nowMs: number): void {
    this.#running = true;
    this.#dialAt = nowMs;
  }

  /** Ends the set-up and closes what it still owns. */
  stop(): void {
    this.#running = false;
    for (const socket of this.#unknown.keys()) this.#do.close(socket);
    this.#unknown.clear();
    for (const socket of [this.#data, this.#meta, this.#dialling]) if (socket !== undefined) this.#do.close(socket);
    this.#forget();
  }

  #forget(): void {
    this.#data = undefined;
    this.#meta = undefined;
    this.#dialling = undefined;
    this.#dialDeadline = this.#dialAt = this.#checkAt = Infinity;
  }

  /** Dial at once, whatever the pacing says: somebody waits for an answer about the peer. */
  hurry(nowMs: number): void {
    if (this.#running && this.#dialling === undefined) this.#dialAt = nowMs;
  }

  /** Since when the dial that runs waits for an answer; undefined: none runs. */
  get diallingSinceMs(): number | undefined {
    return this.#dialling === undefined ? undefined : this.#diallingSinceMs;
  }

  /** A socket of this kind exists, so the peer was alive a moment ago. */
  get hasContact(): boolean {
    return this.#data !== undefined || this.#meta !== undefined || this.#unknown.size > 0;
  }

  nextDeadlineMs(): number {
    const complete = this.#data !== undefined && this.#meta !== undefined;
    let next = this.#checkAt;
    if (this.#dialling !== undefined) next = Math.min(next, this.#dialDeadline);
    else if (!complete) next = Math.min(next, this.#dialAt);
    for (const at of this.#unknown.values()) next = Math.min(next, at);
    return next;
  }

  tick(nowMs: number): void {
    if (!this.#running) return;
    for (const [socket, deadline] of this.#unknown) {
      if (nowMs < deadline) continue;
      this.#unknown.delete(socket);
      this.#do.note("an incoming connection did not say what it is for in time");
      this.#do.close(socket);
    }
    if (nowMs >= this.#checkAt && this.#data !== undefined && this.#meta !== undefined) {
      const [data, meta] = [this.#data, this.#meta];
      if (this.#dialling !== undefined) this.#do.close(this.#dialling);
      for (const socket of this.#unknown.keys()) this.#do.close(socket);
      this.#unknown.clear();
      this.#forget();
      this.#running = false;
      this.#do.established(data, meta, this.#resolveConflicts);
      return;
    }
    if (this.#dialling !== undefined) {
      if (nowMs < this.#dialDeadline) return;
      this.#do.close(this.#dialling);
      this.#dialling = undefined;
      this.#dialLater(nowMs);
      this.#do.unreachable("timeout");
      return;
    }
    if (nowMs >= this.#dialAt && (this.#data === undefined || this.#meta === undefined)) {
      this.#dialling = this.#do.dial();
      this.#diallingSinceMs = nowMs;
      this.#dialDeadline = nowMs + this.#net().connectIntMs;
      this.#dialAt = Infinity;
    }
  }

  socketOpened(socket: SocketId, nowMs: number): void {
    if (socket !== this.#dialling) {
      this.#do.close(socket);
      return;
    }
    this.#dialling = undefined;
    this.#dialDeadline = Infinity;
    if (this.#data === undefined) {
      this.#data = socket;
      this.#do.send(socket, { kind: "P_INITIAL_DATA", volume: 0 });
    } else if (this.#meta === undefined) {
      this.#meta = socket;
      this.#resolveConflicts = false;
      this.#do.send(socket, { kind: "P_INITIAL_META", volume: 0 });
    } else {
      this.#do.close(socket);
    }
    this.#dialLater(nowMs);
    this.#checkLater(nowMs);
    this.#do.reached();
  }

  accepted(socket: SocketId, nowMs: number): void {
    this.#unknown.set(socket, nowMs + FIRST_PACKET_PING_TIMEOUTS * this.#net().pingTimeoutMs);
  }

  /** The first packet of an accepted socket. @returns false when the socket is not one of the set-up */
  firstPacket(socket: SocketId, packet: Packet, nowMs: number): boolean {
    if (!this.#unknown.delete(socket)) return false;
    if (packet.kind === "P_INITIAL_DATA") {
      const crossed = this.#data;
      this.#data = socket;
      this.#afterAccept(crossed, "data", nowMs);
    } else if (packet.kind === "P_INITIAL_META") {
      const crossed = this.#meta;
      this.#meta = socket;
      this.#resolveConflicts = true;
      this.#afterAccept(crossed, "meta", nowMs);
    } else {
      this.#do.note(`an incoming connection began with ${packet.kind} instead of naming its purpose`);
      this.#do.close(socket);
      if (this.#random.below(2) === 0) this.#dialAt = nowMs;
    }
    this.#do.reached();
    return true;
  }

  #afterAccept(crossed: SocketId | undefined, what: string, nowMs: number): void {
    if (crossed === undefined) {
      if (this.#dialling === undefined) this.#dialAt = nowMs;
    } else {
      this.#do.note(`initial ${what} packets crossed`);
      this.#do.close(crossed);
      if (this.#dialling === undefined) {
        if (this.#random.below(2) === 0) this.#dialLater(nowMs);
        else this.#dialAt = nowMs;
      }
    }
    this.#checkLater(nowMs);
  }

  socketClosed(socket: SocketId, error: SocketError, nowMs: number): void {
    if (this.#unknown.delete(socket)) return;
    if (socket === this.#dialling) {
      this.#dialling = undefined;
      this.#dialDeadline = Infinity;
      this.#dialLater(nowMs);
      this.#do.unreachable(error);
      return;
    }
    if (socket !== this.#data && socket !== this.#meta) return;
    if (socket === this.#data) this.#data = undefined;
    else this.#meta = undefined;
    this.#checkAt = Infinity;
    // A peer that closed a socket of an unfinished set-up is usually crossing; do not dial in step with it.
    const pause = this.#random.below(Math.max(1, Math.floor(this.#net().connectIntMs / 4)));
    if (this.#dialling === undefined) this.#dialAt = Math.min(this.#dialAt, nowMs + pause);
  }

  #checkLater(nowMs: number): void {
    if (this.#data === undefined || this.#meta === undefined) return;
    const configured = this.#net().socketCheckTimeoutMs;
    this.#checkAt = nowMs + (configured === 0 ? this.#net().pingTimeoutMs : configured);
  }

  /** connect-int plus or minus a seventh, so that two nodes do not dial in step. */
  #dialLater(nowMs: number): void {
    const seventh = Math.floor(this.#net().connectIntMs / 7);
    this.#dialAt = nowMs + this.#net().connectIntMs + (this.#random.below(2) === 0 ? seventh : -seventh);
  }
}
