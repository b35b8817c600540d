import { assert } from "../base/assert.ts";
import { ErrorCode, HaError } from "../base/errors.ts";
import { BLOCK_SIZE, OFFSET_MAX } from "../base/units.ts";
import {
  AL_GEOMETRY_DEFAULT,
  type AlGeometry,
  bitmapBytesOnDisk,
  isPlausibleGeometry,
  type MetaLayout,
  SUPERBLOCK_SIZE,
} from "./layout.ts";
import { FRESH_UUIDS, type UuidSet } from "./uuid-set.ts";

export const MD_MAGIC_07 = 0x8374026a;
/** Clean: written by create-md and apply-al. */
export const MD_MAGIC_CLEAN = 0x8374026b;
/** In use, or left without apply-al since. */
export const MD_MAGIC_UNCLEAN = 0x8374026c;

/** State that must survive a restart. */
export const MdFlag = {
  consistent: 0x1,
  primaryIndicator: 0x2,
  connectedIndicator: 0x4,
  /** A full sync was decided and the bitmap may not be on disk yet: all bits count as set. */
  fullSync: 0x8,
  wasUpToDate: 0x10,
  peerOutdated: 0x20,
  crashedPrimary: 0x40,
  alClean: 0x80,
  alDisabled: 0x100,
} as const;

/** The superblock's fields. Sizes and positions in sectors; offsets relative to the superblock. */
export interface Superblock {
  readonly clean: boolean;
  /** Last agreed device size; 0: never attached or connected. */
  readonly laSizeSectors: number;
  readonly uuids: UuidSet;
  /** Random, identifies the metadata; 0 is allowed. */
  readonly deviceUuid: bigint;
  /** A set of `MdFlag` bits. */
  readonly flags: number;
  readonly mdSizeSectors: number;
  readonly alOffset: number;
  /** Activity-log slots (`al-extents`) when last written. */
  readonly alExtents: number;
  readonly bmOffset: number;
  readonly bmBytesPerBit: number;
  readonly laPeerMaxBioSize: number;
  /** As stored: both 0 in images before 8.4.3; `superblockGeometry` resolves that. */
  readonly alStripes: number;
  readonly alStripeSize4k: number;
}

/** `al_nr_extents` that create-md writes. */
export const AL_EXTENTS_CREATED = 257;

/** The superblock of new metadata: clean, just created, never attached. */
export function freshSuperblock(layout: MetaLayout, deviceUuid: bigint): Superblock {
  return {
    clean: true,
    laSizeSectors: 0,
    uuids: FRESH_UUIDS,
    deviceUuid,
    flags: MdFlag.alClean,
    mdSizeSectors: layout.mdSizeSectors,
    alOffset: layout.alOffset,
    alExtents: AL_EXTENTS_CREATED,
    bmOffset: layout.bmOffset,
    bmBytesPerBit: BLOCK_SIZE,
    laPeerMaxBioSize: 0,
    alStripes: layout.al.stripes,
    alStripeSize4k: layout.al.stripeSize4k,
  };
}

/** Shape of the activity log that a superblock describes. */
export function superblockGeometry(s: Superblock): AlGeometry {
  if (s.alStripes === 0 && s.alStripeSize4k === 0) return AL_GEOMETRY_DEFAULT;
  return { stripes: s.alStripes, stripeSize4k: s.alStripeSize4k };
}

/**
 * Superblock to its 4096 bytes.
 * @param out where to write them; a new array by default
 * @see DRBD 8.4 drbd_main.c struct meta_data_on_disk
 */
export function encodeSuperblock(s: Superblock, out: Uint8Array = new Uint8Array(SUPERBLOCK_SIZE)): Uint8Array {
  assert(out.length === SUPERBLOCK_SIZE, "a superblock is 4096 bytes");
  out.fill(0);
  const view = new DataView(out.buffer, out.byteOffset, SUPERBLOCK_SIZE);
  view.setBigUint64(0, BigInt(s.laSizeSectors));
  view.setBigUint64(8, s.uuids.current);
  view.setBigUint64(16, s.uuids.bitmap);
  view.setBigUint64(24, s.uuids.history0);
  view.setBigUint64(32, s.uuids.history1);
  view.setBigUint64(40, s.deviceUuid);
  view.setUint32(56, s.flags);
  view.setUint32(60, s.clean ? MD_MAGIC_CLEAN : MD_MAGIC_UNCLEAN);
  view.setUint32(64, s.mdSizeSectors);
  view.setInt32(68, s.alOffset);
  view.setUint32(72, s.alExtents);
  view.setInt32(76, s.bmOffset);
  view.setUint32(80, s.bmBytesPerBit);
  view.setUint32(84, s.laPeerMaxBioSize);
  view.setUint32(88, s.alStripes);
  view.setUint32(92, s.alStripeSize4k);
  return out;
}

