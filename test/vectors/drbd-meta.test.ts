import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import {
  AL_BLOCK_SIZE,
  AL_INITIALISED_CRC,
  alBlockCrc,
  decodeAlBlock,
  encodeAlBlock,
} from "@hacluster/blockrep/unstable/meta/activity-log-block";
import { readAl, recoverAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { createMd, type MetaRegion } from "@hacluster/blockrep/unstable/meta/create";
import { type DumpHeader, dumpMd } from "@hacluster/blockrep/unstable/meta/dump";
import { formatGi } from "@hacluster/blockrep/unstable/meta/gi";
import { layoutFor, type MetaLayout, type MetaPlacement } from "@hacluster/blockrep/unstable/meta/layout";
import {
  checkPlacement,
  decodeSuperblock,
  encodeSuperblock,
  MdFlag,
  requireClean,
  superblockGeometry,
} from "@hacluster/blockrep/unstable/meta/superblock";

const folder = fileURLToPath(new URL("../../../test/vectors/drbd-meta/", import.meta.url));

interface Image {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Byte of the device where `bytes` begins. */
  readonly start: number;
  readonly layout: MetaLayout;
  readonly dump: string;
}

const MIB = 1024 * 1024;

function image(name: string, dumpName: string, placement: MetaPlacement, deviceBytes: number, stripes: number): Image {
  const bytes = new Uint8Array(readFileSync(`${folder}${name}.bin`));
  const text = readFileSync(`${folder}${dumpName}.txt`, "utf8");
  const from = text.indexOf("# DRBD meta data dump");
  const dump = text.slice(from, text.indexOf("\n", text.indexOf("# bits-set")) + 1);
  const layout = layoutFor(placement, deviceBytes / 512, deviceBytes / 512, { stripes, stripeSize4k: 8 });
  const start = placement === "internal" ? deviceBytes - bytes.length : layout.superblockSector * 512;
  return { name, bytes, start, layout, dump };
}

const internal = (name: string, dumpName: string, mib: number): Image =>
  image(name, `${name}.${dumpName}`, "internal", mib * MIB, 1);

const IMAGES: readonly Image[] = [
  internal("md-8MiB-internal.after-create-md", "dump", 8),
  internal("md-8MiB-internal.after-up-connect-down", "dump-forced", 8),
  internal("md-64MiB-internal.attached-connected-uptodate", "dump-forced", 64),
  internal("md-64MiB-internal.primary-5-al-extents-active", "dump-forced", 64),
  internal("md-64MiB-internal.after-primary-crash-5-al-extents", "dump-forced", 64),
  internal("md-64MiB-internal.after-crash-apply-al", "dump", 64),
  internal("md-64MiB-internal.after-clean-down", "dump-forced", 64),
  image("md-flex-external-64MiB-2stripes.first96k", "md-flex-external-64MiB-2stripes.dump", "flexible", 64 * MIB, 2),
  image("md-indexed-1.first40k", "md-indexed-1.dump", { index: 1 }, 512 * MIB, 1),
];

const named = (name: string): Image => {
  const found = IMAGES.find((i) => i.name === name);
  assert.ok(found);
  return found;
};

function part(i: Image, sector: number, length: number): Uint8Array {
  const at = sector * 512 - i.start;
  return i.bytes.subarray(at, at + length);
}

const superblockOf = (i: Image) => decodeSuperblock(part(i, i.layout.superblockSector, 4096));
const alOf = (i: Image) => part(i, i.layout.alSector, i.layout.al.stripes * i.layout.al.stripeSize4k * AL_BLOCK_SIZE);

function headerOf(dump: string): DumpHeader {
  const time = /^# (\d.*) \[(\d+)\]$/m.exec(dump);
  const command = /^# (\w+)> (.*)$/m.exec(dump);
  assert.ok(time && command);
  return {
    time: time[1] as string,
    timeSeconds: Number(time[2]),
    host: command[1] as string,
    command: command[2] as string,
  };
}

test("superblock: every image decodes, fits its place, and encodes to the same bytes", () => {
  for (const i of IMAGES) {
    const s = superblockOf(i);
    checkPlacement(s, i.layout);
    assert.deepEqual(superblockGeometry(s), i.layout.al, i.name);
    assert.deepEqual(encodeSuperblock(s), part(i, i.layout.superblockSector, 4096), i.name);
  }
});

test("superblock: flags and sizes are those of the recorded states", () => {
  const flags = (name: string): number => superblockOf(named(name)).flags;
  assert.equal(flags("md-8MiB-internal.after-create-md"), MdFlag.alClean);
  assert.equal(flags("md-64MiB-internal.attached-connected-uptodate"), 0x15);
  assert.equal(flags("md-64MiB-internal.primary-5-al-extents-active"), 0x17);
  assert.equal(flags("md-64MiB-internal.after-clean-down"), 0x11);
  const s = superblockOf(named("md-64MiB-internal.after-crash-apply-al"));
  assert.equal(s.flags, 0x97);
  assert.equal(s.laSizeSectors, 130992);
  assert.equal(named("md-64MiB-internal.after-crash-apply-al").layout.dataSectorsMax, 130992);
  assert.equal(
    formatGi(s),
    "F039E43C11354B76:0000000000000000:0000000000000000:0000000000000000:1:1:1:1:0:0:0",
    "as drbdmeta get-gi prints it",
  );
});

test("superblock: clean images pass, unclean ones are refused with what to do", () => {
  for (const i of IMAGES) {
    const unclean = i.dump.includes("This_is_an_unclean");
    if (!unclean) requireClean(superblockOf(i));
    else assert.throws(() => requireClean(superblockOf(i)), (e) => e instanceof HaError && e.code === ErrorCode.metaUnclean && /apply-al/.test(e.message));
  }
});

test("dump: the text is drbdmeta's, byte for byte", () => {
  for (const i of IMAGES) {
    const bitmap = part(i, i.layout.bitmapSector, 4096);
    assert.equal(dumpMd(superblockOf(i), i.layout, bitmap, headerOf(i.dump)), i.dump, i.name);
  }
});

test("activity log: every block of every image decodes and encodes to the same bytes", () => {
  for (const i of IMAGES) {
    const area = alOf(i);
    for (let at = 0; at < area.length; at += AL_BLOCK_SIZE) {
      const bytes = area.subarray(at, at + AL_BLOCK_SIZE);
      const block = decodeAlBlock(bytes);
      assert.ok(block, `${i.name} +${at}`);
      assert.deepEqual(encodeAlBlock(block), new Uint8Array(bytes), `${i.name} +${at}`);
      if (block.type === "initialised") assert.equal(alBlockCrc(bytes), AL_INITIALISED_CRC);
    }
  }
});

test("activity log: the transactions of the live Primary are those of its writes", () => {
  const contents = readAl(alOf(named("md-64MiB-internal.primary-5-al-extents-active")), IMAGES[3]?.layout as MetaLayout);
  assert.deepEqual(contents, { hotExtents: [0, 3, 5, 9, 14], damagedBlocks: 0, complete: true, usable: true });
});

function write(i: Image, regions: readonly MetaRegion[]): Uint8Array {
  const bytes = new Uint8Array(i.bytes);
  for (const region of regions) {
    const at = region.offset - i.start;
    if ("zero" in region) bytes.fill(0, at, at + region.zero);
    else bytes.set(region.bytes, at);
  }
  return bytes;
}

test("apply-al: the image before becomes the image after, byte for byte, and stays it", () => {
  const before = named("md-64MiB-internal.after-primary-crash-5-al-extents");
  const after = named("md-64MiB-internal.after-crash-apply-al");
  const plan = recoverAl(superblockOf(before), alOf(before), before.layout);
  assert.deepEqual(plan.extents, [0, 3, 5, 9, 14]);
  assert.deepEqual(write(before, [...plan.bitmapRegions, ...plan.regions]), after.bytes);
  const again = recoverAl(superblockOf(after), alOf(after), after.layout);
  assert.deepEqual(again.extents, []);
  assert.deepEqual(write(after, [...again.bitmapRegions, ...again.regions]), after.bytes);
});

test("apply-al: a node that was not Primary only gets a new log", () => {
  const i = named("md-64MiB-internal.attached-connected-uptodate");
  const plan = recoverAl(superblockOf(i), alOf(i), i.layout);
  assert.deepEqual(plan.bitmapRegions, []);
  assert.equal(plan.superblock.flags, 0x95);
  assert.equal(plan.superblock.clean, true);
});

test("create: new metadata are the bytes of create-md", () => {
  for (const name of ["md-8MiB-internal.after-create-md", "md-flex-external-64MiB-2stripes.first96k", "md-indexed-1.first40k"]) {
    const i = named(name);
    const { regions } = createMd(i.layout, superblockOf(i).deviceUuid);
    const blank: Image = { ...i, bytes: new Uint8Array(i.bytes.length) };
    const inside = regions.map((r) => ("zero" in r ? { ...r, zero: Math.min(r.zero, 4096) } : r));
    assert.deepEqual(write(blank, inside), i.bytes, name);
  }
});
