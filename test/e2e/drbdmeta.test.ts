import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { recoverAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { createMd, type MetaRegion } from "@hacluster/blockrep/unstable/meta/create";
import { type DumpHeader, dumpBitmapBytes, dumpMd } from "@hacluster/blockrep/unstable/meta/dump";
import { formatGi, formatShowGi } from "@hacluster/blockrep/unstable/meta/gi";
import {
  type AlGeometry,
  alBlocks,
  layoutFor,
  type MetaLayout,
  type MetaPlacement,
} from "@hacluster/blockrep/unstable/meta/layout";
import {
  checkPlacement,
  decodeSuperblock,
  encodeSuperblock,
  MdFlag,
  type Superblock,
} from "@hacluster/blockrep/unstable/meta/superblock";
import { skipUnless } from "../support/requires.ts";

const NEEDS = {
  root: true,
  programs: { drbdmeta: "drbd-utils", losetup: "util-linux" },
  files: { "/dev/loop-control": "kernel module loop" },
};
/** A minor that no configuration uses: drbdmeta locks it and keeps a note of where its metadata was. */
const MINOR = "251";
const MIB = 1024 * 1024;

/** A sparse file of some size with a loop device on it for as long as the test runs. */
class Device {
  readonly path: string;
  readonly #fd: number;
  constructor(t: TestContext, sizeBytes: number) {
    const folder = mkdtempSync(join(tmpdir(), "hacluster-md-"));
    const file = join(folder, "disk");
    this.#fd = openSync(file, "w+");
    ftruncateSync(this.#fd, sizeBytes);
    this.path = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
    t.after(() => {
      execFileSync("losetup", ["--detach", this.path]);
      closeSync(this.#fd);
      rmSync(folder, { recursive: true });
      rmSync(`/var/lib/drbd/drbd-minor-${MINOR}.lkbd`, { force: true });
    });
  }
  write(regions: readonly MetaRegion[]): void {
    // a new file is zero already
    for (const r of regions) if ("bytes" in r) writeSync(this.#fd, r.bytes, 0, r.bytes.length, r.offset);
    execFileSync("blockdev", ["--flushbufs", this.path]);
  }
  read(offset: number, length: number): Uint8Array {
    execFileSync("blockdev", ["--flushbufs", this.path]);
    const bytes = new Uint8Array(length);
    assert.equal(readSync(this.#fd, bytes, 0, length, offset), length);
    return bytes;
  }
  superblock(l: MetaLayout): Superblock {
    return decodeSuperblock(this.read(l.superblockSector * 512, 4096));
  }
  bitmap(l: MetaLayout, s: Superblock): Uint8Array {
    return this.read(l.bitmapSector * 512, dumpBitmapBytes(s));
  }
}

function placementWord(p: MetaPlacement): string {
  if (p === "internal") return "internal";
  return p === "flexible" ? "flex-external" : String(p.index);
}

function drbdmeta(device: Device, placement: MetaPlacement, ...args: string[]): string {
  const all = [MINOR, "v08", device.path, placementWord(placement), ...args];
  const options = args[0] === "create-md" ? ["--force"] : [];
  const run = spawnSync("drbdmeta", [...options, ...all], { encoding: "utf8", timeout: 20_000 });
  assert.equal(run.status, 0, `drbdmeta ${all.join(" ")}: ${run.stdout}${run.stderr}`);
  return run.stdout;
}

/** Their dump must be ours, but for the lines that say when and where it was made, which ours takes over. */
function compareDumps(theirs: string, device: Device, l: MetaLayout): void {
  const time = /^# (\d.*) \[(\d+)\]$/m.exec(theirs);
  const command = /^# ([^\n>]+)> (.*)$/m.exec(theirs);
  assert.ok(time && command);
  const header: DumpHeader = {
    time: time[1] as string,
    timeSeconds: Number(time[2]),
    host: command[1] as string,
    command: command[2] as string,
  };
  const s = device.superblock(l);
  assert.equal(dumpMd(s, l, device.bitmap(l, s), header), theirs);
}

const SIZES = [
  MIB,
  1.05 * MIB,
  8 * MIB,
  8 * MIB + 512 * 5,
  128 * MIB,
  128 * MIB + 4096,
  4096 * MIB + 4096,
  5_000_000_512,
];
const whole = (bytes: number): number => Math.floor(bytes / 512);

test("drbdmeta reads metadata that we create, at every size, without --force", (t) => {
  if (skipUnless(t, NEEDS)) return;
  for (const size of SIZES) {
    const device = new Device(t, whole(size) * 512);
    const l = layoutFor("internal", whole(size));
    device.write(createMd(l, 0x1122_3344_5566_7788n).regions);
    compareDumps(drbdmeta(device, "internal", "dump-md"), device, l);
    assert.equal(drbdmeta(device, "internal", "get-gi").trim(), formatGi(device.superblock(l)));
  }
});

test("drbdmeta reads external metadata that we create", (t) => {
  if (skipUnless(t, NEEDS)) return;
  const cases: [MetaPlacement, number, AlGeometry][] = [
    ["flexible", 3 * MIB + 512 * 3, { stripes: 1, stripeSize4k: 8 }],
    ["flexible", 64 * MIB, { stripes: 4, stripeSize4k: 16 }],
    [{ index: 0 }, 128 * MIB, { stripes: 1, stripeSize4k: 8 }],
    [{ index: 1 }, 300 * MIB, { stripes: 1, stripeSize4k: 8 }],
  ];
  for (const [placement, size, al] of cases) {
    const device = new Device(t, size);
    const l = layoutFor(placement, size / 512, 1e9, al);
    device.write(createMd(l, 0n).regions);
    compareDumps(drbdmeta(device, placement, "dump-md"), device, l);
  }
});

test("we read metadata that drbdmeta creates, and would have written the same bytes", (t) => {
  if (skipUnless(t, NEEDS)) return;
  for (const size of [MIB, 8 * MIB + 512 * 5, 128 * MIB + 4096]) {
    const device = new Device(t, size);
    drbdmeta(device, "internal", "create-md");
    const l = layoutFor("internal", whole(size));
    const s = device.superblock(l);
    checkPlacement(s, l);
    for (const region of createMd(l, s.deviceUuid).regions) {
      const length = "zero" in region ? region.zero : region.bytes.length;
      const expected = "zero" in region ? new Uint8Array(length) : new Uint8Array(region.bytes);
      assert.deepEqual(device.read(region.offset, length), expected, `size ${size} offset ${region.offset}`);
    }
  }
});

/** Metadata of a device in use: some bits set, with every kind of run that a dump shows. */
function usedMetadata(l: MetaLayout): MetaRegion[] {
  const { superblock } = createMd(l, 0x77n);
  const used: Superblock = {
    ...superblock,
    laSizeSectors: l.dataSectorsMax,
    flags: MdFlag.alClean | MdFlag.consistent | MdFlag.wasUpToDate,
    laPeerMaxBioSize: 1048576,
    uuids: { current: 0x1234n, bitmap: 0x5678n, history0: 9n, history1: 0xffff_ffff_ffff_fffen },
  };
  const bitmap = new Uint8Array(8192);
  bitmap.fill(0xff, 0, 8 * 31);
  bitmap[300] = 0x10;
  for (let i = 3000; i < 3200; i += 4) bitmap[i] = 0x21; // a word of two equal halves
  for (let i = 3600; i < 3800; i += 8) bitmap[i] = 0x21; // and of two different ones
  bitmap.fill(0x55, 640, 900);
  bitmap.fill(0xff, 1024, 1024 + 56);
  bitmap.fill(0xff, 2048, 2048 + 72);
  return [
    ...createMd(l, 0x77n).regions,
    { offset: l.bitmapSector * 512, bytes: bitmap },
    { offset: l.superblockSector * 512, bytes: encodeSuperblock(used) },
  ];
}

test("drbdmeta's dump, get-gi and show-gi of metadata in use say what ours say", (t) => {
  if (skipUnless(t, NEEDS)) return;
  for (const size of [300 * MIB, 45_000_000_512]) {
    const device = new Device(t, size);
    const l = layoutFor("internal", whole(size));
    device.write(usedMetadata(l));
    compareDumps(drbdmeta(device, "internal", "dump-md"), device, l);
    assert.equal(drbdmeta(device, "internal", "get-gi").trim(), formatGi(device.superblock(l)));
    const tail = (text: string): string[] => text.trimEnd().split("\n").slice(-4);
    assert.deepEqual(tail(formatShowGi(device.superblock(l))), tail(drbdmeta(device, "internal", "show-gi")));
  }
});

test("drbdmeta's apply-al leaves the bytes that ours leaves", (t) => {
  if (skipUnless(t, NEEDS)) return;
  const size = 300 * MIB;
  const l = layoutFor("internal", whole(size));
  const unclean = usedMetadata(l).map((r) => {
    if (!("bytes" in r) || r.offset !== l.superblockSector * 512) return r;
    const s = decodeSuperblock(r.bytes);
    const flags = MdFlag.consistent | MdFlag.wasUpToDate | MdFlag.primaryIndicator;
    return { offset: r.offset, bytes: encodeSuperblock({ ...s, clean: false, flags }) };
  });
  const [theirs, ours] = [new Device(t, size), new Device(t, size)];
  theirs.write(unclean);
  ours.write(unclean);
  drbdmeta(theirs, "internal", "apply-al");
  const area = ours.read(l.alSector * 512, alBlocks(l.al) * 4096);
  const plan = recoverAl(ours.superblock(l), area, l);
  ours.write([...plan.bitmapRegions, ...plan.regions]);
  const length = l.mdSizeSectors * 512;
  assert.deepEqual(ours.read(l.bitmapSector * 512, length), theirs.read(l.bitmapSector * 512, length));
});
