import { assert } from "../base/assert.ts";
import { AL_EXTENT_SECTORS } from "../base/units.ts";
import {
  AL_CONTEXT_MAX,
  AL_EXTENT_FREE,
  AL_EXTENTS_MIN,
  AL_UPDATES_MAX,
  type AlBlock,
  type AlUpdate,
  alExtentsLimit,
} from "../meta/activity-log-block.ts";

/** Extent that a sector lies in. */
export function extentOfSector(sector: number): number {
  return Math.floor(sector / AL_EXTENT_SECTORS);
}

/** One change of the log, to be made durable before the writes that wait for it. */
export interface AlTransaction {
  /** To be encoded and written, with a flush before and after, at `alBlockPosition(block.trNumber, ...)`. */
  readonly block: AlBlock;
  /** Extents that leave the log: their data must be durable and their dirty bitmap pages written first. */
  readonly evicted: readonly number[];
}

/**
 * `prepared`: references are taken, the write goes on after the commit of the transaction being collected.
 * `busy`: a transaction is being written; ask again after its commit.
 * `full`: too few slots without references, or 64 changes are collected; ask again after a commit or a release.
 */
export type AlPrepare = "prepared" | "busy" | "full";

const NONE = -1;

/**
 * Which 4 MiB extents may be written without a word to the disk first. After a crash all blocks of these "hot" extents
 * count as out of sync, so an extent enters (by a durable transaction) before the first write to it is submitted and
 * leaves only without references, when another one needs its slot or when nobody has used it for a while.
 *
 * ```text
 * tryAcquire ──true──────────────────────────────▶ write … release
 *    └─false─▶ prepare ─"prepared"─▶ begin ▶ (evicted pages, block) ▶ commit ▶ write … release
 *                 └─"busy"/"full"─▶ wait for commit or release, again from tryAcquire
 * ```
 *
 * Waiting requests belong to the caller, in the order of their arrival. Nothing here allocates when an extent is hot.
 * @see DRBD 8.4 drbd_actlog.c
 */
export class ActivityLog {
  readonly slots: number;
  /** Extent held by each slot in the durable log or, while `#pending`, in the transaction being made. */
  readonly #extents: Uint32Array;
  readonly #references: Uint32Array;
  readonly #pending: Uint8Array;
  /** Slots that hold an extent without references, least recently used first; linked by slot number. */
  readonly #newer: Int32Array;
  readonly #older: Int32Array;
  /** Age (see `grow`) at which each slot of that list was used last. */
  readonly #idleSince: Uint32Array;
  #age = 0;
  #lruOldest = NONE;
  #lruNewest = NONE;
  #lruLength = 0;
  readonly #free: number[] = [];
  readonly #slotOf = new Map<number, number>();

  #updates: AlUpdate[] = [];
  /** What the slots of `#updates` held before; AL_EXTENT_FREE for an empty one. */
  #replaced: number[] = [];
  #inFlight: AlTransaction | undefined;
  #trNumber: number;
  #contextStart = 0;

  /**
   * @param slots `al-extents`; clipped to what `blocks` can describe
   * @param blocks 4 KiB blocks of the log area (al-stripes times al-stripe-size-4k)
   * @param trNumber number of the first transaction
   */
  constructor(slots: number, blocks: number, trNumber: number = 0) {
    const usable = Math.min(slots, alExtentsLimit(blocks));
    assert(usable >= AL_EXTENTS_MIN, `an activity log needs ${AL_EXTENTS_MIN} slots`);
    this.slots = usable;
    this.#trNumber = trNumber >>> 0;
    this.#extents = new Uint32Array(usable).fill(AL_EXTENT_FREE);
    this.#references = new Uint32Array(usable);
    this.#pending = new Uint8Array(usable);
    this.#newer = new Int32Array(usable).fill(NONE);
    this.#older = new Int32Array(usable).fill(NONE);
    this.#idleSince = new Uint32Array(usable);
    for (let slot = 0; slot < usable; slot++) this.#free.push(slot); // taken from the end, as DRBD does
  }

  /** Number of the next transaction. */
  get trNumber(): number {
    return this.#trNumber;
  }

  /** Slots in use, those of an uncommitted transaction included. */
  get used(): number {
    return this.slots - this.#free.length;
  }

  /** A transaction is begun and neither committed nor aborted. */
  get inFlight(): boolean {
    return this.#inFlight !== undefined;
  }

  /** Changes collected for the next transaction. */
  get collected(): number {
    return this.#inFlight === undefined ? this.#updates.length : 0;
  }

