/**
 * Which operations on overlapping blocks must wait for each other. First come, first served per block: an operation waits
 * for every earlier one that it overlaps and conflicts with, and then runs beside everything else.
 */

/** Kinds of operation. */
export const LockKind = {
  /** A write of the application here; held until it is complete on both sides. */
  appWrite: 1,
  /** A write replicated by the peer; held until it is complete here. */
  peerWrite: 2,
  /** A read for the peer's resync; held until the reply is queued behind what was sent before. */
  resyncRead: 4,
  /** Blocks asked for by our own resync, from the request to the reply; keeps the application's writes out. */
  resyncRequest: 8,
  /** A read of the application, here or there: waits, but nobody waits for it. */
  read: 16,
  /**
   * The write of what our own resync asked for; held until it is complete here. It runs under its request, for which the
   * application's later writes wait: it must not wait for those.
   */
  resyncWrite: 32,
  /** A read of our own verify, under its request as well. */
  ownRead: 64,
} as const;
export type LockKind = (typeof LockKind)[keyof typeof LockKind];

const WRITES = LockKind.appWrite | LockKind.peerWrite | LockKind.resyncWrite;
/** For each kind, the earlier kinds that it waits for. */
const WAITS_FOR: Readonly<Record<LockKind, number>> = {
  [LockKind.appWrite]: WRITES | LockKind.resyncRead | LockKind.resyncRequest,
  [LockKind.peerWrite]: WRITES | LockKind.resyncRead | LockKind.ownRead,
  [LockKind.resyncRead]: WRITES,
  [LockKind.resyncRequest]: LockKind.appWrite,
  [LockKind.read]: WRITES,
  [LockKind.resyncWrite]: LockKind.peerWrite | LockKind.resyncRead,
  [LockKind.ownRead]: LockKind.peerWrite | LockKind.resyncWrite,
};

const BUCKET_SECTORS_SHIFT = 9; // 256 KiB: a write of 1 MiB touches at most five buckets

/** Empty buckets that are not thrown away: 1 GiB worth of them. */
const BUCKETS_KEPT = 4096;

/** What holds or waits for a range. The operations of the data path extend it, so that a lock costs no extra object. */
export class BlockLock {
  readonly lockKind: LockKind;
  readonly #granted: (() => void) | undefined;
  readonly start: number;
  /** First sector behind the range. */
  readonly end: number;
  /** Earlier operations that still stand in the way. */
  blockers = 0;
  waiters: BlockLock[] | undefined = undefined;
  held = false;

  /** @param granted for operations that do not extend this class */
  constructor(kind: LockKind, sector: number, sizeBytes: number, granted?: () => void) {
    this.lockKind = kind;
    this.start = sector;
    this.end = sector + (sizeBytes >>> 9);
    this.#granted = granted;
  }

  /** Nothing stands in the way any more. */
  granted(): void {
    this.#granted?.();
  }
}

export class BlockLocks {
  readonly #buckets: Map<number, BlockLock[]> = new Map();
  readonly #later: (fn: () => void) => void;
  size = 0;

  /** @param later runs a function after the present input's own work, so that a release never runs others inside it */
  constructor(later: (fn: () => void) => void) {
    this.#later = later;
  }

  /** Calls `lock.granted` at once, or when the last conflicting earlier operation is released. */
  acquire(lock: BlockLock): void {
    const conflicts = WAITS_FOR[lock.lockKind];
    const first = bucketOf(lock.start);
    const last = bucketOf(Math.max(lock.start, lock.end - 1));
    for (let b = first; b <= last; b++) {
      const bucket = this.#buckets.get(b);
      if (bucket === undefined) continue;
      for (const other of bucket) {
        if ((other.lockKind & conflicts) === 0 || other.end <= lock.start || other.start >= lock.end) continue;
        // an overlap that spans several buckets counts once, in the first of them
        if (b !== Math.max(first, bucketOf(other.start))) continue;
        other.waiters ??= [];
        other.waiters.push(lock);
        lock.blockers++;
      }
    }
    if (lock.lockKind !== LockKind.read) {
      for (let b = first; b <= last; b++) {
        const bucket = this.#buckets.get(b);
        if (bucket === undefined) this.#buckets.set(b, [lock]);
        else bucket.push(lock);
      }
      this.size++;
      lock.held = true;
    }
    if (lock.blockers === 0) lock.granted();
  }

  /** Ends an operation, also one that was never granted; those that waited for it go on later in this input. */
  release(lock: BlockLock): void {
    if (!lock.held) return;
    lock.held = false;
    this.size--;
    const first = bucketOf(lock.start);
    const last = bucketOf(Math.max(lock.start, lock.end - 1));
    for (let b = first; b <= last; b++) {
      const bucket = this.#buckets.get(b) as BlockLock[];
      if (bucket.length > 1) bucket.splice(bucket.indexOf(lock), 1);
      // empty ones stay for the next operation there
      else if (this.#buckets.size > BUCKETS_KEPT) this.#buckets.delete(b);
      else bucket.length = 0;
    }
    const waiters = lock.waiters;
    lock.waiters = undefined;
    if (waiters === undefined) return;
    for (const waiter of waiters) {
      waiter.blockers--;
      if (waiter.blockers === 0) this.#later(() => waiter.granted());
    }
  }
}

function bucketOf(sector: number): number {
  return Math.floor(sector / (1 << BUCKET_SECTORS_SHIFT));
}
