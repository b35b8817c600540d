import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { ErrorCode, HaError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import type { BlockStore, StoreDone } from "../drivers/block-store.ts";
import { FileStore } from "../drivers/file-store.ts";
import { AL_BLOCK_SIZE } from "../meta/activity-log-block.ts";
import { recoverAl } from "../meta/apply-al.ts";
import { invalidated, type MetadataDiskState, metadataDiskState, outdated } from "../meta/change.ts";
import { createMd, type MetaRegion } from "../meta/create.ts";
import { dumpBitmapBytes, dumpMd } from "../meta/dump.ts";
import { formatGi, formatShowGi } from "../meta/gi.ts";
import {
  AL_GEOMETRY_DEFAULT,
  type AlGeometry,
  alBlocks,
  layoutFor,
  type MetaLayout,
  type MetaPlacement,
  SUPERBLOCK_SIZE,
} from "../meta/layout.ts";
import {
  checkPlacement,
  decodeSuperblock,
  encodeSuperblock,
  isSuperblock,
  MdFlag,
  type Superblock,
  superblockGeometry,
} from "../meta/superblock.ts";

/** Where one volume's data and metadata are. */
export interface MetadataTarget {
  readonly disk: string;
  /** Undefined: internal, on `disk`. */
  readonly metaDisk?: string;
  readonly placement: MetaPlacement;
}

/** Zeroes are written in pieces of this size. */
const ZERO_CHUNK = new Uint8Array(1024 * 1024);

/** Resolves when the store has done it. */
function settle(start: (done: StoreDone) => void): Promise<void> {
  return new Promise((resolve, reject) => start((error) => (error === undefined ? resolve() : reject(error))));
}

/** What the pure parts say, with the disk it is about. */
function naming(disk: BlockStore, error: unknown): unknown {
  if (!(error instanceof HaError) || error.details["path"] !== undefined) return error;
  return new HaError(error.code, `${disk.name}: ${error.message}`, { ...error.details, path: disk.name });
}

class MetadataStore {
  readonly meta: BlockStore;
  readonly #data: BlockStore;
  readonly #target: MetadataTarget;

  constructor(target: MetadataTarget, readOnly: boolean) {
    const options = readOnly ? { readOnly: true } : {};
    this.#target = target;
    this.#data = FileStore.open(target.disk, options);
    this.meta = target.metaDisk === undefined ? this.#data : FileStore.open(target.metaDisk, options);
  }

  layout(al: AlGeometry = AL_GEOMETRY_DEFAULT): MetaLayout {
    const sectors = (store: BlockStore): number => Math.floor(store.sizeBytes / SECTOR_SIZE);
    try {
      return layoutFor(this.#target.placement, sectors(this.meta), sectors(this.#data), al);
    } catch (error) {
      throw naming(this.meta, error);
    }
  }

  async superblockBytes(): Promise<Uint8Array> {
    return this.read(this.layout().superblockSector * SECTOR_SIZE, SUPERBLOCK_SIZE);
  }

  /** The superblock, checked against the place where it was found. @throws HaError naming the disk */
  async superblock(): Promise<{ superblock: Superblock; layout: MetaLayout }> {
    let disk = this.meta;
    try {
      const superblock = decodeSuperblock(await this.superblockBytes());
      const layout = this.layout(superblockGeometry(superblock));
      disk = this.#data;
      checkPlacement(superblock, layout);
      return { superblock, layout };
    } catch (error) {
      throw naming(disk, error);
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    await settle((done) => this.meta.read(offset, target, done));
    return target;
  }

  async writeAll(regions: readonly MetaRegion[]): Promise<void> {
    for (const region of regions) {
      if ("bytes" in region) {
        await settle((done) => this.meta.write(region.offset, region.bytes, done));
        continue;
      }
      for (let at = 0; at < region.zero; at += ZERO_CHUNK.length) {
        const piece = ZERO_CHUNK.subarray(0, Math.min(ZERO_CHUNK.length, region.zero - at));
        await settle((done) => this.meta.write(region.offset + at, piece, done));
      }
    }
  }

  flush(): Promise<void> {
    return settle((done) => this.meta.flush(done));
  }

  async close(): Promise<void> {
    await this.#data.close();
    if (this.meta !== this.#data) await this.meta.close();
  }
}

async function withStore<T>(
  target: MetadataTarget,
  readOnly: boolean,
  use: (store: MetadataStore) => Promise<T>,
): Promise<T> {
  const store = new MetadataStore(target, readOnly);
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

/** Something at the start of the disk that create-md would make unusable, or undefined. */
async function foreignContent(
  store: MetadataStore,
  target: MetadataTarget,
  layout: MetaLayout,
): Promise<string | undefined> {
  if (target.placement !== "internal") return undefined;
  const start = await store.read(0, 4096);
  const view = new DataView(start.buffer);
  // ext2/3/4: magic at 1024 + 56, number of blocks at 1024 + 4, log2(block size) - 10 at 1024 + 24
  if (view.getUint16(1024 + 56, true) === 0xef53) {
    const bytes = view.getUint32(1024 + 4, true) * 1024 * 2 ** view.getUint32(1024 + 24, true);
    if (bytes > layout.dataSectorsMax * SECTOR_SIZE) {
      return `an ext filesystem of ${bytes} bytes that reaches into the room for the metadata (usable: ${layout.dataSectorsMax * SECTOR_SIZE} bytes); shrink it with resize2fs first, or use external metadata`;
    }
  }
  return undefined;
}

export interface CreateResult {
  readonly deviceUuid: string;
  readonly usableBytes: number;
}

/**
 * create-md: write fresh metadata, durable when it returns. Data stay as they are.
 * @param force overwrite metadata that are there
 * @throws HaError HA_META_EXISTS, HA_STORE_TOO_SMALL, HA_STORE_BUSY, HA_STORE_MISSING; then nothing was written
 */
export function createMetadata(
  target: MetadataTarget,
  options: { force?: boolean; al?: AlGeometry } = {},
): Promise<CreateResult> {
  return withStore(target, false, async (store) => {
    const layout = store.layout(options.al);
    if (options.force !== true) {
      if (isSuperblock(await store.superblockBytes())) {
        throw new HaError(
          ErrorCode.metaExists,
          `${store.meta.name} has metadata already; creating new ones makes a full sync necessary. If that is meant: create-md --force`,
          { path: store.meta.name },
        );
      }
      const foreign = await foreignContent(store, target, layout);
      if (foreign !== undefined) {
        throw new HaError(ErrorCode.metaExists, `${target.disk} holds ${foreign}`, { path: target.disk });
      }
    }
    const uuid = randomBytes(8).readBigUInt64BE(0);
    const { regions } = createMd(layout, uuid);
    // the superblock is last and behind a flush: an interrupted creation leaves nothing that looks like metadata
    const last = regions.at(-1) as MetaRegion;
    await store.writeAll(regions.slice(0, -1));
    await store.flush();
    await store.writeAll([last]);
    await store.flush();
    return { deviceUuid: uuid.toString(16).toUpperCase(), usableBytes: layout.dataSectorsMax * SECTOR_SIZE };
  });
}

/** wipe-md: make the metadata unrecognisable. @throws HaError HA_META_NOT_FOUND when there are none */
export function wipeMetadata(target: MetadataTarget): Promise<void> {
  return withStore(target, false, async (store) => {
    const { layout } = await store.superblock();
    await store.writeAll([{ offset: layout.superblockSector * SECTOR_SIZE, zero: SUPERBLOCK_SIZE }]);
    await store.flush();
  });
}

/** Is there a superblock at all? */
export function hasMetadata(target: MetadataTarget): Promise<boolean> {
  return withStore(target, true, async (store) => isSuperblock(await store.superblockBytes()));
}

/** dstate of a volume that is not attached. @throws HaError HA_META_NOT_FOUND */
export function readDiskState(target: MetadataTarget): Promise<MetadataDiskState> {
  return withStore(target, true, async (store) => metadataDiskState((await store.superblock()).superblock));
}

/** outdate of a volume that is not attached. False: the data are inconsistent and stay so. @throws HaError HA_META_NOT_FOUND */
export function outdateMetadata(target: MetadataTarget): Promise<boolean> {
  return changeSuperblock(target, outdated);
}

/** invalidate of a volume that is not attached: a full sync is due. @throws HaError HA_META_NOT_FOUND */
export async function invalidateMetadata(target: MetadataTarget): Promise<void> {
  await changeSuperblock(target, invalidated);
}

function changeSuperblock(
  target: MetadataTarget,
  change: (superblock: Superblock) => Superblock | undefined,
): Promise<boolean> {
  return withStore(target, false, async (store) => {
    const { superblock, layout } = await store.superblock();
    const changed = change(superblock);
    if (changed === undefined) return false;
    await store.writeAll([{ offset: layout.superblockSector * SECTOR_SIZE, bytes: encodeSuperblock(changed) }]);
    await store.flush();
    return true;
  });
}

export interface ApplyResult {
  /** Extents of 4 MiB that were marked out of sync; 0 when the node was no Primary. */
  readonly extents: number;
  readonly damagedBlocks: number;
  /** Nothing was to be done. */
  readonly wasClean: boolean;
  /** The node went down as Primary without a peer: degr-wfc-timeout applies. */
  readonly degraded: boolean;
  /** The peer's disk was outdated: outdated-wfc-timeout applies. */
  readonly peerOutdated: boolean;
}

/**
 * apply-al: what must be done once before each attach. After a crash the blocks that were being written become out of
 * sync; the metadata are clean afterwards.
 * @throws HaError HA_META_NOT_FOUND, HA_META_INVALID (the log is unreadable and the node was Primary),
 *   HA_STORE_TOO_SMALL (the disk has shrunk); then nothing was written
 */
export function applyActivityLog(target: MetadataTarget): Promise<ApplyResult> {
  return withStore(target, false, async (store) => {
    const { superblock, layout } = await store.superblock();
    const wasClean = superblock.clean && (superblock.flags & MdFlag.alClean) !== 0;
    const primary = (superblock.flags & MdFlag.primaryIndicator) !== 0;
    const degraded = primary && (superblock.flags & MdFlag.connectedIndicator) === 0;
    const peerOutdated = (superblock.flags & MdFlag.peerOutdated) !== 0;
    if (wasClean) return { extents: 0, damagedBlocks: 0, wasClean, degraded, peerOutdated };
    const area = await store.read(layout.alSector * SECTOR_SIZE, alBlocks(layout.al) * AL_BLOCK_SIZE);
    const recovery = recoverAl(superblock, area, layout);
    await store.writeAll(recovery.bitmapRegions);
    await store.flush();
    await store.writeAll(recovery.regions);
    await store.flush();
    return {
      extents: recovery.extents.length,
      damagedBlocks: recovery.damagedBlocks,
      wasClean,
      degraded,
      peerOutdated,
    };
  });
}

/** dump-md, as drbdmeta prints it. @throws HaError HA_META_UNCLEAN unless forced */
export function dumpMetadata(target: MetadataTarget, options: { force?: boolean; command: string }): Promise<string> {
  return withStore(target, true, async (store) => {
    const { superblock, layout } = await store.superblock();
    if (!superblock.clean && options.force !== true) {
      throw new HaError(ErrorCode.metaUnclean, 'Found meta data is "unclean", please apply-al first', {
        path: store.meta.name,
      });
    }
    const bitmap = await store.read(layout.bitmapSector * SECTOR_SIZE, dumpBitmapBytes(superblock));
    const now = new Date();
    return dumpMd(superblock, layout, bitmap, {
      command: options.command,
      host: hostname(),
      time: localTime(now),
      timeSeconds: Math.floor(now.getTime() / 1000),
    });
  });
}

/** `2026-11-20 17:17:59 +0000` */
function localTime(date: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())} ${zone}`;
}

/** get-gi (one line) and show-gi (explained). */
export function generationIdentifiers(target: MetadataTarget): Promise<{ get: string; show: string }> {
  return withStore(target, true, async (store) => {
    const { superblock } = await store.superblock();
    return { get: formatGi(superblock), show: formatShowGi(superblock) };
  });
}