  /** Whether the durable log holds the extent. */
  isHot(extent: number): boolean {
    const slot = this.#slotOf.get(extent);
    return slot !== undefined && this.#pending[slot] === 0;
  }

  /** Writes that reference the extent now. */
  references(extent: number): number {
    const slot = this.#slotOf.get(extent);
    return slot === undefined ? 0 : (this.#references[slot] as number);
  }

  /** Extents of the durable log, in the order of their slots. */
  hotExtents(): number[] {
    const out: number[] = [];
    for (let slot = 0; slot < this.slots; slot++) {
      if (this.#extents[slot] !== AL_EXTENT_FREE && this.#pending[slot] === 0) out.push(this.#extents[slot] as number);
    }
    return out;
  }

  /** Takes a reference on each of the extents first..last if all are hot; otherwise on none. */
  tryAcquire(first: number, last: number): boolean {
    for (let extent = first; extent <= last; extent++) if (!this.isHot(extent)) return false;
    for (let extent = first; extent <= last; extent++) this.#reference(this.#slotOf.get(extent) as number);
    return true;
  }

  /**
   * Puts the cold ones of the extents first..last into the transaction being collected and takes a reference on each;
   * all or nothing. The write may start when that transaction is committed (at once, if all were hot).
   */
  prepare(first: number, last: number): AlPrepare {
    if (this.#inFlight !== undefined) return "busy";
    assert(last - first < AL_UPDATES_MAX, "one request fits into one transaction");
    let cold = 0;
    let idle = 0; // slots of this request that must not serve as victims
    for (let extent = first; extent <= last; extent++) {
      const slot = this.#slotOf.get(extent);
      if (slot === undefined) cold++;
      else if (this.#references[slot] === 0) idle++;
    }
    if (this.#updates.length + cold > AL_UPDATES_MAX) return "full";
    if (this.#free.length + this.#lruLength - idle < cold) return "full";
    for (let extent = first; extent <= last; extent++) {
      const slot = this.#slotOf.get(extent);
      if (slot !== undefined) this.#reference(slot);
    }
    for (let extent = first; extent <= last; extent++) {
      if (!this.#slotOf.has(extent)) this.#collect(extent);
    }
    return "prepared";
  }

  /** A period is over; `collectIdle` counts in these. */
  grow(): void {
    this.#age++;
  }

  /**
   * Puts extents that nobody used for `periods` into the transaction being collected, to leave the log without another
   * one taking their place: what is not being written need not be copied after a crash.
   * @returns whether any were found
   */
  collectIdle(periods: number): boolean {
    if (this.#inFlight !== undefined) return false;
    let found = false;
    while (this.#lruOldest !== NONE && this.#updates.length < AL_UPDATES_MAX) {
      const slot = this.#lruOldest;
      if (this.#age - (this.#idleSince[slot] as number) < periods) break;
      const extent = this.#extents[slot] as number;
      this.#unlink(slot);
      this.#slotOf.delete(extent);
      this.#replaced.push(extent);
      this.#updates.push({ slot, extent: AL_EXTENT_FREE });
      this.#extents[slot] = AL_EXTENT_FREE;
      this.#pending[slot] = 1;
      found = true;
    }
    return found;
  }

  #collect(extent: number): void {
    let slot = this.#free.pop();
    if (slot === undefined) {
      slot = this.#lruOldest;
      this.#unlink(slot);
      this.#slotOf.delete(this.#extents[slot] as number);
    }
    this.#replaced.push(this.#extents[slot] as number);
    this.#updates.push({ slot, extent });
    this.#extents[slot] = extent;
    this.#pending[slot] = 1;
    this.#references[slot] = 1;
    this.#slotOf.set(extent, slot);
  }

  /**
   * Closes the transaction being collected; until `commit` or `abort` nothing else can be prepared.
   * @param always also without changes: the first attach fills the ring with such transactions
   * @returns undefined when nothing is collected
   */
  begin(always: boolean = false): AlTransaction | undefined {
    assert(this.#inFlight === undefined, "one activity-log transaction at a time");
    if (this.#updates.length === 0 && !always) return undefined;
    const context = this.#extents.slice(this.#contextStart, this.#contextStart + AL_CONTEXT_MAX);
    const evicted: number[] = [];
    // backwards: where a slot changed twice, the context shows what it held before both
    for (let i = this.#updates.length - 1; i >= 0; i--) {
      const index = (this.#updates[i] as AlUpdate).slot - this.#contextStart;
      const before = this.#replaced[i] as number;
      if (index >= 0 && index < context.length) context[index] = before;
      if (before !== AL_EXTENT_FREE) evicted.push(before);
    }
    this.#inFlight = {
      block: {
        type: "update",
        trNumber: this.#trNumber,
        updates: this.#updates,
        contextSize: this.slots,
        contextStart: this.#contextStart,
        context,
      },
      evicted,
    };
    return this.#inFlight;
  }

  /** The transaction is durable: its extents are hot, the writes that prepared it may start. */
  commit(): void {
    assert(this.#inFlight !== undefined, "no activity-log transaction to commit");
    for (const { slot, extent } of this.#updates) {
      this.#pending[slot] = 0;
      if (extent === AL_EXTENT_FREE) this.#free.push(slot);
    }
    this.#forgetTransaction();
    this.#trNumber = (this.#trNumber + 1) >>> 0;
    this.#contextStart += AL_CONTEXT_MAX;
    if (this.#contextStart >= this.slots) this.#contextStart = 0;
  }

  /**
   * The transaction could not be written (the disk has failed): its extents are cold again, with all references that
   * `prepare` took on them; the evicted ones are back. References on extents that were hot before stay.
   */
  abort(): void {
    assert(this.#inFlight !== undefined, "no activity-log transaction to abort");
    for (let i = this.#updates.length - 1; i >= 0; i--) {
      const { slot, extent } = this.#updates[i] as AlUpdate;
      const before = this.#replaced[i] as number;
      if (extent !== AL_EXTENT_FREE) {
        this.#slotOf.delete(extent);
        if (this.#references[slot] === 0) this.#unlink(slot);
        this.#references[slot] = 0;
      }
      this.#pending[slot] = 0;
      this.#extents[slot] = before;
      if (before === AL_EXTENT_FREE) {
        this.#free.push(slot);
      } else {
        this.#slotOf.set(before, slot);
        this.#link(slot);
      }
    }
    this.#forgetTransaction();
  }

  #forgetTransaction(): void {
    this.#updates = [];
    this.#replaced = [];
    this.#inFlight = undefined;
  }

  /**
   * Gives back one reference on each of the extents first..last: the write is complete here and acknowledged by the
   * peer's barrier. @returns whether a slot became free for others, so that a waiting request may succeed
   */
  release(first: number, last: number): boolean {
    let idle = false;
    for (let extent = first; extent <= last; extent++) {
      const slot = this.#slotOf.get(extent);
      assert(slot !== undefined && (this.#references[slot] as number) > 0, `extent ${extent} is not referenced`);
      const left = (this.#references[slot] as number) - 1;
      this.#references[slot] = left;
      if (left > 0) continue;
      this.#link(slot);
      idle = true;
    }
    return idle;
  }

  /** Forgets everything, without references: the log on disk has been initialised anew. */
  reset(trNumber: number = 0): void {
    assert(this.#inFlight === undefined && this.#updates.length === 0, "an activity-log transaction is open");
    assert(this.#lruLength === this.used, "an extent is still referenced");
    this.#extents.fill(AL_EXTENT_FREE);
    this.#newer.fill(NONE);
    this.#older.fill(NONE);
    this.#slotOf.clear();
    this.#lruOldest = NONE;
    this.#lruNewest = NONE;
    this.#lruLength = 0;
    this.#free.length = 0;
    for (let slot = 0; slot < this.slots; slot++) this.#free.push(slot);
    this.#trNumber = trNumber >>> 0;
    this.#contextStart = 0;
  }

  #reference(slot: number): void {
    if (this.#references[slot] === 0) this.#unlink(slot);
    this.#references[slot] = (this.#references[slot] as number) + 1;
  }

  #link(slot: number): void {
    this.#idleSince[slot] = this.#age;
    this.#older[slot] = this.#lruNewest;
    this.#newer[slot] = NONE;
    if (this.#lruNewest === NONE) this.#lruOldest = slot;
    else this.#newer[this.#lruNewest] = slot;
    this.#lruNewest = slot;
    this.#lruLength++;
  }

  #unlink(slot: number): void {
    const older = this.#older[slot] as number;
    const newer = this.#newer[slot] as number;
    if (older === NONE) this.#lruOldest = newer;
    else this.#newer[older] = newer;
    if (newer === NONE) this.#lruNewest = older;
    else this.#older[newer] = older;
    this.#lruLength--;
  }
}
