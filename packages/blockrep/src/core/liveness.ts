import type { NetOptions } from "./ports.ts";

interface PingWaiter {
  readonly ping: number;
  readonly done: (answered: boolean) => void;
}

/**
 * Whether the peer is there: pings when nothing was received for ping-int, gives up when an answer takes longer than
 * ping-timeout. A ping is also a point of order: its answer comes behind everything the peer had sent on the meta socket.
 */
export class Liveness {
  readonly #net: () => NetOptions;
  readonly #sendPing: () => void;
  #lastReceivedMs = 0;
  /** Pings sent and answers received on this connection. */
  #sent = 0;
  #answered = 0;
  #pingDeadline = Infinity;
  #waiters: PingWaiter[] = [];
  #running = false;

  constructor(net: () => NetOptions, sendPing: () => void) {
    this.#net = net;
    this.#sendPing = sendPing;
  }

  start(nowMs: number): void {
    this.#running = true;
    this.#lastReceivedMs = nowMs;
    this.#sent = this.#answered = 0;
    this.#pingDeadline = Infinity;
  }

  /** The connection is gone; nobody will answer. */
  stop(): void {
    this.#running = false;
    this.#pingDeadline = Infinity;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.done(false);
  }

  received(nowMs: number): void {
    this.#lastReceivedMs = nowMs;
    // Whatever comes shows that the peer lives; only the answer itself ends the wait for it.
    if (this.#pingDeadline !== Infinity) this.#pingDeadline = nowMs + this.#net().pingTimeoutMs;
  }

  answer(): void {
    this.#answered++;
    if (this.#answered >= this.#sent) this.#pingDeadline = Infinity;
    const ready = this.#waiters.filter((waiter) => waiter.ping <= this.#answered);
    this.#waiters = this.#waiters.filter((waiter) => waiter.ping > this.#answered);
    for (const waiter of ready) waiter.done(true);
  }

  /** Sends a ping now; `done(false)` when the connection ends first. */
  ping(nowMs: number, done?: (answered: boolean) => void): void {
    if (!this.#running) {
      done?.(false);
      return;
    }
    this.#sent++;
    if (this.#pingDeadline === Infinity) this.#pingDeadline = nowMs + this.#net().pingTimeoutMs;
    if (done !== undefined) this.#waiters.push({ ping: this.#sent, done });
    this.#sendPing();
  }

  nextDeadlineMs(): number {
    if (!this.#running) return Infinity;
    return this.#pingDeadline === Infinity ? this.#lastReceivedMs + this.#net().pingIntMs : this.#pingDeadline;
  }

  /** @returns true when the peer did not answer in time */
  tick(nowMs: number): boolean {
    if (!this.#running || nowMs < this.nextDeadlineMs()) return false;
    if (this.#pingDeadline !== Infinity) return true;
    this.ping(nowMs);
    return false;
  }
}
