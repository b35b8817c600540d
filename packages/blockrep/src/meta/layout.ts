import { assert } from "../base/assert.ts";
import { ErrorCode, HaError } from "../base/errors.ts";
import { alignDown, alignUp, SECTOR_SIZE, SECTORS_PER_BLOCK } from "../base/units.ts";
import { alExtentsLimit } from "./activity-log-block.ts";

/**
 * Where the metadata lies. `internal`: at the end of the data device. `flexible`: on a device of its own, from its
 * start. A number: a slot of 128 MiB on a device that several volumes use for their metadata.
 */
export type MetaPlacement = "internal" | "flexible" | { readonly index: number };

/** Size and spread of the activity log; 1 stripe of 8 blocks is DRBD's default of 32 KiB. */
export interface AlGeometry {
  readonly stripes: number;
  readonly stripeSize4k: number;
}

export const AL_GEOMETRY_DEFAULT: AlGeometry = { stripes: 1, stripeSize4k: 8 };
/** Bounds of the activity log area, in 4 KiB blocks: 32 KiB to 16 GiB. */
export const AL_BLOCKS_MIN = 8;
export const AL_BLOCKS_MAX: number = 4 * 1024 * 1024;

export const SUPERBLOCK_SIZE = 4096;
export const SUPERBLOCK_SECTORS: number = SUPERBLOCK_SIZE / SECTOR_SIZE;
/** One slot of an indexed metadata device. */
export const INDEXED_SLOT_SECTORS = 262144;
/** Bitmap sectors per device sector: one 512-byte sector of bitmap covers 16 MiB. */
const DATA_SECTORS_PER_BITMAP_SECTOR: number = SECTOR_SIZE * 8 * SECTORS_PER_BLOCK;
/** Smallest device that can hold metadata. */
export const DEVICE_SIZE_MIN: number = 1024 * 1024;

/** All positions are in sectors from the start of the device that holds the metadata. */
export interface MetaLayout {
  readonly placement: MetaPlacement;
  readonly al: AlGeometry;
  /** Value of the superblock's field; internal: bitmap, log and superblock; flexible: the whole device. */
  readonly mdSizeSectors: number;
  readonly superblockSector: number;
  readonly alSector: number;
  readonly bitmapSector: number;
  /** Room for the bitmap. */
  readonly bitmapSectors: number;
  /** Relative to the superblock, as its fields say. */
  readonly alOffset: number;
  readonly bmOffset: number;
  /** Largest usable device: what is left of an internal one, or what the bitmap area can describe. */
  readonly dataSectorsMax: number;
}

export function alBlocks(al: AlGeometry): number {
  return al.stripes * al.stripeSize4k;
}

/** Slots that an activity log of this size can have; `al-extents` above it is clipped. */
export function alSlotsMax(al: AlGeometry): number {
  return alExtentsLimit(alBlocks(al));
}

/**
 * Positions of all parts of the metadata.
 * @param metaSectors size of the device that holds the metadata (internal: the data device), in sectors
 * @param dataSectors size of the backing device; the same one for internal metadata
 * @throws HaError HA_STORE_TOO_SMALL when they do not fit; HA_META_INVALID for an impossible activity log
 * @see DRBD 8.4 drbd_nl.c drbd_md_set_sector_offsets; drbdmeta
 */
export function layoutFor(
  placement: MetaPlacement,
  metaSectors: number,
  dataSectors: number = metaSectors,
  al: AlGeometry = AL_GEOMETRY_DEFAULT,
): MetaLayout {
  checkGeometry(al);
  assert(Number.isSafeInteger(metaSectors) && Number.isSafeInteger(dataSectors), "device sizes in whole sectors");
  if (metaSectors * SECTOR_SIZE < DEVICE_SIZE_MIN) {
    throw tooSmall(metaSectors, DEVICE_SIZE_MIN / SECTOR_SIZE, "no device below 1 MiB can hold metadata");
  }
  const alSectors = alBlocks(al) * SECTORS_PER_BLOCK;
  if (placement === "internal") return internalLayout(metaSectors, al, alSectors);
  return externalLayout(placement, metaSectors, dataSectors, al, alSectors);
}

