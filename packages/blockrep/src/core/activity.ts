import { SECTOR_SIZE } from "../base/units.ts";
import { AL_BLOCK_SIZE, alBlockPosition, encodeAlBlock } from "../meta/activity-log-block.ts";
import { ActivityLog, type AlTransaction } from "./activity-log.ts";
import { BITMAP_PAGE_BITS } from "./bitmap.ts";
import { AL_IDLE_PERIOD_MS, AL_IDLE_PERIODS } from "./limits.ts";
import type { Volume } from "./volume.ts";

interface Waiting {
  readonly first: number;
  readonly last: number;
  readonly granted: (ok: boolean) => void;
}

const EXTENTS_PER_PAGE: number = BITMAP_PAGE_BITS / 1024;

/**
 * Gives writes their references in the activity log, and makes its transactions durable: data and bitmap pages of the
 * evicted extents first, then the log block, then the writes that waited. Writes that arrive meanwhile share the next one.
 *
 * Unlike DRBD it also lets extents go that nobody has written for a while, so that a crashed Primary copies back what it was
 * working on and not all it ever touched. On disk that is an ordinary transaction whose updates say "free".
 */
export class Activity {
  readonly #v: Volume;
  #log: ActivityLog | undefined;
  #waiting: Waiting[] = [];
  #prepared: Waiting[] = [];
  /** The first waiting write found no slot; later ones must not take the slots that become free before it. */
  #starved = false;
  #pumping = false;
  /** Told when the log is empty, or cannot become it. */
  #emptied: (() => void)[] = [];
  #nextPeriodMs = 0;
  transactions = 0;

  constructor(volume: Volume) {
    this.#v = volume;
  }

  /** Writes wait for references that only the peer's barrier acks give back. */
  get starved(): boolean {
    return this.#starved;
  }

  /** A disk was attached whose log is initialised. */
  open(slots: number, blocks: number): void {
    this.#log = new ActivityLog(slots, blocks);
  }

  /** The disk is gone; nobody waits for its log any more. */
  close(): void {
    this.#log = undefined;
    const waiting = [...this.#prepared, ...this.#waiting];
    this.#prepared = [];
    this.#waiting = [];
    this.#starved = false;
    for (const one of waiting) this.#v.ctx.later(() => one.granted(false));
    this.#tellEmptied();
  }

  nextDeadlineMs(): number {
    return this.#log === undefined || this.#log.used === 0 ? Number.POSITIVE_INFINITY : this.#nextPeriodMs;
  }

  /** Extents that were idle for a while leave the log, one transaction at a time. */
  tick(nowMs: number): void {
    const log = this.#log;
    if (log === undefined || nowMs < this.#nextPeriodMs) return;
    this.#nextPeriodMs = nowMs + AL_IDLE_PERIOD_MS;
    log.grow();
    if (log.used > 0) this.#pumpLater();
  }

  /**
   * Empties the log: whatever is written from now on begins cold. Call it when no write is under way.
   * @param done called also when the disk fails meanwhile
   */
  empty(done: () => void): void {
    const log = this.#log;
    if (log === undefined || (log.used === 0 && !log.inFlight)) {
      done();
      return;
    }
    this.#emptied.push(done);
    this.#pumpLater();
  }

  hotExtents(): number[] {
    return this.#log?.hotExtents() ?? [];
  }

  get slots(): number {
    return this.#log?.slots ?? 0;
  }

  /** References for extents that are hot; false: `begin` has to wait for them, or there is no disk. */
  tryBegin(first: number, last: number): boolean {
    return this.#log !== undefined && !this.#starved && this.#log.tryAcquire(first, last);
  }

  /** References for the extents first..last; `granted(false)` when there is no disk (any more). */
  begin(first: number, last: number, granted: (ok: boolean) => void): void {
    const log = this.#log;
    if (log === undefined) {
      granted(false);
      return;
    }
    if (!this.#starved && log.tryAcquire(first, last)) {
      granted(true);
      return;
    }
    this.#waiting.push({ first, last, granted });
    this.#pumpLater();
  }

  end(first: number, last: number): void {
    const log = this.#log;
    if (log === undefined || log.references(first) === 0) return; // the disk was given up in between
    if (log.release(first, last) && this.#waiting.length > 0) this.#pumpLater();
  }

  #pumpLater(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    this.#v.ctx.later(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    const log = this.#log;
    if (log === undefined || log.inFlight) return;
    this.#starved = false;
    while (this.#waiting.length > 0) {
      const head = this.#waiting[0] as Waiting;
      if (log.tryAcquire(head.first, head.last)) {
        this.#waiting.shift();
        this.#v.ctx.later(() => head.granted(true));
        continue;
      }
      if (log.prepare(head.first, head.last) !== "prepared") {
        this.#starved = true;
        this.#v.writes.hurry();
        break;
      }
      this.#waiting.shift();
      this.#prepared.push(head);
    }
    // those that wait for a slot come first; idle extents leave when there is nothing else to write
    const emptying = this.#emptied.length > 0;
    if (this.#prepared.length === 0) log.collectIdle(emptying ? 0 : AL_IDLE_PERIODS);
    const transaction = log.begin();
    if (transaction !== undefined) this.#evict(log, transaction);
    else if (emptying) this.#tellEmptied();
  }

  #tellEmptied(): void {
    const emptied = this.#emptied;
    this.#emptied = [];
    for (const done of emptied) this.#v.ctx.later(done);
  }

  #evict(log: ActivityLog, transaction: AlTransaction): void {
    const v = this.#v;
    if (transaction.evicted.length === 0 || v.ctx.mutations.skipEvictionFlush === true) {
      this.#writeBlock(log, transaction);
      return;
    }
    const pages = new Set(transaction.evicted.map((extent) => Math.floor(extent / EXTENTS_PER_PAGE)));
    v.meta.writePages(
      [...pages].sort((a, b) => a - b),
      () => {
        if (log !== this.#log) return;
        if (v.ctx.mutations.skipEvictionFlush === true) {
          this.#writeBlock(log, transaction);
          return;
        }
        v.flushAll((errno) => {
          if (errno === 0 && log === this.#log) this.#writeBlock(log, transaction);
        });
      },
    );
  }

  #writeBlock(log: ActivityLog, transaction: AlTransaction): void {
    const v = this.#v;
    const { al, alSector } = v.meta.layout;
    const position = alBlockPosition(transaction.block.trNumber, al.stripes, al.stripeSize4k);
    this.transactions++;
    v.meta.write(alSector * SECTOR_SIZE + position * AL_BLOCK_SIZE, encodeAlBlock(transaction.block), () => {
      if (log !== this.#log) return;
      if (v.ctx.mutations.skipActivityLogFlush === true) this.#commit(log);
      else {
        v.disk.flushMeta((errno) => {
          if (errno === 0 && log === this.#log) this.#commit(log);
        });
      }
    });
  }

  #commit(log: ActivityLog): void {
    log.commit();
    const prepared = this.#prepared;
    this.#prepared = [];
    for (const one of prepared) one.granted(true);
    this.#pumpLater();
  }
}