/** Whether 4096 bytes carry the magic of v08 metadata, clean or not. */
export function isSuperblock(bytes: Uint8Array): boolean {
  const magic = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(60);
  return magic === MD_MAGIC_CLEAN || magic === MD_MAGIC_UNCLEAN;
}

/**
 * 4096 bytes to superblock, with the checks that need nothing but the bytes.
 * @throws HaError HA_META_NOT_FOUND without a magic of v08; HA_META_INVALID for fields that no writer produces
 */
export function decodeSuperblock(bytes: Uint8Array): Superblock {
  assert(bytes.length === SUPERBLOCK_SIZE, "a superblock is 4096 bytes");
  const view = new DataView(bytes.buffer, bytes.byteOffset, SUPERBLOCK_SIZE);
  const magic = view.getUint32(60);
  if (magic === MD_MAGIC_07) {
    throw new HaError(ErrorCode.metaInvalid, "the metadata is of the old format v07; convert it with drbdmeta first");
  }
  if (magic !== MD_MAGIC_CLEAN && magic !== MD_MAGIC_UNCLEAN) {
    throw new HaError(
      ErrorCode.metaNotFound,
      `no metadata found: magic 0x${magic.toString(16).padStart(8, "0")} where v08 has 0x8374026b; run create-md on a new disk; internal metadata are at the end of the disk: if its size was changed, give it its old size back`,
      { magic },
    );
  }
  const laSize = view.getBigUint64(0);
  if (laSize * 512n > BigInt(OFFSET_MAX)) {
    throw invalid(`the last agreed size of ${laSize} sectors is impossible`);
  }
  const s: Superblock = {
    clean: magic === MD_MAGIC_CLEAN,
    laSizeSectors: Number(laSize),
    uuids: {
      current: view.getBigUint64(8),
      bitmap: view.getBigUint64(16),
      history0: view.getBigUint64(24),
      history1: view.getBigUint64(32),
    },
    deviceUuid: view.getBigUint64(40),
    flags: view.getUint32(56),
    mdSizeSectors: view.getUint32(64),
    alOffset: view.getInt32(68),
    alExtents: view.getUint32(72),
    bmOffset: view.getInt32(76),
    bmBytesPerBit: view.getUint32(80),
    laPeerMaxBioSize: view.getUint32(84),
    alStripes: view.getUint32(88),
    alStripeSize4k: view.getUint32(92),
  };
  if (s.bmBytesPerBit !== BLOCK_SIZE) throw invalid(`${s.bmBytesPerBit} bytes per bitmap bit, expected ${BLOCK_SIZE}`);
  if (!isPlausibleGeometry(superblockGeometry(s))) {
    throw invalid(`an activity log of ${s.alStripes} stripes of ${s.alStripeSize4k} blocks`);
  }
  return s;
}

/**
 * Checks a superblock against the place where it was found.
 * @param layout `layoutFor` the device as it is now, with `superblockGeometry`
 * @throws HaError HA_META_INVALID
 */
export function checkPlacement(s: Superblock, layout: MetaLayout): void {
  if (s.alOffset !== layout.alOffset) {
    throw invalid(`the activity log is at ${s.alOffset} sectors from the superblock, expected ${layout.alOffset}`);
  }
  if (s.mdSizeSectors !== layout.mdSizeSectors || s.bmOffset !== layout.bmOffset) {
    throw invalid(
      `a size of ${s.mdSizeSectors} sectors and a bitmap at ${s.bmOffset}, expected ${layout.mdSizeSectors} and ${layout.bmOffset}; if the disk was resized, give it its old size back`,
    );
  }
  if (bitmapBytesOnDisk(s.laSizeSectors) > layout.bitmapSectors * 512 || s.laSizeSectors > layout.dataSectorsMax) {
    throw new HaError(
      ErrorCode.storeTooSmall,
      `the disk is smaller than its metadata say: ${layout.dataSectorsMax * 512} bytes are usable, the device has ${s.laSizeSectors * 512}; give the disk its old size back, or make new metadata (create-md --force) and sync from the peer`,
      { usableSectors: layout.dataSectorsMax, neededSectors: s.laSizeSectors },
    );
  }
}

/**
 * Refuses metadata that were not closed: only after apply-al does the bitmap tell the truth.
 * @throws HaError HA_META_UNCLEAN
 */
export function requireClean(s: Superblock): void {
  if (s.clean && (s.flags & MdFlag.alClean) !== 0) return;
  throw new HaError(ErrorCode.metaUnclean, 'Found meta data is "unclean", please apply-al first', { flags: s.flags });
}

function invalid(what: string): HaError {
  return new HaError(ErrorCode.metaInvalid, `the metadata is invalid: ${what}`);
}
