import { HaError } from "../base/errors.ts";
import { authResponse, isReflectedChallenge, verifyAuthResponse } from "../wire/auth.ts";
import {
  CHALLENGE_LENGTH,
  FEATURES_ALL,
  ProtocolFlag,
  ReplicationProtocol,
  SplitBrainPolicy,
  UuidFlag,
} from "../wire/constants.ts";
import { type Dialect, type FeatureOffer, INITIAL_DIALECT, negotiate } from "../wire/dialect.ts";
import { type DigestAlgorithm, digestAlgorithm, sameDigest } from "../wire/digest.ts";
import type { FeaturesPacket, Packet, ProtocolPacket } from "../wire/packets.ts";
import { ConnState, DiskState, packState } from "../wire/state-word.ts";
import { ConnectionSetup } from "./connection-setup.ts";
import type { EngineContext } from "./context.ts";
import { Dispatch } from "./dispatch.ts";
import { Fencing } from "./fencing.ts";
import { RECONNECT_PAUSE_MS, SEND_QUEUE_BYTES_HIGH } from "./limits.ts";
import { Liveness } from "./liveness.ts";
import { parameterPackets, sizesPacket, uuidsPacket } from "./parameters.ts";
import type { HandlerId, SocketError, SocketId } from "./ports.ts";
import { mirrorPolicy } from "./split-brain.ts";
import type { Volume } from "./volume.ts";

/** What a request to disconnect says about the disks, here or there. */
export interface DiskChange {
  readonly disk?: DiskState;
  readonly pdsk?: DiskState;
}

type Phase = "off" | "pause" | "setup" | "features" | "challenge" | "response" | "up";

/**
 * Feature bit of our own, outside of what 8.4 knows: "my application's flush waits for your barrier acks". With it the
 * receiver may write on while it flushes an epoch; a kernel's flush waits for its local disk only and relies on the order.
 */
export const FEATURE_FLUSH_WAITS_FOR_BARRIERS = 0x4000_0000;

/**
 * Deviation: protocol A is agreed with the peer and run as C. Each write asks for its own answer, which every receiver of
 * 8.4 gives whatever the protocol, so an acknowledged write is on both disks. Completing a write while it is only on its
 * way was found to leave other bytes on the peer's disk, and stays off until the simulator shows it safe.
 */
function effectiveProtocol(configured: "A" | "B" | "C"): "B" | "C" {
  return configured === "B" ? "B" : "C";
}

/**
 * The link to the peer: its two sockets, what was agreed on them, and who is told when it breaks.
 * @see DRBD 8.4 drbd_receiver.c
 */
export class Connection {
  readonly ctx: EngineContext;
  readonly setup: ConnectionSetup;
  readonly liveness: Liveness;
  readonly dispatch: Dispatch;
  readonly fencing: Fencing;
  readonly volumes: Volume[] = [];
  #phase: Phase = "off";
  #data: SocketId | undefined;
  #meta: SocketId | undefined;
  #lastSocket = 0;
  #lastHandler = 0;
  readonly #handlers: Map<HandlerId, (exitCode: number) => void> = new Map();
  /** Packets of a socket whose purpose is known while the set-up is not over. */
  readonly #early: Map<SocketId, Packet[]> = new Map();
  #held: Packet[] = [];
  #holds = 0;
  #draining = false;
  #throttleReasons = 0;
  #deadline = Infinity;
  #challenge: Uint8Array = new Uint8Array(0);
  #digest: DigestAlgorithm | undefined;
  #sendStalledMs = Infinity;
  dialect: Dialect = INITIAL_DIALECT;
  protocol: "A" | "B" | "C";
  sendQueueBytes = 0;
  resolveConflicts = false;
  discardMyData = false;
  dryRun = false;
  sentDirtyBits = 0;
  /** What the peer's P_SYNC_PARAM changed since the handshake. */
  adopted: { readonly verifyAlg: string; readonly csumsAlg: string } | undefined;
  /** A state change of ours waits for the peer's answer. */
  pendingRequest: ((rc: number) => void) | undefined;
  /** When a ping was given up. */
  #unansweredMs = -Infinity;
  /** What somebody who must know about a silent peer waits for. */
  #probes: ((reached: boolean) => void)[] = [];

