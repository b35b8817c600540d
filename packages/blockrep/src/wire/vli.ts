/**
 * Run lengths as variable-length integers in a bit stream, least significant bit first.
 *
 * ```text
 *  level  prefix      data bits  values
 *  1      0           1          1..2
 *  2      10          1          3..4             (bits in the order of the stream)
 *  3      110         2          5..8
 *  4      1110        3          9..16
 *  5      11110       5          17..48
 *  6      111110      8          49..304
 *  7      11111100    13         305..8496
 *  8      11111110    21         8497..2105648
 *  9      11111101    34         2105649..
 *  10     11111111    56
 * ```
 *
 * @see DRBD 8.4 drbd_vli.h
 */
interface Level {
  readonly prefix: number;
  readonly prefixBits: number;
  readonly dataBits: number;
  /** Smallest value of the level. */
  readonly base: number;
  /** First value above the level. */
  readonly end: number;
}

const LEVELS: readonly Level[] = makeLevels([
  [0x00, 1, 1],
  [0x01, 2, 1],
  [0x03, 3, 2],
  [0x07, 4, 3],
  [0x0f, 5, 5],
  [0x1f, 6, 8],
  [0x3f, 8, 13],
  [0x7f, 8, 21],
  [0xbf, 8, 34],
  [0xff, 8, 56],
]);

function makeLevels(rows: readonly (readonly [number, number, number])[]): Level[] {
  let base = 1;
  return rows.map(([prefix, prefixBits, dataBits]) => {
    const level = { prefix, prefixBits, dataBits, base, end: base + 2 ** dataBits };
    base = level.end;
    return level;
  });
}

/** The level that a stream beginning with these 8 bits is at; every combination belongs to one. */
const LEVEL_OF_BYTE: readonly Level[] = Array.from(
  { length: 256 },
  (_, byte) => LEVELS.find((level) => (byte & (2 ** level.prefixBits - 1)) === level.prefix)!,
);

function levelOf(value: number): Level {
  return LEVELS.find((level) => value < level.end)!;
}

/** Bits that `value` takes. */
export function vliLength(value: number): number {
  const level = levelOf(value);
  return level.prefixBits + level.dataBits;
}

/** Writes run lengths into zeroed bytes. */
export class VliWriter {
  readonly #bytes: Uint8Array;
  #bit = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Bits written so far. */
  get lengthBits(): number {
    return this.#bit;
  }

  /** Appends one value, 1..2^53-1; writes nothing and returns false when it does not fit any more. */
  write(value: number): boolean {
    const level = levelOf(value);
    if (this.#bit + level.prefixBits + level.dataBits > this.#bytes.length * 8) return false;
    this.#put(level.prefix, level.prefixBits);
    const data = value - level.base;
    if (level.dataBits <= 24) {
      this.#put(data, level.dataBits);
    } else {
      this.#put(data % 0x100_0000, 24);
      const high = Math.floor(data / 0x100_0000);
      this.#put(high % 0x1_0000, Math.min(16, level.dataBits - 24));
      if (level.dataBits > 40) this.#put(Math.floor(high / 0x1_0000), level.dataBits - 40);
    }
    return true;
  }

  /** At most 24 bits at a time, so that a shift by up to 7 stays within an int32. */
  #put(value: number, bits: number): void {
    let rest = value << (this.#bit & 7);
    const last = (this.#bit + bits + 7) >>> 3;
    for (let at = this.#bit >>> 3; at < last; at++) {
      this.#bytes[at]! |= rest;
      rest >>>= 8;
    }
    this.#bit += bits;
  }
}

/** Reads run lengths from the first `lengthBits` bits. */
export class VliReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #bit = 0;

  constructor(bytes: Uint8Array, lengthBits: number) {
    this.#bytes = bytes;
    this.#end = lengthBits;
  }

  get atEnd(): boolean {
    return this.#bit >= this.#end;
  }

  /** The next value, or undefined when the bits end within it. Values above 2^53 come out rounded; no run is so long. */
  read(): number | undefined {
    const level = LEVEL_OF_BYTE[this.#peek(this.#bit, 8)]!;
    const start = this.#bit + level.prefixBits;
    if (start + level.dataBits > this.#end) return undefined;
    this.#bit = start + level.dataBits;
    if (level.dataBits <= 24) return level.base + this.#peek(start, level.dataBits);
    const low = this.#peek(start, 24);
    const middle = this.#peek(start + 24, Math.min(16, level.dataBits - 24));
    const high = level.dataBits > 40 ? this.#peek(start + 40, level.dataBits - 40) : 0;
    return level.base + low + middle * 0x100_0000 + high * 0x100_0000 * 0x1_0000;
  }

  /** At most 24 bits from a position on; bits behind the last byte read as 0. */
  #peek(bit: number, bits: number): number {
    const at = bit >>> 3;
    const bytes = this.#bytes;
    const window =
      (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
    return (window >>> (bit & 7)) & (2 ** bits - 1);
  }
}
