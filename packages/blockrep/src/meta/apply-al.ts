import { assert } from "../base/assert.ts";
import { ErrorCode, HaError } from "../base/errors.ts";
import { AL_EXTENT_SECTORS, BLOCKS_PER_AL_EXTENT, SECTOR_SIZE } from "../base/units.ts";
import { AL_BLOCK_SIZE, AL_EXTENT_FREE, type AlBlock, alBlockPosition, decodeAlBlock } from "./activity-log-block.ts";
import { initialisedAl, type MetaRegion } from "./create.ts";
import { alBlocks, type MetaLayout } from "./layout.ts";
import { encodeSuperblock, MdFlag, type Superblock } from "./superblock.ts";

/** What the activity log said when the node went down. */
export interface AlContents {
  /** Extents that may have been written without the bitmap knowing, ascending. */
  readonly hotExtents: readonly number[];
  /** Blocks with a wrong magic or checksum. */
  readonly damagedBlocks: number;
  /** Every slot is accounted for; false when a damaged block may have named an extent that no later one repeats. */
  readonly complete: boolean;
  /** At least one block is readable. */
  readonly usable: boolean;
}

/**
 * Replays the log from the oldest to the newest readable transaction.
 * One damaged block right behind the newest is a write that the crash tore: nothing was submitted under it.
 * @param area the whole log area
 * @throws HaError HA_META_INVALID for a readable block that contradicts itself
 */
export function readAl(area: Uint8Array, layout: MetaLayout): AlContents {
  const { stripes, stripeSize4k } = layout.al;
  const count = alBlocks(layout.al);
  assert(area.length === count * AL_BLOCK_SIZE, "the whole activity log area");
  const transactions: AlBlock[] = [];
  const damaged: number[] = [];
  let initialised = 0;
  for (let index = 0; index < count; index++) {
    const position = alBlockPosition(index, stripes, stripeSize4k) * AL_BLOCK_SIZE;
    const block = decodeAlBlock(area.subarray(position, position + AL_BLOCK_SIZE));
    if (block === undefined) damaged.push(index);
    else if (block.type === "initialised") initialised++;
    else transactions.push(block);
  }
  const usable = transactions.length + initialised > 0;
  let newest = transactions[0];
  if (newest === undefined) {
    // at most the very first transaction since the log was initialised is torn
    return { hotExtents: [], damagedBlocks: damaged.length, complete: usable && damaged.length <= 1, usable };
  }
  for (const t of transactions) if (age(t.trNumber, newest.trNumber) > 0) newest = t;
  const last = newest.trNumber;
  transactions.sort((a, b) => age(a.trNumber, last) - age(b.trNumber, last));

  const torn = ((last + 1) >>> 0) % count;
  // a ring that has not wrapped since it was initialised began with free slots
  const fromStart = initialised > 0 && damaged.every((index) => index === torn);
  const { slots, known } = replay(transactions, fromStart);
  const hot = new Set<number>();
  let complete = true;
  for (let slot = 0; slot < newest.contextSize; slot++) {
    if (known[slot] !== 1) complete = false;
    const extent = slots[slot] as number;
    if (extent !== AL_EXTENT_FREE) hot.add(extent);
  }
  const hotExtents = [...hot].sort((a, b) => a - b);
  return { hotExtents, damagedBlocks: damaged.length, complete, usable };
}

/** How much later `a` is than `b`; the numbers wrap at 32 bits. */
function age(a: number, b: number): number {
  return (a - b) | 0;
}