  constructor(ctx: EngineContext) {
    this.ctx = ctx;
    this.protocol = effectiveProtocol(ctx.options.net.protocol);
    this.setup = new ConnectionSetup(() => ctx.options.net, ctx.random, {
      dial: () => {
        const socket = ++this.#lastSocket;
        ctx.sink.dial(socket);
        return socket;
      },
      close: (socket) => this.#closeSocket(socket),
      send: (socket, packet) => ctx.sink.send(socket, packet),
      note: (text) => ctx.sink.event({ type: "network", level: "info", text }),
      established: (data, meta, resolveConflicts) => this.#established(data, meta, resolveConflicts),
      unreachable: () => this.#probed(false),
      reached: () => this.#probed(true),
    });
    this.liveness = new Liveness(
      () => ctx.options.net,
      () => this.sendMeta({ kind: "P_PING", volume: 0 }),
    );
    this.dispatch = new Dispatch(this);
    this.fencing = new Fencing(this);
  }

  get volume(): Volume {
    return this.volumes[0] as Volume;
  }

  get conn(): ConnState {
    return this.volume.state.conn;
  }

  get configured(): boolean {
    return this.#phase !== "off";
  }

  get connected(): boolean {
    return this.conn >= ConnState.Connected;
  }

  get up(): boolean {
    return this.#phase === "up";
  }

  get version(): number {
    return this.#phase === "up" ? this.dialect.version : 0;
  }

  get features(): number {
    return this.dialect.features;
  }

  /** Epochs may not overtake each other on this disk: the peer does not say that its flushes wait for barrier acks. */
  get strictEpochs(): boolean {
    return (this.dialect.features & FEATURE_FLUSH_WAITS_FOR_BARRIERS) === 0;
  }

  // Up and down

  /** From StandAlone: look for the peer until told otherwise. */
  start(): void {
    const { ctx } = this;
    this.protocol = effectiveProtocol(ctx.options.net.protocol);
    this.#setConn(ConnState.Unconnected, "connect");
    this.#setConn(ConnState.WFConnection, "connect");
    this.#look();
  }

