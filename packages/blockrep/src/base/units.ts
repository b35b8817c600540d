import { assert } from "./assert.ts";

export const SECTOR_SIZE = 512; // bytes; every position on the wire and in the metadata counts these
export const BLOCK_SIZE = 4096; // bytes of storage that one bit of the out-of-sync bitmap stands for
export const SECTORS_PER_BLOCK: number = BLOCK_SIZE / SECTOR_SIZE;
export const AL_EXTENT_SIZE: number = 4 * 1024 * 1024; // bytes covered by one activity-log extent
export const AL_EXTENT_SECTORS: number = AL_EXTENT_SIZE / SECTOR_SIZE;
export const BLOCKS_PER_AL_EXTENT: number = AL_EXTENT_SIZE / BLOCK_SIZE;
export const RESYNC_EXTENT_SIZE: number = 16 * 1024 * 1024; // bytes; a resync request never crosses such a border

assert(BLOCKS_PER_AL_EXTENT === 1024, "one activity-log extent is 128 bytes of bitmap");

/** Offsets stay exact as numbers up to 8 PiB; a decoder refuses more. */
export const OFFSET_MAX: number = Number.MAX_SAFE_INTEGER;

/** Smallest multiple of `unit` that is not below `value`. */
export function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** Largest multiple of `unit` that is not above `value`. */
export function alignDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit;
}
