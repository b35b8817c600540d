/**
 * Holds the application's I/O back while something must become durable first (a new generation UUID, the mark of a
 * Primary) or while I/O is suspended. What passes a gate does so in the order of arrival.
 */
export class Gate {
  readonly #later: (fn: () => void) => void;
  readonly #suspended: () => boolean;
  #closed = 0;
  #queue: (() => void)[] = [];

  constructor(later: (fn: () => void) => void, suspended: () => boolean) {
    this.#later = later;
    this.#suspended = suspended;
  }

  get isOpen(): boolean {
    return this.#closed === 0 && !this.#suspended();
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** What comes now passes at once. */
  get passes(): boolean {
    return this.isOpen && this.#queue.length === 0;
  }

  /** Runs `fn` now, or when the gate opens. */
  pass(fn: () => void): void {
    if (this.passes) fn();
    else this.#queue.push(fn);
  }

  close(): void {
    this.#closed++;
  }

  open(): void {
    this.#closed--;
    this.reconsider();
  }

  /** The reason for a suspension may have ended. */
  reconsider(): void {
    if (this.isOpen && this.#queue.length > 0) this.#later(() => this.#drain());
  }

  #drain(): void {
    while (this.isOpen) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      next();
    }
  }
}
