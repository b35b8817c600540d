import { SECTOR_SIZE } from "../base/units.ts";
import { AL_BLOCK_SIZE, alBlockPosition, encodeAlBlock } from "../meta/activity-log-block.ts";
import { ActivityLog, type AlTransaction } from "./activity-log.ts";
import { BITMAP_PAGE_BITS } from "./bitmap.ts";
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
 */
export class Activity {
  readonly #v: Volume;
  #log: ActivityLog | undefined;
  #waiting: Waiting[] = [];
  #prepared: Waiting[] = [];
  /** The first waiting write found no slot; later ones must not take the slots that become free before it. */
  #starved = false;
  #pumping = false;
  transactions = 0;

  constructor(volume: Volume) {
    this.#v = volume;
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
  }

  hotExtents(): number[] {
    return this.#log?.hotExtents() ?? [];
  }

  get slots(): number {
    return this.#log?.slots ?? 0;
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
        break;
      }
      this.#waiting.shift();
      this.#prepared.push(head);
    }
    const transaction = log.begin();
    if (transaction !== undefined) this.#evict(log, transaction);
  }

  #evict(log: ActivityLog, transaction: AlTransaction): void {
    const v = this.#v;
    if (transaction.evicted.length === 0) {
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
