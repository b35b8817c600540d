import { assert } from "../base/assert.ts";
import { ErrorCode, HaError } from "../base/errors.ts";

/**
 * One block of the on-disk activity log, all fields big-endian.
 *
 * ```text
 *    0 magic        4 tr_number      8 crc32c        12 type  14 n_updates
 *   16 context_size 18 context_start 20 reserved x4
 *   36 u16 slot of update 0..63   164 u32 extent of update 0..63
 *  420 u32 context 0..918: extents of the slots context_start.. before the updates
 * ```
 *
 * @see DRBD 8.4 drbd_actlog.c struct al_transaction_on_disk
 */
export const AL_BLOCK_SIZE = 4096;
export const AL_BLOCK_MAGIC = 0x69cb65a2;
/** Changes of one transaction. */
export const AL_UPDATES_MAX = 64;
/** Slots whose content one transaction repeats. */
export const AL_CONTEXT_MAX = 919;
/** "No extent": a free slot. */
export const AL_EXTENT_FREE = 0xffff_ffff;
/** Checksum of a block of type "initialised". */
export const AL_INITIALISED_CRC = 0x709c_c651;
/** `al-extents`: slots of the log. */
export const AL_EXTENTS_MIN = 67;
export const AL_EXTENTS_MAX = 65534;
export const AL_EXTENTS_DEFAULT = 1237;

const TYPE_UPDATE = 0;
const TYPE_INITIALISED = 0xffff;
const OFFSET_CRC = 8;
const OFFSET_SLOTS = 36;
const OFFSET_EXTENTS = 164;
const OFFSET_CONTEXT = 420;

export interface AlUpdate {
  readonly slot: number;
  /** Number of the 4 MiB extent that the slot holds from now on, or `AL_EXTENT_FREE`. */
  readonly extent: number;
}

export interface AlBlock {
  readonly type: "update" | "initialised";
  /** Number of the transaction, 32 bits, wraps. */
  readonly trNumber: number;
  readonly updates: readonly AlUpdate[];
  /** Slots of the log. */
  readonly contextSize: number;
  readonly contextStart: number;
  /** Extents of the slots contextStart.., before `updates`; at most AL_CONTEXT_MAX, free slots included. */
  readonly context: readonly number[] | Uint32Array;
}

const CRC_TABLE: Uint32Array = makeCrcTable();

function makeCrcTable(): Uint32Array {
  const table = new Uint32Array(256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = (c & 1) === 0 ? c >>> 1 : (c >>> 1) ^ 0x82f6_3b78;
    table[n] = c;
  }
  return table;
}

/**
 * The log's checksum: CRC-32C that starts at 0 and is not inverted at the end, over the block with its checksum field
 * as 0. Not the CRC-32C of the digests.
 */
export function alBlockCrc(block: Uint8Array): number {
  let crc = 0;
  for (let i = 0; i < AL_BLOCK_SIZE; i++) {
    const byte = i >= OFFSET_CRC && i < OFFSET_CRC + 4 ? 0 : (block[i] as number);
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] as number);
  }
  return crc >>> 0;
}

/** A block that says "nothing yet": what create-md and apply-al fill the log with. */
export const AL_INITIALISED: AlBlock = {
  type: "initialised",
  trNumber: 0,
  updates: [],
  contextSize: 0,
  contextStart: 0,
  context: [],
};

/**
 * Block to 4096 bytes.
 * @param out where to write them; a new array by default
 */