  #look(): void {
    this.#phase = "setup";
    this.#deadline = Infinity;
    this.ctx.sink.listen(true);
    this.setup.start(this.ctx.nowMs);
  }

  #setConn(conn: ConnState, cause: string, disks: DiskChange = {}): void {
    for (const v of this.volumes) v.change({ ...disks, conn }, cause, true);
  }

  #closeSocket(socket: SocketId): void {
    this.#early.delete(socket);
    this.ctx.sink.closeSocket(socket);
  }

  /**
   * The link broke, or has to be broken; it is looked for again.
   * @param disks what becomes of the disks in the same moment: a connected one is never Outdated
   */
  fail(conn: ConnState, cause: string, disks: DiskChange = {}): void {
    if (this.#phase === "off" || this.#phase === "setup" || this.#phase === "pause") return;
    const wasUp = this.#phase === "up";
    this.ctx.sink.event({ type: "network", level: "warn", text: cause });
    this.#teardown(conn, cause, disks);
    this.#setConn(ConnState.Unconnected, cause);
    this.#setConn(ConnState.WFConnection, cause);
    if (wasUp) this.#look();
    else {
      this.#phase = "pause";
      this.#deadline = this.ctx.nowMs + RECONNECT_PAUSE_MS;
    }
  }

  /** The link is given up until an administrator connects again. */
  disconnect(cause: string, disks: DiskChange = {}): void {
    if (this.#phase === "off") return;
    this.ctx.sink.event({ type: "network", level: "warn", text: cause });
    if (this.#phase === "setup" || this.#phase === "pause") {
      this.setup.stop();
      this.ctx.sink.listen(false);
    }
    this.#teardown(ConnState.Disconnecting, cause, disks);
    this.#phase = "off";
    this.#setConn(ConnState.StandAlone, cause);
    this.#probed(false);
  }

  #teardown(conn: ConnState, cause: string, disks: DiskChange): void {
    const wasUp = this.#phase === "up";
    this.#phase = "pause";
    for (const socket of [this.#data, this.#meta]) if (socket !== undefined) this.#closeSocket(socket);
    this.#data = this.#meta = undefined;
    this.#early.clear();
    this.#held = [];
    this.#holds = 0;
    this.#throttleReasons = 0;
    this.#deadline = Infinity;
    this.sendQueueBytes = 0;
    this.#sendStalledMs = Infinity;
    this.#setConn(conn, cause, disks);
    this.liveness.stop();
    if (wasUp) {
      for (const v of this.volumes) v.connectionLost();
      this.fencing.connectionLost();
    }
    this.dialect = INITIAL_DIALECT;
    this.#digest = undefined;
    const request = this.pendingRequest;
    this.pendingRequest = undefined;
    request?.(0);
  }

  // Sockets

  socketOpened(socket: SocketId): void {
    this.setup.socketOpened(socket, this.ctx.nowMs);
  }

  socketAccepted(): SocketId | undefined {
    if (!this.setup.running) return undefined;
    const socket = ++this.#lastSocket;
    this.setup.accepted(socket, this.ctx.nowMs);
    return socket;
  }

  socketClosed(socket: SocketId, error: SocketError): void {
    this.#early.delete(socket);
    if (socket === this.#data || socket === this.#meta) {
      if (socket === this.#data) this.#data = undefined;
      else this.#meta = undefined;
      const malformed = error === "malformed";
      this.fail(malformed ? ConnState.ProtocolError : ConnState.NetworkFailure, `${error} by the peer`);
      return;
    }
    this.setup.socketClosed(socket, error, this.ctx.nowMs);
  }

  packetReceived(socket: SocketId, packet: Packet): void {
    if (socket === this.#meta) {
      this.liveness.received(this.ctx.nowMs);
      if (packet.kind === "P_PING") this.sendMeta({ kind: "P_PING_ACK", volume: 0 });
      else if (packet.kind === "P_PING_ACK") this.liveness.answer();
      else this.#guarded(packet, true);
    } else if (socket === this.#data) {
      this.liveness.received(this.ctx.nowMs);
      if (this.#holds > 0 || this.#held.length > 0) {
        this.#held.push(packet);
        if (this.#held.length > 256) this.throttle(1, true);
      } else this.#guarded(packet, false);
    } else if (!this.setup.firstPacket(socket, packet, this.ctx.nowMs) && this.setup.running) {
      const early = this.#early.get(socket);
      if (early === undefined) this.#early.set(socket, [packet]);
      else early.push(packet);
    }
  }

  /** A packet whose content is impossible ends the connection, not the process. */
  #guarded(packet: Packet, meta: boolean): void {
    try {
      if (meta) this.dispatch.meta(packet);
      else this.#dataPacket(packet);
    } catch (error) {
      if (!(error instanceof HaError)) throw error;
      this.fail(ConnState.ProtocolError, error.message);
    }
  }

  sendQueue(socket: SocketId, bytes: number): void {
    if (socket !== this.#data) return;
    if (bytes < this.sendQueueBytes || this.sendQueueBytes === 0) this.#sendStalledMs = this.ctx.nowMs;
    if (bytes === 0) this.#sendStalledMs = Infinity;
    this.sendQueueBytes = bytes;
    if (bytes >= SEND_QUEUE_BYTES_HIGH || !this.up) return;
    for (const v of this.volumes) {
      v.resync.continueBitmap();
      v.writes.sendQueueShrank();
    }
  }

  throttle(reason: number, on: boolean): void {
    const before = this.#throttleReasons !== 0;
    this.#throttleReasons = on ? this.#throttleReasons | reason : this.#throttleReasons & ~reason;
    const after = this.#throttleReasons !== 0;
    if (before !== after) this.ctx.sink.throttle("data-socket", after);
  }

  /** Keeps the packets of the data socket waiting while something they depend on becomes durable. */
  hold(): void {
    this.#holds++;
  }

  release(): void {
    if (this.#holds > 0) this.#holds--;
    if (this.#holds > 0 || this.#draining || this.#held.length === 0) return;
    this.#draining = true;
    this.ctx.later(() => {
      this.#draining = false;
      while (this.#holds === 0) {
        const packet = this.#held.shift();
        if (packet === undefined) break;
        this.#guarded(packet, false);
      }
      if (this.#held.length === 0) this.throttle(1, false);
    });
  }

  sendData(packet: Packet): void {
    if (this.#data !== undefined) this.ctx.sink.send(this.#data, packet);
  }

  sendMeta(packet: Packet): void {
    if (this.#meta !== undefined) this.ctx.sink.send(this.#meta, packet);
  }

  // Handshake

  #established(data: SocketId, meta: SocketId, resolveConflicts: boolean): void {
    const { ctx } = this;
    this.#data = data;
    this.#meta = meta;
    this.resolveConflicts = resolveConflicts;
    this.#phase = "features";
    ctx.sink.listen(false);
    this.#deadline = ctx.nowMs + 4 * ctx.options.net.pingTimeoutMs;
    this.sendData({ kind: "P_CONNECTION_FEATURES", volume: 0, ...this.#offer() });
    const early = [...(this.#early.get(data) ?? [])];
    this.#early.clear();
    for (const packet of early) ctx.later(() => this.packetReceived(data, packet));
  }

  #offer(): FeatureOffer {
    const { protocolMin, protocolMax } = this.ctx.options;
    // with protocol A a flush here does not wait for the peer, so that its epochs must not overtake each other
    const own = this.protocol === "A" ? 0 : FEATURE_FLUSH_WAITS_FOR_BARRIERS;
    return { protocolMin, protocolMax, featureFlags: FEATURES_ALL | own };
  }

  #dataPacket(packet: Packet): void {
    switch (this.#phase) {
      case "up":
        this.dispatch.data(packet);
        return;
      case "features":
        if (packet.kind === "P_CONNECTION_FEATURES") this.#features(packet);
        else this.disconnect(`expected the peer's features, received ${packet.kind}`);
        return;
      case "challenge":
        if (packet.kind === "P_AUTH_CHALLENGE") this.#challenged(packet.challenge);
        else
          this.disconnect(
            `expected an authentication challenge, received ${packet.kind}: is a secret set on one side only`,
          );
        return;
      case "response":
        if (packet.kind === "P_AUTH_RESPONSE") this.#responded(packet.response);
        else this.fail(ConnState.ProtocolError, `expected an authentication response, received ${packet.kind}`);
        return;
      default:
        return;
    }
  }

  #features(packet: FeaturesPacket): void {
    const { net } = this.ctx.options;
    const dialect = negotiate(this.#offer(), packet);
    if (dialect === undefined) {
      this.disconnect(
        `incompatible dialects: I support ${this.ctx.options.protocolMin}-${this.ctx.options.protocolMax}, peer supports ${packet.protocolMin}-${packet.protocolMax}`,
      );
      return;
    }
    this.#digest = net.dataIntegrityAlg === "" ? undefined : digestAlgorithm(net.dataIntegrityAlg);
    this.dialect = { ...dialect, integrityDigestLength: this.#digest?.lengthBytes ?? 0 };
    for (const socket of [this.#data, this.#meta]) {
      if (socket !== undefined) this.ctx.sink.setDialect(socket, this.dialect, this.dialect);
    }
    if (net.cramHmacAlg === "") {
      this.#exchangeParameters();
      return;
    }
    this.#challenge = this.ctx.random.bytes(CHALLENGE_LENGTH);
    this.#phase = "challenge";
    this.sendData({ kind: "P_AUTH_CHALLENGE", volume: 0, challenge: this.#challenge });
  }

  #challenged(challenge: Uint8Array): void {
    const { net } = this.ctx.options;
    if (challenge.length < CHALLENGE_LENGTH || isReflectedChallenge(this.#challenge, challenge)) {
      this.disconnect("Authentication of peer failed: it sent my own challenge back");
      return;
    }
    this.#phase = "response";
    this.sendData({
      kind: "P_AUTH_RESPONSE",
      volume: 0,
      response: authResponse(net.cramHmacAlg, net.sharedSecret, challenge),
    });
  }

  #responded(response: Uint8Array): void {
    const { net } = this.ctx.options;
    if (verifyAuthResponse(net.cramHmacAlg, net.sharedSecret, this.#challenge, response)) this.#exchangeParameters();
    else this.disconnect("Authentication of peer failed: the shared secrets differ");
  }

  /** A generation that fencing put off begins before the peer hears of the old one, if it has missed anything. */
  #exchangeParameters(): void {
    const due = this.volumes.filter((v) => v.generationDue);
    if (due.length === 0) {
      this.#sendParameters();
      return;
    }
    const data = this.#data;
    let open = due.length;
    this.hold();
    for (const v of due) {
      v.beginDueGeneration(() => {
        if (--open > 0 || data !== this.#data) return;
        this.release();
        this.#sendParameters();
      });
    }
  }

  #sendParameters(): void {
    this.#phase = "up";
    this.adopted = undefined;
    this.fencing.contact();
    this.#deadline = Infinity;
    this.liveness.start(this.ctx.nowMs);
    this.ctx.sink.event({ type: "connected", version: this.dialect.version, features: this.dialect.features });
    this.sendData(this.protocolPacket());
    for (const v of this.volumes) {
      v.resetSequence();
      for (const packet of parameterPackets(v)) this.sendData(packet);
      this.sendUuids(v);
      this.sendState(v);
      v.change({ conn: ConnState.WFReportParams }, "parameters sent", true);
    }
  }

  protocolPacket(): ProtocolPacket {
    const { net } = this.ctx.options;
    const policy = (name: string): number => (SplitBrainPolicy as Readonly<Record<string, number>>)[name] ?? 0;
    return {
      kind: "P_PROTOCOL",
      volume: 0,
      protocol: ReplicationProtocol[net.protocol],
      afterSb0p: policy(net.afterSb0p),
      afterSb1p: policy(net.afterSb1p),
      afterSb2p: policy(net.afterSb2p),
      connFlags: (this.discardMyData ? ProtocolFlag.DISCARD_MY_DATA : 0) | (this.dryRun ? ProtocolFlag.DRY_RUN : 0),
      twoPrimaries: net.allowTwoPrimaries ? 1 : 0,
      integrityAlg: net.dataIntegrityAlg,
    };
  }

  /** P_PROTOCOL of the peer: all of it has to fit. */
  checkProtocol(peer: ProtocolPacket): void {
    const mine = this.protocolPacket();
    const { net } = this.ctx.options;
    const mirrored = (SplitBrainPolicy as Readonly<Record<string, number>>)[mirrorPolicy(net.afterSb0p)] ?? 0;
    let wrong: string | undefined;
    if (peer.protocol !== mine.protocol) wrong = "protocol";
    else if (peer.afterSb0p !== mirrored) wrong = "after-sb-0pri";
    else if (peer.afterSb1p !== mine.afterSb1p) wrong = "after-sb-1pri";
    else if (peer.afterSb2p !== mine.afterSb2p) wrong = "after-sb-2pri";
    else if (peer.twoPrimaries !== mine.twoPrimaries) wrong = "allow-two-primaries";
    else if (peer.integrityAlg !== mine.integrityAlg) wrong = "data-integrity-alg";
    else if ((peer.connFlags & mine.connFlags & ProtocolFlag.DISCARD_MY_DATA) !== 0) wrong = "discard-my-data";
    if (wrong !== undefined) this.disconnect(`incompatible ${wrong} settings; both nodes need the same`);
    else if ((peer.connFlags & ProtocolFlag.DRY_RUN) !== 0) this.dryRun = true;
  }

  /** The handshake is over: what was meant for one connect only is used up. */
  parametersDone(): void {
    this.discardMyData = false;
    this.dryRun = false;
  }

  sendState(v: Volume): void {
    if (this.up) this.sendData({ kind: "P_STATE", volume: v.number, state: packState(v.state) });
  }

  sendUuids(v: Volume): void {
    if (!this.up || !v.disk.isOpen || v.state.disk < DiskState.Negotiating) return;
    this.sentDirtyBits = v.bitmap.count;
    const skip = v.skipsInitialSync ? UuidFlag.SKIP_INITIAL_SYNC : 0;
    this.sendData(uuidsPacket(v, (this.discardMyData ? UuidFlag.DISCARD_MY_DATA : 0) | skip));
  }

  sendSizes(v: Volume): void {
    if (this.up) this.sendData(sizesPacket(v));
  }

  // Digests

  /** Names of the algorithms in use; a connected peer that changes its own changes ours. */
  get verifyAlg(): string {
    return this.adopted?.verifyAlg ?? this.ctx.options.net.verifyAlg;
  }

  get csumsAlg(): string {
    return this.adopted?.csumsAlg ?? this.ctx.options.net.csumsAlg;
  }

  get hasDigest(): boolean {
    return this.#digest !== undefined;
  }

  digestOf(data: Uint8Array): { digest?: Uint8Array } {
    return this.#digest === undefined ? {} : { digest: this.#digest.digest(data) };
  }

  digestFits(data: Uint8Array, digest: Uint8Array | undefined): boolean {
    return this.#digest === undefined || (digest !== undefined && sameDigest(digest, this.#digest.digest(data)));
  }

  // The peer's pulse

  /** `done` after a round trip; not at all when the connection ends first. */
  pingThen(done: () => void): void {
    this.liveness.ping(this.ctx.nowMs, (answered) => {
      if (answered) done();
    });
  }

  /** The peer was reached, and what it is will be known soon. */
  get shaking(): boolean {
    const early = this.#phase === "features" || this.#phase === "challenge" || this.#phase === "response";
    return early || (this.#phase === "up" && this.conn < ConnState.Connected) || this.setup.hasContact;
  }

  /**
   * The peer has just let a ping, or a dial, go unanswered for ping-timeout: asking it once more would show nothing new.
   * What went unanswered while this process itself slept does not count.
   */
  get peerSilent(): boolean {
    const { nowMs, awakeSinceMs, options } = this.ctx;
    if (this.shaking) return false;
    const since = this.setup.diallingSinceMs;
    const dialled = since !== undefined && nowMs - Math.max(since, awakeSinceMs) >= options.net.pingTimeoutMs;
    return dialled || nowMs - this.#unansweredMs < options.net.pingTimeoutMs;
  }

  /** Whether a peer without a connection can be reached: one attempt, now. */
  probe(done: (reached: boolean) => void): void {
    if (this.#phase === "pause") this.#look();
    if (!this.setup.running) {
      done(false);
      return;
    }
    if (this.setup.hasContact) {
      done(true);
      return;
    }
    this.#probes.push(done);
    this.setup.hurry(this.ctx.nowMs);
  }

  #probed(reached: boolean): void {
    if (reached) this.#unansweredMs = -Infinity;
    const probes = this.#probes;
    this.#probes = [];
    for (const probe of probes) this.ctx.later(() => probe(reached));
  }

  runHandler(name: string, done?: (exitCode: number) => void): void {
    if (!this.ctx.options.handlers.includes(name)) {
      done?.(0);
      return;
    }
    const id = ++this.#lastHandler;
    if (done !== undefined) this.#handlers.set(id, done);
    this.ctx.sink.runHandler(id, name, { DRBD_RESOURCE: this.ctx.options.resource, DRBD_VOLUME: "0" });
  }

  handlerDone(id: HandlerId, exitCode: number): void {
    const done = this.#handlers.get(id);
    this.#handlers.delete(id);
    done?.(exitCode);
  }

  // Time

  nextDeadlineMs(): number {
    let next = Math.min(this.#deadline, this.setup.nextDeadlineMs(), this.liveness.nextDeadlineMs());
    const patience = this.#patienceMs();
    if (this.up && patience > 0) {
      for (const v of this.volumes) next = Math.min(next, (v.writes.oldestWaitMs() ?? Infinity) + patience);
      next = Math.min(next, this.#sendStalledMs + patience);
    }
    return next;
  }

  #patienceMs(): number {
    const { koCount, timeoutMs } = this.ctx.options.net;
    return koCount * timeoutMs;
  }

  tick(): void {
    const { ctx } = this;
    if (ctx.nowMs >= this.#deadline) {
      this.#deadline = Infinity;
      if (this.#phase === "pause") this.#look();
      else {
        this.fail(ConnState.NetworkFailure, "the peer did not finish the handshake in time");
      }
    }
    this.setup.tick(ctx.nowMs);
    if (this.liveness.tick(ctx.nowMs)) {
      if (ctx.awakeSinceMs <= ctx.nowMs - ctx.options.net.pingTimeoutMs) this.#unansweredMs = ctx.nowMs;
      this.fail(ConnState.NetworkFailure, "PingAck did not arrive in time.");
    }
    const patience = this.#patienceMs();
    if (!this.up || patience === 0) return;
    const late = this.volumes.some((v) => ctx.nowMs - (v.writes.oldestWaitMs() ?? Infinity) >= patience);
    if (late || ctx.nowMs - this.#sendStalledMs >= patience) {
      this.fail(ConnState.Timeout, "the peer did not acknowledge a write within ko-count × timeout");
    }
  }
}