/** Slots after all transactions, and which of them are sure in spite of gaps in the numbers. */
function replay(transactions: readonly AlBlock[], fromStart: boolean): { slots: Uint32Array; known: Uint8Array } {
  const size = Math.max(...transactions.map((t) => t.contextSize));
  const slots = new Uint32Array(size).fill(AL_EXTENT_FREE);
  const known = new Uint8Array(size).fill(fromStart ? 1 : 0);
  let previous: AlBlock | undefined;
  for (const t of transactions) {
    if (previous !== undefined && age(t.trNumber, previous.trNumber) !== 1) known.fill(0);
    for (const [i, extent] of t.context.entries()) {
      slots[t.contextStart + i] = extent;
      known[t.contextStart + i] = 1;
    }
    for (const { slot, extent } of t.updates) {
      slots[slot] = extent;
      known[slot] = 1;
    }
    previous = t;
  }
  return { slots, known };
}

/** What apply-al has to write. */
export interface AlRecovery {
  /** Extents whose bits are set; empty unless the node was Primary. */
  readonly extents: readonly number[];
  readonly damagedBlocks: number;
  /** Pieces of the bitmap first, flushed; then log and superblock. */
  readonly bitmapRegions: readonly MetaRegion[];
  readonly regions: readonly MetaRegion[];
  readonly superblock: Superblock;
}

/**
 * Recovery before an attach: the blocks that a crashed Primary may have written become out of sync, the log is
 * initialised, the metadata are clean. The primary indicator stays: the attach turns it into "crashed primary".
 * Clean metadata give the same result again.
 * @throws HaError HA_META_INVALID when a Primary's log is unreadable or has gaps: the bitmap cannot be trusted then
 * @see DRBD 8.4 drbdmeta apply-al
 */
export function recoverAl(superblock: Superblock, area: Uint8Array, layout: MetaLayout): AlRecovery {
  const clean = superblock.clean && (superblock.flags & MdFlag.alClean) !== 0;
  const wasPrimary = (superblock.flags & MdFlag.primaryIndicator) !== 0;
  const unused = clean || !wasPrimary || (superblock.flags & MdFlag.alDisabled) !== 0;
  let contents: AlContents = { hotExtents: [], damagedBlocks: 0, complete: true, usable: true };
  if (!unused) {
    contents = readAl(area, layout);
    if (!contents.usable) {
      throw new HaError(
        ErrorCode.metaInvalid,
        "No usable activity log found, and this node was Primary: which blocks it wrote last is unknown; run create-md and a full sync from the peer",
        { damagedBlocks: contents.damagedBlocks },
      );
    }
    if (!contents.complete) {
      throw new HaError(
        ErrorCode.metaInvalid,
        `the activity log has ${contents.damagedBlocks} damaged blocks and this node was Primary: which blocks it wrote last is unknown; run create-md and a full sync from the peer`,
        { damagedBlocks: contents.damagedBlocks },
      );
    }
  }
  const extents = contents.hotExtents.filter((e) => e * AL_EXTENT_SECTORS < superblock.laSizeSectors);
  const recovered: Superblock = { ...superblock, clean: true, flags: superblock.flags | MdFlag.alClean };
  return {
    extents,
    damagedBlocks: contents.damagedBlocks,
    bitmapRegions: bitmapRegionsOf(extents, layout),
    regions: [
      ...initialisedAl(layout),
      { offset: layout.superblockSector * SECTOR_SIZE, bytes: encodeSuperblock(recovered) },
    ],
    superblock: recovered,
  };
}

const BITMAP_BYTES_PER_EXTENT: number = BLOCKS_PER_AL_EXTENT / 8;

/** The bytes of all ones for each run of neighbouring extents. */
function bitmapRegionsOf(extents: readonly number[], layout: MetaLayout): MetaRegion[] {
  const regions: MetaRegion[] = [];
  const start = layout.bitmapSector * SECTOR_SIZE;
  for (let i = 0; i < extents.length; ) {
    const first = extents[i] as number;
    let end = i + 1;
    while (end < extents.length && extents[end] === first + (end - i)) end++;
    const bytes = new Uint8Array((end - i) * BITMAP_BYTES_PER_EXTENT).fill(0xff);
    regions.push({ offset: start + first * BITMAP_BYTES_PER_EXTENT, bytes });
    i = end;
  }
  return regions;
}