export function encodeAlBlock(block: AlBlock, out: Uint8Array = new Uint8Array(AL_BLOCK_SIZE)): Uint8Array {
  assert(out.length === AL_BLOCK_SIZE, "an activity-log block is 4096 bytes");
  assert(block.updates.length <= AL_UPDATES_MAX && block.context.length <= AL_CONTEXT_MAX, "one transaction");
  out.fill(0);
  const view = new DataView(out.buffer, out.byteOffset, AL_BLOCK_SIZE);
  view.setUint32(0, AL_BLOCK_MAGIC);
  if (block.type === "initialised") {
    view.setUint16(12, TYPE_INITIALISED);
  } else {
    view.setUint32(4, block.trNumber);
    view.setUint16(12, TYPE_UPDATE);
    view.setUint16(14, block.updates.length);
    view.setUint16(16, block.contextSize);
    view.setUint16(18, block.contextStart);
    for (let i = 0; i < AL_UPDATES_MAX; i++) {
      view.setUint16(OFFSET_SLOTS + 2 * i, block.updates[i]?.slot ?? 0xffff);
      view.setUint32(OFFSET_EXTENTS + 4 * i, block.updates[i]?.extent ?? AL_EXTENT_FREE);
    }
    for (let i = 0; i < AL_CONTEXT_MAX; i++) {
      view.setUint32(OFFSET_CONTEXT + 4 * i, block.context[i] ?? AL_EXTENT_FREE);
    }
  }
  view.setUint32(OFFSET_CRC, alBlockCrc(out));
  return out;
}

/**
 * 4096 bytes to block.
 * @returns undefined when magic or checksum are wrong: a block torn by a crash, or none
 * @throws HaError HA_META_INVALID when the checksum is right and the content contradicts itself
 */
export function decodeAlBlock(bytes: Uint8Array): AlBlock | undefined {
  assert(bytes.length === AL_BLOCK_SIZE, "an activity-log block is 4096 bytes");
  const view = new DataView(bytes.buffer, bytes.byteOffset, AL_BLOCK_SIZE);
  if (view.getUint32(0) !== AL_BLOCK_MAGIC || view.getUint32(OFFSET_CRC) !== alBlockCrc(bytes)) return undefined;
  const type = view.getUint16(12);
  if (type === TYPE_INITIALISED) return AL_INITIALISED;
  const trNumber = view.getUint32(4);
  const count = view.getUint16(14);
  const contextSize = view.getUint16(16);
  const contextStart = view.getUint16(18);
  const bad = (what: string): HaError =>
    new HaError(ErrorCode.metaInvalid, `activity log: transaction ${trNumber} has ${what}`, { trNumber });
  if (type !== TYPE_UPDATE) throw bad(`the unknown type ${type}`);
  if (count > AL_UPDATES_MAX) throw bad(`${count} updates, more than ${AL_UPDATES_MAX}`);
  if (contextStart > contextSize) throw bad(`a context from slot ${contextStart} of ${contextSize}`);
  const updates: AlUpdate[] = [];
  for (let i = 0; i < count; i++) {
    const slot = view.getUint16(OFFSET_SLOTS + 2 * i);
    if (slot >= contextSize) throw bad(`an update of slot ${slot} of ${contextSize}`);
    updates.push({ slot, extent: view.getUint32(OFFSET_EXTENTS + 4 * i) });
  }
  const context = new Uint32Array(Math.min(AL_CONTEXT_MAX, contextSize - contextStart));
  for (let i = 0; i < context.length; i++) context[i] = view.getUint32(OFFSET_CONTEXT + 4 * i);
  return { type: "update", trNumber, updates, contextSize, contextStart, context };
}

/**
 * Which 4 KiB block of the log area transaction `trNumber` goes to. Stripes spread neighbours over a RAID.
 * @param stripes number of stripes
 * @param stripeSize4k blocks of one stripe
 */
export function alBlockPosition(trNumber: number, stripes: number, stripeSize4k: number): number {
  const index = (trNumber >>> 0) % (stripes * stripeSize4k);
  return (index % stripes) * stripeSize4k + Math.floor(index / stripes);
}

/** How many slots a log of `blocks` 4 KiB blocks can describe: any blocks-1 of them must hold the whole context. */
export function alExtentsLimit(blocks: number): number {
  return Math.min(AL_EXTENTS_MAX, AL_CONTEXT_MAX * (blocks - 1));
}
