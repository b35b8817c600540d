import { assert } from "../base/assert.ts";
import { ErrorCode, HaError } from "../base/errors.ts";
import { SECTORS_PER_BLOCK } from "../base/units.ts";

/** Bytes of bitmap that are written together: the part of 128 MiB of storage, or of 32 activity-log extents. */
export const BITMAP_PAGE_BYTES = 4096;
export const BITMAP_PAGE_BITS: number = BITMAP_PAGE_BYTES * 8;
const PAGE_WORDS: number = BITMAP_PAGE_BYTES / 4;
/** Bit numbers stay below 2^32 so that shifts work on them: a device may have just under 16 TiB. */
export const DEVICE_SECTORS_MAX: number = (2 ** 32 - BITMAP_PAGE_BITS) * SECTORS_PER_BLOCK;

/** Blocks that a device has; the last one may be shorter than 4 KiB. */
export function bitsForSectors(sizeSectors: number): number {
  return Math.ceil(sizeSectors / SECTORS_PER_BLOCK);
}

function popcount(word: number): number {
  let x = word - ((word >>> 1) & 0x5555_5555);
  x = (x & 0x3333_3333) + ((x >>> 2) & 0x3333_3333);
  x = (x + (x >>> 4)) & 0x0f0f_0f0f;
  return Math.imul(x, 0x0101_0101) >>> 24;
}

/** Position of the lowest set bit of a word that is not 0. */
function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/**
 * Which 4 KiB blocks differ, or may differ, from the peer's: the out-of-sync bitmap, in memory. It is authoritative;
 * its pages remember whether the copy on disk is older. Bits beyond the device are always 0 here, whatever the disk
 * says. Sectors are 512-byte units from the start of the device; ranges outside of it are clipped.
 */
export class Bitmap {
  #words: Uint32Array<ArrayBuffer>;
  #pageDirty: Uint8Array;
  #sizeSectors: number;
  #bits: number;
  #count = 0;
  #dirtyPages = 0;

