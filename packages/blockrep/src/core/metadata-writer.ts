import { assert } from "../base/assert.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import { AL_BLOCK_SIZE, AL_INITIALISED, encodeAlBlock } from "../meta/activity-log-block.ts";
import { alBlocks, type MetaLayout } from "../meta/layout.ts";
import { encodeSuperblock, MdFlag, type Superblock } from "../meta/superblock.ts";
import { BITMAP_PAGE_BYTES } from "./bitmap.ts";
import type { Volume } from "./volume.ts";

type Done = (errno: number) => void;

interface PageBatch {
  readonly pages: readonly number[] | undefined;
  readonly done: () => void;
}

/**
 * Writes superblock and bitmap of one volume. Never two writes to the same place at a time: superblocks are written one
 * after the other and merge, bitmap pages go out in batches of which one runs. Any failure here is a failed disk.
 */
export class MetadataWriter {
  readonly #v: Volume;
  #layout: MetaLayout | undefined;
  /** Fields that do not come from the volume's own state. */
  #base: Superblock | undefined;
  #superblockRunning = false;
  #superblockWaiting: Done[] = [];
  #clean = false;
  #batches: PageBatch[] = [];
  #batchRunning = false;
  #generation = 0;
  pageWrites = 0;

  constructor(volume: Volume) {
    this.#v = volume;
  }

  open(layout: MetaLayout, superblock: Superblock): void {
    this.#generation++;
    this.#layout = layout;
    this.#base = superblock;
    this.#clean = false;
    this.#superblockRunning = false;
    this.#superblockWaiting = [];
    this.#batches = [];
    this.#batchRunning = false;
  }

  /** The disk was given up: whoever waits is told at once. */
  close(): void {
    this.#generation++;
    this.#layout = undefined;
    const waiting = this.#superblockWaiting;
    const batches = this.#batches;
    this.#superblockWaiting = [];
    this.#batches = [];
    this.#superblockRunning = this.#batchRunning = false;
    for (const done of waiting) this.#v.ctx.later(() => done(5));
    for (const batch of batches) this.#v.ctx.later(batch.done);
  }

  get layout(): MetaLayout {
    assert(this.#layout !== undefined, "no metadata without a disk");
    return this.#layout;
  }

  /** One piece of metadata; a failure is the disk's. */
  write(byteOffset: number, bytes: Uint8Array, done: () => void): void {
    const generation = this.#generation;
    this.#v.disk.writeMeta(byteOffset, bytes, (errno) => {
      if (errno !== 0 && generation === this.#generation) this.#v.metadataError("metadata write", errno);
      done();
    });
  }

  /**
   * Makes the superblock durable as the volume is now; without a disk there is nothing to do and it is done at once.
   * Calls that arrive during a write share the next one.
   */
  sync(done: Done): void {
    if (this.#layout === undefined) {
      this.#v.ctx.later(() => done(0));
      return;
    }
    this.#superblockWaiting.push(done);
    if (!this.#superblockRunning) this.#writeSuperblock();
  }

  #writeSuperblock(): void {
    const v = this.#v;
    const base = this.#base as Superblock;
    const generation = this.#generation;
    const batch = this.#superblockWaiting;
    this.#superblockWaiting = [];
    this.#superblockRunning = true;
    const flags = (v.flags & ~MdFlag.alClean) | (this.#clean ? MdFlag.alClean : 0);
    const superblock: Superblock = {
      ...base,
      clean: this.#clean,
      laSizeSectors: v.sizeSectors,
      uuids: v.uuids,
      flags,
      alExtents: v.activity.slots === 0 ? base.alExtents : v.activity.slots,
      laPeerMaxBioSize: v.peerMaxBioBytes,
    };
    const finish = (errno: number): void => {
      if (generation === this.#generation) {
        this.#superblockRunning = false;
        if (this.#superblockWaiting.length > 0) this.#writeSuperblock();
      }
      for (const done of batch) done(errno);
    };
    v.disk.writeMeta(this.layout.superblockSector * SECTOR_SIZE, encodeSuperblock(superblock), (errno) => {
      if (errno !== 0) {
        if (generation === this.#generation) v.metadataError("superblock write", errno);
        finish(errno);
      } else {
        v.disk.flushMeta(finish);
      }
    });
  }

  /** Writes those of the pages whose copy on disk is older; all such pages when left out. Not flushed. */
  writePages(pages: readonly number[] | undefined, done: () => void): void {
    if (this.#layout === undefined) {
      this.#v.ctx.later(done);
      return;
    }
    this.#batches.push({ pages, done });
    if (!this.#batchRunning) this.#runBatch();
  }

  #runBatch(): void {
    const batch = this.#batches.shift();
    if (batch === undefined) return;
    const v = this.#v;
    const { bitmap } = v;
    const generation = this.#generation;
    this.#batchRunning = true;
    let open = 1;
    const finish = (): void => {
      if (--open > 0) return;
      if (generation === this.#generation) this.#batchRunning = false;
      batch.done();
      if (generation === this.#generation && !this.#batchRunning) this.#runBatch();
    };
    const writeOne = (page: number): void => {
      open++;
      this.pageWrites++;
      const bytes = new Uint8Array(BITMAP_PAGE_BYTES);
      bitmap.takePage(page, bytes);
      if (v.ctx.mutations.skipBitmapWrite === true) v.ctx.later(finish);
      else this.write(this.layout.bitmapSector * SECTOR_SIZE + page * BITMAP_PAGE_BYTES, bytes, finish);
    };
    if (batch.pages === undefined) {
      for (let page = bitmap.nextDirtyPage(0); page !== -1; page = bitmap.nextDirtyPage(page + 1)) writeOne(page);
    } else {
      for (const page of batch.pages) if (page < bitmap.pages && bitmap.isPageDirty(page)) writeOne(page);
    }
    v.ctx.later(finish);
  }

  /** All changed pages, durable. */
  syncBitmap(done: Done): void {
    this.writePages(undefined, () => this.#v.disk.flushMeta(done));
  }

  /** Leaves metadata as apply-al does: everything durable, the activity log empty, the superblock marked clean. */
  closeCleanly(done: Done): void {
    const v = this.#v;
    v.flushAll((first) => {
      if (first !== 0) return done(first);
      this.syncBitmap((second) => {
        if (second !== 0 || this.#layout === undefined) return done(second);
        this.#initialiseLog(this.layout, (third) => {
          if (third !== 0) return done(third);
          this.#clean = true;
          this.sync(done);
        });
      });
    });
  }

  #initialiseLog(layout: MetaLayout, done: Done): void {
    let open = alBlocks(layout.al);
    for (let i = 0; i < alBlocks(layout.al); i++) {
      this.write(layout.alSector * SECTOR_SIZE + i * AL_BLOCK_SIZE, encodeAlBlock(AL_INITIALISED), () => {
        if (--open === 0) this.#v.disk.flushMeta(done);
      });
    }
  }
}
