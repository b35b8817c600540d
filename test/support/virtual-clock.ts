interface Timer {
  readonly atMs: number;
  readonly order: number;
  readonly run: () => void;
}

/** Time that passes only when a test says so; what is due at the same moment runs in the order it was asked for. */
export class VirtualClock {
  nowMs = 0;
  #order = 0;
  #timers: Timer[] = [];

  at(atMs: number, run: () => void): void {
    const timer = { atMs: Math.max(atMs, this.nowMs), order: ++this.#order, run };
    let i = this.#timers.length;
    while (i > 0 && (this.#timers[i - 1] as Timer).atMs > timer.atMs) i--;
    this.#timers.splice(i, 0, timer);
  }

  after(ms: number, run: () => void): void {
    this.at(this.nowMs + ms, run);
  }

  /** Lets `ms` pass. */
  run(ms: number): void {
    const end = this.nowMs + ms;
    this.runUntil(() => false, ms);
    this.nowMs = Math.max(this.nowMs, end);
  }

  /** @returns whether `done` became true within `limitMs` */
  runUntil(done: () => boolean, limitMs = 60_000): boolean {
    const end = this.nowMs + limitMs;
    for (;;) {
      if (done()) return true;
      const next = this.#timers[0];
      if (next === undefined || next.atMs > end) return false;
      this.#timers.shift();
      this.nowMs = next.atMs;
      next.run();
    }
  }
}