  /** @throws HaError HA_UNSUPPORTED beyond `DEVICE_SECTORS_MAX` */
  constructor(sizeSectors: number) {
    checkSize(sizeSectors);
    this.#sizeSectors = sizeSectors;
    this.#bits = bitsForSectors(sizeSectors);
    const pages = Math.ceil(this.#bits / BITMAP_PAGE_BITS);
    this.#words = new Uint32Array(pages * PAGE_WORDS);
    this.#pageDirty = new Uint8Array(pages);
  }

  get sizeSectors(): number {
    return this.#sizeSectors;
  }

  /** Blocks of the device, set or not. */
  get bits(): number {
    return this.#bits;
  }

  /** Blocks out of sync. */
  get count(): number {
    return this.#count;
  }

  get pages(): number {
    return this.#pageDirty.length;
  }

  /** Bytes that a peer is sent: whole 64-bit words. */
  get wireBytes(): number {
    return Math.ceil(this.#bits / 64) * 8;
  }

  test(bit: number): boolean {
    return bit < this.#bits && ((this.#words[bit >>> 5] as number) & (1 << (bit & 31))) !== 0;
  }

  /** Marks every block that the range touches. @returns how many were not marked before */
  setRange(sector: number, sectors: number): number {
    if (sectors <= 0 || sector >= this.#sizeSectors) return 0;
    return this.setBits(Math.floor(sector / SECTORS_PER_BLOCK), Math.ceil((sector + sectors) / SECTORS_PER_BLOCK));
  }

  /**
   * Clears the blocks that the range covers completely; the last block of the device counts as covered when the range
   * reaches the end of the device. @returns how many were marked before
   */
  clearRange(sector: number, sectors: number): number {
    const end = sector + sectors;
    const endBit = end >= this.#sizeSectors ? this.#bits : Math.floor(end / SECTORS_PER_BLOCK);
    return sectors <= 0 ? 0 : this.clearBits(Math.ceil(sector / SECTORS_PER_BLOCK), endBit);
  }

  /** Whether any block that the range touches is out of sync. */
  anySet(sector: number, sectors: number): boolean {
    if (sectors <= 0 || sector >= this.#sizeSectors) return false;
    const first = Math.floor(sector / SECTORS_PER_BLOCK);
    const end = Math.min(Math.ceil((sector + sectors) / SECTORS_PER_BLOCK), this.#bits);
    return this.nextSet(first, end) !== -1;
  }

  /** Marks the blocks first..end-1. @returns how many were not marked before */
  setBits(first: number, end: number): number {
    return this.#change(first, end, true);
  }

  /** Clears the blocks first..end-1. @returns how many were marked before */
  clearBits(first: number, end: number): number {
    return this.#change(first, end, false);
  }

  #change(first: number, end: number, set: boolean): number {
    const limit = Math.min(end, this.#bits);
    if (first >= limit) return 0;
    const words = this.#words;
    const firstWord = first >>> 5;
    const lastWord = (limit - 1) >>> 5;
    let changed = 0;
    for (let w = firstWord; w <= lastWord; w++) {
      let mask = 0xffff_ffff;
      if (w === firstWord) mask = (mask << (first & 31)) >>> 0;
      if (w === lastWord) mask &= 0xffff_ffff >>> (31 - ((limit - 1) & 31));
      const old = words[w] as number;
      const flipped = set ? mask & ~old : mask & old;
      if (flipped === 0) continue;
      words[w] = old ^ flipped;
      changed += popcount(flipped);
      this.#markPage(Math.floor(w / PAGE_WORDS));
    }
    this.#count += set ? changed : -changed;
    return changed;
  }

  setAll(): void {
    this.setBits(0, this.#bits);
  }

  clearAll(): void {
    this.clearBits(0, this.#bits);
  }

  /** First marked block in from..end-1, or -1. */
  nextSet(from: number, end: number = this.#bits): number {
    return this.#next(from, end, 0);
  }

  /** First block in from..end-1 that is not marked, or -1. */
  nextClear(from: number, end: number = this.#bits): number {
    return this.#next(from, end, 0xffff_ffff);
  }

  #next(from: number, end: number, invert: number): number {
    const limit = Math.min(end, this.#bits);
    if (from >= limit) return -1;
    const words = this.#words;
    let w = from >>> 5;
    let word = ((words[w] as number) ^ invert) & (0xffff_ffff << (from & 31));
    const lastWord = (limit - 1) >>> 5;
    while (word === 0) {
      if (++w > lastWord) return -1;
      word = (words[w] as number) ^ invert;
    }
    const bit = w * 32 + lowestBit(word);
    return bit < limit ? bit : -1;
  }

  /** Marked blocks among first..end-1. */
  countRange(first: number, end: number): number {
    const limit = Math.min(end, this.#bits);
    if (first >= limit) return 0;
    const lastWord = (limit - 1) >>> 5;
    const firstWord = first >>> 5;
    let count = 0;
    for (let w = firstWord; w <= lastWord; w++) {
      let word = this.#words[w] as number;
      if (w === firstWord) word &= 0xffff_ffff << (first & 31);
      if (w === lastWord) word &= 0xffff_ffff >>> (31 - ((limit - 1) & 31));
      count += popcount(word);
    }
    return count;
  }

  /**
   * Takes over bytes of the bitmap as stored on disk (least significant bit first), replacing what was here.
   * The pages count as clean.
   * @param byteOffset position in the bitmap; it and the length are multiples of 4
   */
  loadBytes(byteOffset: number, bytes: Uint8Array): void {
    const touched = this.#merge(byteOffset, bytes, false);
    for (let page = touched.first; page <= touched.last; page++) this.markPageClean(page);
  }

  /**
   * Adds a received piece of the peer's bitmap to this one. Its bits beyond the device are ignored.
   * @param byteOffset position in the bitmap; it and the length are multiples of 4
   * @returns how many blocks were not marked before
   */
  orBytes(byteOffset: number, bytes: Uint8Array): number {
    const before = this.#count;
    this.#merge(byteOffset, bytes, true);
    return this.#count - before;
  }

  #merge(byteOffset: number, bytes: Uint8Array, keep: boolean): { first: number; last: number } {
    assert(byteOffset % 4 === 0 && bytes.length % 4 === 0, "bitmap bytes come in whole 32-bit words");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const firstWord = byteOffset / 4;
    const usedWords = Math.ceil(this.#bits / 32);
    const end = Math.min(firstWord + bytes.length / 4, usedWords);
    const tail = this.#bits % 32 === 0 ? 0xffff_ffff : 0xffff_ffff >>> (32 - (this.#bits % 32));
    let gained = 0;
    for (let w = firstWord; w < end; w++) {
      const old = this.#words[w] as number;
      let word = view.getUint32((w - firstWord) * 4, true);
      if (w === usedWords - 1) word &= tail;
      if (keep) word |= old;
      if ((word ^ old) === 0) continue;
      this.#words[w] = word;
      gained += popcount(word) - popcount(old);
      this.#markPage(Math.floor(w / PAGE_WORDS));
    }
    this.#count += gained;
    return { first: Math.floor(firstWord / PAGE_WORDS), last: Math.ceil(end / PAGE_WORDS) - 1 };
  }

  /**
   * Writes bytes of the bitmap, least significant bit first, into `out`; zeroes beyond the device.
   * @param byteOffset position in the bitmap; it and `out.length` are multiples of 4
   */
  storeBytes(byteOffset: number, out: Uint8Array): void {
    assert(byteOffset % 4 === 0 && out.length % 4 === 0, "bitmap bytes come in whole 32-bit words");
    const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
    const firstWord = byteOffset / 4;
    for (let i = 0; i < out.length / 4; i++) view.setUint32(i * 4, this.#words[firstWord + i] ?? 0, true);
  }

  /** Pages whose copy on disk is older. */
  get dirtyPages(): number {
    return this.#dirtyPages;
  }

  isPageDirty(page: number): boolean {
    return this.#pageDirty[page] === 1;
  }

  /** First page from `from` whose copy on disk is older, or -1. */
  nextDirtyPage(from: number): number {
    return this.#dirtyPages === 0 ? -1 : this.#pageDirty.indexOf(1, from);
  }

  /**
   * Copies a page for writing and counts it as clean from here on; a bit that changes during the write makes it dirty
   * again. When the write fails the disk has failed, and with it this distinction.
   * @param out BITMAP_PAGE_BYTES long
   */
  takePage(page: number, out: Uint8Array): void {
    assert(page < this.pages && out.length === BITMAP_PAGE_BYTES, "a page of this bitmap");
    this.storeBytes(page * BITMAP_PAGE_BYTES, out);
    this.markPageClean(page);
  }

  markPageClean(page: number): void {
    if (this.#pageDirty[page] !== 1) return;
    this.#pageDirty[page] = 0;
    this.#dirtyPages--;
  }

  /** Every page is to be written, as after a change of size or of place. */
  markAllPagesDirty(): void {
    this.#pageDirty.fill(1);
    this.#dirtyPages = this.#pageDirty.length;
  }

  #markPage(page: number): void {
    if (this.#pageDirty[page] === 1) return;
    this.#pageDirty[page] = 1;
    this.#dirtyPages++;
  }

  /**
   * Changes the size of the device. All pages are to be written then, at their possibly new place.
   * @param markNew the blocks that a larger device gains are out of sync
   * @throws HaError HA_UNSUPPORTED beyond `DEVICE_SECTORS_MAX`
   */
  resize(sizeSectors: number, markNew: boolean): void {
    checkSize(sizeSectors);
    const oldBits = this.#bits;
    const bits = bitsForSectors(sizeSectors);
    if (bits < oldBits) this.clearBits(bits, oldBits);
    const pages = Math.ceil(bits / BITMAP_PAGE_BITS);
    const words = new Uint32Array(pages * PAGE_WORDS);
    words.set(this.#words.subarray(0, words.length));
    this.#words = words;
    this.#pageDirty = new Uint8Array(pages);
    this.#bits = bits;
    this.#sizeSectors = sizeSectors;
    if (markNew) this.setBits(oldBits, bits);
    this.markAllPagesDirty();
  }
}

function checkSize(sizeSectors: number): void {
  assert(Number.isSafeInteger(sizeSectors) && sizeSectors >= 0, "device size in sectors");
  if (sizeSectors <= DEVICE_SECTORS_MAX) return;
  throw new HaError(
    ErrorCode.unsupported,
    `a device of ${sizeSectors} sectors is too large: the bitmap reaches ${DEVICE_SECTORS_MAX} sectors (16 TiB); use several volumes`,
    { sizeSectors, sizeSectorsMax: DEVICE_SECTORS_MAX },
  );
}
