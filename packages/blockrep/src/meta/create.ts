import { SECTOR_SIZE } from "../base/units.ts";
import { AL_BLOCK_SIZE, AL_INITIALISED, encodeAlBlock } from "./activity-log-block.ts";
import { alBlocks, type MetaLayout } from "./layout.ts";
import { encodeSuperblock, freshSuperblock, type Superblock } from "./superblock.ts";

/** Bytes to be written at an offset of the device that holds the metadata; `zero`: that many zero bytes. */
export type MetaRegion =
  | { readonly offset: number; readonly bytes: Uint8Array }
  | { readonly offset: number; readonly zero: number };

/** The activity log area with nothing in it, to be written in pieces of `AL_BLOCK_SIZE`. */
export function initialisedAl(layout: MetaLayout): MetaRegion[] {
  const bytes = encodeAlBlock(AL_INITIALISED);
  const regions: MetaRegion[] = [];
  for (let i = 0; i < alBlocks(layout.al); i++) {
    regions.push({ offset: layout.alSector * SECTOR_SIZE + i * AL_BLOCK_SIZE, bytes });
  }
  return regions;
}

/**
 * What create-md writes, in order: zeroed bitmap, initialised activity log, and last, after a flush, the superblock,
 * so that an interrupted creation leaves nothing that looks like metadata.
 * @param deviceUuid 64 random bits
 */
export function createMd(layout: MetaLayout, deviceUuid: bigint): { regions: MetaRegion[]; superblock: Superblock } {
  const superblock = freshSuperblock(layout, deviceUuid);
  const regions: MetaRegion[] = [
    { offset: layout.bitmapSector * SECTOR_SIZE, zero: layout.bitmapSectors * SECTOR_SIZE },
    ...initialisedAl(layout),
    { offset: layout.superblockSector * SECTOR_SIZE, bytes: encodeSuperblock(superblock) },
  ];
  return { regions, superblock };
}
