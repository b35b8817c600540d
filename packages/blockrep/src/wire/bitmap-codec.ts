/**
 * The exchange of out-of-sync bitmaps: one side's bits to packets, packets ORed into the other side's bits.
 *
 * Both ends keep a position in bits and one in 64-bit words and move them alike. A run-length packet moves the first
 * exactly and the second to the word it lies in; a plain packet starts at a word and sets the first behind its last.
 *
 * @see DRBD 8.4 drbd_main.c send_bitmap_rle_or_plain, drbd_receiver.c receive_bitmap
 */
import { assert } from "../base/assert.ts";
import { BITMAP_CODE_RLE_VLI, BITMAP_PACKET_MAX } from "./constants.ts";
import { type Dialect, headerLength } from "./dialect.ts";
import { badPacket } from "./layout.ts";
import type { BitmapPacket, CompressedBitmapPacket } from "./packets.ts";
import { VliReader, VliWriter } from "./vli.ts";

/** Bits to send. It may gain and lose bits between two packets, not while one is made. */
export interface BitmapSource {
  /** Bits that stand for blocks of the device; storage behind them is never shown. */
  readonly bitCount: number;
  /** First bit at or behind `from` that is set, or clear; `bitCount` when there is none. */
  findNext(from: number, set: boolean): number;
  /** Fills `out` with the bytes from byte `at` on, bit k of the map in byte k/8, bit k%8; zeroes behind the last bit. */
  readBytes(at: number, out: Uint8Array): void;
}

/** Where received bits go. */
export interface BitmapSink {
  readonly bitCount: number;
  /** Sets bits first..end-1. */
  setRange(first: number, end: number): void;
  /** ORs bytes in from byte `at` on; bits behind the last one are garbage and must be ignored. */
  orBytes(at: number, bytes: Uint8Array): void;
}

const BITS_PER_WORD = 64;
const BYTES_PER_WORD = 8;

/** 64-bit words that one plain packet holds: 510 with h100 headers. */
function wordsPerPacket(dialect: Dialect): number {
  return Math.floor((BITMAP_PACKET_MAX - headerLength(dialect)) / BYTES_PER_WORD);
}

export interface BitmapSenderOptions {
  readonly volume: number;
  readonly dialect: Dialect;
  /** The option use-rle; ignored below version 90, which has no compression. */
  readonly useRle: boolean;
}

/** Makes the packets of one transfer, one at a time, so that the sender can wait for the socket in between. */
export class BitmapSender {
  readonly #source: BitmapSource;
  readonly #options: BitmapSenderOptions;
  readonly #wordCount: number;
  #bit = 0;
  #word = 0;
  #done = false;

  constructor(source: BitmapSource, options: BitmapSenderOptions) {
    this.#source = source;
    this.#options = options;
    this.#wordCount = Math.ceil(source.bitCount / BITS_PER_WORD);
  }

  get done(): boolean {
    return this.#done;
  }

  /** The next packet, or undefined when the transfer is complete. */
  next(): BitmapPacket | CompressedBitmapPacket | undefined {
    if (this.#done) return undefined;
    return this.#compressed() ?? this.#plain();
  }

  #compressed(): CompressedBitmapPacket | undefined {
    const { volume, dialect, useRle } = this.#options;
    const { bitCount } = this.#source;
    if (!useRle || dialect.version < 90 || this.#bit >= bitCount) return undefined;
    const code = new Uint8Array(BITMAP_PACKET_MAX - headerLength(dialect) - 1);
    const writer = new VliWriter(code);
    const firstSet = this.#source.findNext(this.#bit, true) === this.#bit;
    let set = firstSet;
    let bit = this.#bit;
    while (bit < bitCount) {
      const end = this.#source.findNext(bit, !set);
      if (!writer.write(end - bit)) break;
      bit = end;
      set = !set;
    }
    const codeBytes = Math.ceil(writer.lengthBits / 8);
    if (bit - this.#bit < codeBytes * 8) {
      // longer than the plain bits: go back to the word and send it plain, a few bits twice
      this.#word = Math.floor(this.#bit / BITS_PER_WORD);
      this.#bit = this.#word * BITS_PER_WORD;
      return undefined;
    }
    this.#bit = bit;
    this.#word = Math.floor(bit / BITS_PER_WORD);
    this.#done = bit === bitCount; // a run-length transfer has no terminator
    const padBits = codeBytes * 8 - writer.lengthBits;
    return {
      kind: "P_COMPRESSED_BITMAP",
      volume,
      encoding: BITMAP_CODE_RLE_VLI | (padBits << 4) | (firstSet ? 0x80 : 0),
      code: code.subarray(0, codeBytes),
    };
  }

  /** With no word left this is the empty packet that ends a transfer whose last piece was plain. */
  #plain(): BitmapPacket {
    const { volume, dialect } = this.#options;
    const count = Math.min(wordsPerPacket(dialect), this.#wordCount - this.#word);
    const words = new Uint8Array(count * BYTES_PER_WORD);
    if (count > 0) this.#source.readBytes(this.#word * BYTES_PER_WORD, words);
    this.#word += count;
    this.#bit = Math.min(this.#word * BITS_PER_WORD, this.#source.bitCount);
    this.#done = count === 0;
    return { kind: "P_BITMAP", volume, words };
  }
}

/** Takes the packets of one transfer. */
export class BitmapReceiver {
  readonly #sink: BitmapSink;
  readonly #dialect: Dialect;
  readonly #wordCount: number;
  #bit = 0;
  #word = 0;
  #done = false;

