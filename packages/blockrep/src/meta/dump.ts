import { SECTOR_SIZE } from "../base/units.ts";
import { bitmapBytesOnDisk, type MetaLayout } from "./layout.ts";
import type { Superblock } from "./superblock.ts";
import { formatUuid } from "./uuid-set.ts";

/** The first lines of a dump: they depend on when, where and by which command it was made. */
export interface DumpHeader {
  /** `2026-11-20 17:17:59 +0000`, local time with its offset. */
  readonly time: string;
  /** The same in seconds since 1970. */
  readonly timeSeconds: number;
  readonly host: string;
  /** The command as typed. */
  readonly command: string;
}

const WORDS_PER_LINE = 4;
const WORDS_PER_COMMENT = 32;
const KIB_PER_WORD = 64 * 4;
/** Shorter runs are written out. */
const RUN_WORDS_MIN = 8;

/**
 * The metadata as text, in the form of `drbdmeta dump-md` (and readable for its restore-md).
 * Of unclean metadata it has a line that restore-md rejects: apply-al has to come first.
 * @param bitmap the bitmap area, at least `dumpBitmapBytes` of it, as it is on disk
 */
export function dumpMd(s: Superblock, layout: MetaLayout, bitmap: Uint8Array, header: DumpHeader): string {
  const out: string[] = [
    "# DRBD meta data dump",
    `# ${header.time} [${header.timeSeconds}]`,
    `# ${header.host}> ${header.command}`,
    "#",
    "",
    'version "v08";',
    "",
  ];
  if (!s.clean) {
    out.push(
      "This_is_an_unclean_meta_data_dump._Don't_trust_the_bitmap.",
      '# You should "apply-al" first, if you plan to restore this.',
      "",
    );
  }
  const { uuids } = s;
  const hex = [uuids.current, uuids.bitmap, uuids.history0, uuids.history1].map((u) => `0x${formatUuid(u)};`);
  out.push(
    `# md_size_sect ${s.mdSizeSectors}`,
    `# md_offset ${layout.superblockSector * SECTOR_SIZE}`,
    `# al_offset ${layout.alSector * SECTOR_SIZE}`,
    `# bm_offset ${layout.bitmapSector * SECTOR_SIZE}`,
    "",
    "uuid {",
    `    ${hex.join(" ")}`,
    "    flags 0x00000000;", // drbd-utils 9 prints no v08 flags; the same text, not more
    "}",
    `# al-extents ${s.alExtents};`,
    `la-size-sect ${s.laSizeSectors};`,
    `bm-byte-per-bit ${s.bmBytesPerBit};`,
    `device-uuid 0x${formatUuid(s.deviceUuid)};`,
    `la-peer-max-bio-size ${s.laPeerMaxBioSize};`,
    `al-stripes ${layout.al.stripes};`,
    `al-stripe-size-4k ${layout.al.stripeSize4k};`,
  );
  const bytes = dumpBitmapBytes(s);
  out.push(`# bm-bytes ${bytes};`, "bm {");
  const bitsSet = dumpBitmap(bitmap.subarray(0, bytes), out);
  out.push("}", `# bits-set ${bitsSet};`, "");
  return out.join("\n");
}

/** How many bytes of bitmap a dump of this metadata shows. */
export function dumpBitmapBytes(s: Superblock): number {
  return bitmapBytesOnDisk(s.laSizeSectors);
}

/** Appends the words, four to a line, long runs of one repeated 32-bit value in one; returns the number of set bits. */
function dumpBitmap(bytes: Uint8Array, out: string[]): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = bytes.length / 8;
  const word = (i: number): bigint => view.getBigUint64(i * 8, true);
  let bitsSet = 0;
  for (let i = 0; i < words; ) {
    if (i % WORDS_PER_COMMENT === 0) out.push(`   # at ${i * KIB_PER_WORD}kB`);
    const first = word(i);
    let run = 0;
    // drbdmeta compares 32-bit halves: only a word of two equal ones can begin a run
    if (first >> 32n === (first & 0xffff_ffffn)) {
      run = 1;
      while (i + run < words && word(i + run) === first) run++;
      run -= run % WORDS_PER_LINE;
    }
    if (run >= RUN_WORDS_MIN) {
      out.push(`    ${run} times 0x${formatUuid(first)};`);
      bitsSet += run * onesOf(first);
      i += run;
      continue;
    }
    const line: string[] = [];
    for (const end = Math.min(i + WORDS_PER_LINE, words); i < end; i++) {
      line.push(`0x${formatUuid(word(i))};`);
      bitsSet += onesOf(word(i));
    }
    out.push(`    ${line.join(" ")}`);
  }
  return bitsSet;
}

function onesOf(word: bigint): number {
  let ones = 0;
  for (let w = word; w !== 0n; w &= w - 1n) ones++;
  return ones;
}
