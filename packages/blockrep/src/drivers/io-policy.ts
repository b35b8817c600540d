/** A cached call is over in microseconds; one that takes longer met the disk, or lost the processor for a moment. */
const SLOW_READ_US = 300;
const SLOW_WRITE_US = 2000;
/** So many slow calls within so long show the disk; a single one may be the scheduler's, unless it is very slow. */
const SLOW_CALLS = 3;
const SLOW_WINDOW_MS = 100;
const VERY_SLOW_US = 20_000;
/** A pool request or flush that is under way this long shows a disk that is busy or stalled. */
const STUCK_MS = 20;
/** After slow calls everything goes to the pool for so long, doubling while it stays slow. */
const PENALTY_MS = 250;
const PENALTY_MAX_MS = 8000;
/** Longer requests cost more than a hand-off to the pool, and hold up the event loop. */
const SYNC_BYTES_MAX: number = 128 * 1024;
/** Written since the last flush, where the caller does not know the kernel's limit. */
const DIRTY_BYTES_MAX: number = 64 * 1024 * 1024;

const PAGE = 4096;
const PAGES_PER_ENTRY = 32;
const ENTRIES = 8192; // of 128 KiB each: remembers up to 1 GiB

/** Which pages were read or written lately and so are surely in the page cache. Collisions forget, never lie. */
class RecentPages {
  readonly #tags: Float64Array = new Float64Array(ENTRIES).fill(-1);
  readonly #pages: Uint32Array = new Uint32Array(ENTRIES);

  add(offset: number, length: number): void {
    // a partly written page counts: on most file systems the kernel read its rest before the write
    const last = Math.floor((offset + length - 1) / PAGE);
    for (let page = Math.floor(offset / PAGE); page <= last; page++) {
      const tag = Math.floor(page / PAGES_PER_ENTRY);
      const entry = tag % ENTRIES;
      if (this.#tags[entry] !== tag) {
        this.#tags[entry] = tag;
        this.#pages[entry] = 0;
      }
      this.#pages[entry] = ((this.#pages[entry] as number) | (1 << (page % PAGES_PER_ENTRY))) >>> 0;
    }
  }

  has(offset: number, length: number): boolean {
    const last = Math.floor((offset + length - 1) / PAGE);
    for (let page = Math.floor(offset / PAGE); page <= last; page++) {
      const tag = Math.floor(page / PAGES_PER_ENTRY);
      const entry = tag % ENTRIES;
      if (this.#tags[entry] !== tag || ((this.#pages[entry] as number) & (1 << (page % PAGES_PER_ENTRY))) === 0) {
        return false;
      }
    }
    return true;
  }

  clear(): void {
    this.#tags.fill(-1);
  }
}

/**
 * Decides which requests run at once on the event loop (1.5 µs when the page cache serves them) and which go to the
 * thread pool (10 to 20 µs, but a slow disk then blocks nothing else: the peer's pings must be answered).
 * Time comes in with each call.
 */
export class IoPolicy {
  readonly #recent: RecentPages = new RecentPages();
  #poolUntilMs = 0;
  #penaltyMs = PENALTY_MS;
  #slowCalls = 0;
  #slowSinceMs = 0;
  #dirtyBytes = 0;
  readonly #dirtyBytesMax: number;
  #flushStartedMs = -1;
  /** Start of the oldest pool request under way, or -1. */
  oldestPoolMs = -1;

  /** @param dirtyBytesMax bytes that may be written without a flush before the kernel may make writers wait */
  constructor(dirtyBytesMax: number = DIRTY_BYTES_MAX) {
    this.#dirtyBytesMax = dirtyBytesMax;
  }

  /** So much is unflushed that a flush should run now. */
  get isDirty(): boolean {
    return this.#dirtyBytes > this.#dirtyBytesMax;
  }

  /** True when a read of this range may run on the event loop: small, surely cached, and the disk is not slow. */
  readNow(offset: number, length: number, nowMs: number): boolean {
    return length <= SYNC_BYTES_MAX && !this.#isSlow(nowMs) && this.#recent.has(offset, length);
  }

  /** True when a write may run on the event loop: small, little is dirty, no flush drags on, and the disk is not slow. */
  writeNow(offset: number, length: number, nowMs: number): boolean {
    if (length > SYNC_BYTES_MAX || this.isDirty || this.#isSlow(nowMs)) return false;
    // a write of part of a page may have to read that page first
    return (offset % PAGE === 0 && length % PAGE === 0) || this.#recent.has(offset, length);
  }

  /** A call on the event loop is over. */
  synchronousRead(offset: number, length: number, startedMs: number, endedMs: number): void {
    if (this.#wasSlow(startedMs, endedMs, SLOW_READ_US + length / 100)) {
      this.#recent.clear(); // the kernel has dropped pages: what is known of them is old
      this.#punish(endedMs);
    } else this.#recent.add(offset, length);
  }

  synchronousWrite(offset: number, length: number, startedMs: number, endedMs: number): void {
    this.wrote(offset, length);
    if (this.#wasSlow(startedMs, endedMs, SLOW_WRITE_US)) this.#punish(endedMs);
    else if (endedMs > this.#poolUntilMs + this.#penaltyMs) this.#penaltyMs = PENALTY_MS;
  }

  /** Data reached the page cache by whatever way. */
  wrote(offset: number, length: number): void {
    this.#dirtyBytes += length;
    this.#recent.add(offset, length);
  }

  read(offset: number, length: number): void {
    this.#recent.add(offset, length);
  }

  flushStarted(nowMs: number): void {
    this.#flushStartedMs = nowMs;
    this.#dirtyBytes = 0;
  }

  flushEnded(): void {
    this.#flushStartedMs = -1;
  }

  #isSlow(nowMs: number): boolean {
    if (nowMs < this.#poolUntilMs) return true;
    return (
      (this.#flushStartedMs >= 0 && nowMs - this.#flushStartedMs > STUCK_MS) ||
      (this.oldestPoolMs >= 0 && nowMs - this.oldestPoolMs > STUCK_MS)
    );
  }

  #wasSlow(startedMs: number, endedMs: number, limitUs: number): boolean {
    const us = (endedMs - startedMs) * 1000;
    if (us <= limitUs) return false;
    if (endedMs - this.#slowSinceMs > SLOW_WINDOW_MS) {
      this.#slowSinceMs = endedMs;
      this.#slowCalls = 0;
    }
    return ++this.#slowCalls >= SLOW_CALLS || us > VERY_SLOW_US;
  }

  #punish(nowMs: number): void {
    this.#poolUntilMs = nowMs + this.#penaltyMs;
    this.#penaltyMs = Math.min(this.#penaltyMs * 2, PENALTY_MAX_MS);
  }
}