  constructor(sink: BitmapSink, dialect: Dialect) {
    this.#sink = sink;
    this.#dialect = dialect;
    this.#wordCount = Math.ceil(sink.bitCount / BITS_PER_WORD);
  }

  get done(): boolean {
    return this.#done;
  }

  /**
   * ORs one packet in.
   * @returns whether the transfer is complete
   * @throws HaError HA_WIRE_BAD_PACKET when the packet does not fit the bitmap; bits that it set before stay set,
   *   which costs a needless resync of them and nothing else
   */
  receive(packet: BitmapPacket | CompressedBitmapPacket): boolean {
    if (this.#done) {
      throw badPacket("bad-value", `${packet.kind} arrived after the end of the bitmap`, { kind: packet.kind });
    }
    if (packet.kind === "P_BITMAP") this.#plain(packet);
    else this.#compressed(packet);
    return this.#done;
  }

  #plain({ words }: BitmapPacket): void {
    const count = Math.min(wordsPerPacket(this.#dialect), this.#wordCount - this.#word);
    if (words.length !== count * BYTES_PER_WORD) {
      throw badPacket(
        "wrong-length",
        `a piece of bitmap with ${words.length} bytes where ${count * BYTES_PER_WORD} are due: the peers disagree about the size of the device`,
        { kind: "P_BITMAP", length: words.length, expected: count * BYTES_PER_WORD },
      );
    }
    if (count > 0) this.#sink.orBytes(this.#word * BYTES_PER_WORD, words);
    this.#word += count;
    this.#bit = Math.min(this.#word * BITS_PER_WORD, this.#sink.bitCount);
    this.#done = count === 0;
  }

  #compressed({ encoding, code }: CompressedBitmapPacket): void {
    if ((encoding & 0x0f) !== BITMAP_CODE_RLE_VLI) {
      throw badPacket("bad-value", `bitmap code ${encoding & 0x0f} is not known, only ${BITMAP_CODE_RLE_VLI} is`, {
        kind: "P_COMPRESSED_BITMAP",
        encoding,
      });
    }
    const { bitCount } = this.#sink;
    const reader = new VliReader(code, code.length * 8 - ((encoding >>> 4) & 7));
    let set = (encoding & 0x80) !== 0;
    let bit = this.#bit;
    while (!reader.atEnd) {
      const run = reader.read();
      if (run === undefined) throw badRun("a run of the compressed bitmap has no end", bit);
      if (run > bitCount - bit) throw badRun("the compressed bitmap is longer than the device", bit);
      if (set) this.#sink.setRange(bit, bit + run);
      bit += run;
      set = !set;
    }
    this.#bit = bit;
    this.#word = Math.floor(bit / BITS_PER_WORD);
    this.#done = bit === bitCount;
  }
}

function badRun(message: string, bit: number): Error {
  return badPacket("bad-value", message, { kind: "P_COMPRESSED_BITMAP", bit });
}

/** A bitmap in plain bytes; both ends of a transfer for tests and small devices. */
export class ByteBitmap implements BitmapSource, BitmapSink {
  readonly bitCount: number;
  /** Bit k in byte k/8, bit k%8; whole 64-bit words. */
  readonly bytes: Uint8Array;
  readonly #words: Uint32Array;

  constructor(bitCount: number) {
    assert(Number.isSafeInteger(bitCount) && bitCount >= 0, "a bitmap has a whole number of bits");
    this.bitCount = bitCount;
    this.bytes = new Uint8Array(Math.ceil(bitCount / BITS_PER_WORD) * BYTES_PER_WORD);
    this.#words = new Uint32Array(this.bytes.buffer);
  }

  has(bit: number): boolean {
    return bit < this.bitCount && (this.bytes[Math.floor(bit / 8)]! & (1 << (bit % 8))) !== 0;
  }

  setRange(first: number, end: number): void {
    for (let bit = first; bit < Math.min(end, this.bitCount); ) {
      if (bit % 8 === 0 && bit + 8 <= end && bit + 8 <= this.bitCount) {
        const lastByte = Math.floor(Math.min(end, this.bitCount) / 8);
        this.bytes.fill(0xff, bit / 8, lastByte);
        bit = lastByte * 8;
      } else {
        this.bytes[Math.floor(bit / 8)]! |= 1 << (bit % 8);
        bit++;
      }
    }
  }

  orBytes(at: number, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) this.bytes[at + i]! |= bytes[i]!;
    this.#clearTail();
  }

  readBytes(at: number, out: Uint8Array): void {
    out.set(this.bytes.subarray(at, at + out.length));
  }

  findNext(from: number, set: boolean): number {
    const flip = set ? 0 : -1;
    let index = Math.floor(from / 32);
    let word = index < this.#words.length ? ((this.#words[index]! ^ flip) >>> (from % 32)) << (from % 32) : 0;
    while (word === 0) {
      if (++index >= this.#words.length) return this.bitCount;
      word = this.#words[index]! ^ flip;
    }
    return Math.min(index * 32 + 31 - Math.clz32(word & -word), this.bitCount);
  }

  #clearTail(): void {
    const whole = Math.floor(this.bitCount / 8);
    if (whole >= this.bytes.length) return;
    this.bytes[whole]! &= (1 << (this.bitCount % 8)) - 1;
    this.bytes.fill(0, whole + 1);
  }
}