function internalLayout(sectors: number, al: AlGeometry, alSectors: number): MetaLayout {
  const bitmapSectors = alignUp(Math.ceil(sectors / DATA_SECTORS_PER_BITMAP_SECTOR), SECTORS_PER_BLOCK);
  const mdSizeSectors = bitmapSectors + SUPERBLOCK_SECTORS + alSectors;
  const superblockSector = alignDown(sectors, SECTORS_PER_BLOCK) - SUPERBLOCK_SECTORS;
  const bmOffset = -mdSizeSectors + SUPERBLOCK_SECTORS;
  const bitmapSector = superblockSector + bmOffset;
  if (bitmapSector < SECTORS_PER_BLOCK) {
    throw tooSmall(sectors, mdSizeSectors + 2 * SECTORS_PER_BLOCK, "the activity log leaves no room for data");
  }
  return {
    placement: "internal",
    al,
    mdSizeSectors,
    superblockSector,
    alSector: superblockSector - alSectors,
    bitmapSector,
    bitmapSectors,
    alOffset: -alSectors,
    bmOffset,
    dataSectorsMax: bitmapSector,
  };
}

function externalLayout(
  placement: "flexible" | { readonly index: number },
  metaSectors: number,
  dataSectors: number,
  al: AlGeometry,
  alSectors: number,
): MetaLayout {
  const flexible = placement === "flexible";
  const superblockSector = flexible ? 0 : placement.index * INDEXED_SLOT_SECTORS;
  const mdSizeSectors = flexible ? metaSectors : INDEXED_SLOT_SECTORS;
  const alOffset = SUPERBLOCK_SECTORS;
  const bmOffset = alOffset + alSectors;
  const bitmapSectors = alignDown(mdSizeSectors - bmOffset, SECTORS_PER_BLOCK);
  if (!flexible && alSectors !== alBlocks(AL_GEOMETRY_DEFAULT) * SECTORS_PER_BLOCK) {
    throw new HaError(
      ErrorCode.metaInvalid,
      "indexed metadata has a fixed activity log of 32 KiB; leave al-stripes and al-stripe-size at their defaults",
    );
  }
  if (bitmapSectors < SECTORS_PER_BLOCK || superblockSector + mdSizeSectors > metaSectors) {
    const needed = flexible ? bmOffset + SECTORS_PER_BLOCK : superblockSector + INDEXED_SLOT_SECTORS;
    throw tooSmall(metaSectors, needed, flexible ? "no room for a bitmap" : `slot ${placement.index} lies outside`);
  }
  return {
    placement,
    al,
    mdSizeSectors,
    superblockSector,
    alSector: superblockSector + alOffset,
    bitmapSector: superblockSector + bmOffset,
    bitmapSectors,
    alOffset,
    bmOffset,
    dataSectorsMax: Math.min(dataSectors, (mdSizeSectors - bmOffset) * DATA_SECTORS_PER_BITMAP_SECTOR),
  };
}

/** Whether an activity log may have this shape. */
export function isPlausibleGeometry(al: AlGeometry): boolean {
  const blocks = alBlocks(al);
  return al.stripes > 0 && al.stripeSize4k > 0 && blocks >= AL_BLOCKS_MIN && blocks <= AL_BLOCKS_MAX;
}

function checkGeometry(al: AlGeometry): void {
  if (isPlausibleGeometry(al)) return;
  throw new HaError(
    ErrorCode.metaInvalid,
    `an activity log of ${al.stripes} stripes of ${al.stripeSize4k * 4} KiB is impossible: together 32 KiB to 16 GiB`,
    { stripes: al.stripes, stripeSize4k: al.stripeSize4k },
  );
}

function tooSmall(haveSectors: number, needSectors: number, why: string): HaError {
  return new HaError(
    ErrorCode.storeTooSmall,
    `the device is too small for metadata: ${why}; it has ${haveSectors} sectors and needs ${needSectors}`,
    { haveSectors, needSectors },
  );
}

/** Bytes of bitmap on disk for a device: whole 64-bit words, then whole 4 KiB blocks. */
export function bitmapBytesOnDisk(dataSectors: number): number {
  return alignUp(Math.ceil(Math.ceil(dataSectors / SECTORS_PER_BLOCK) / 64) * 8, SUPERBLOCK_SIZE);
}
