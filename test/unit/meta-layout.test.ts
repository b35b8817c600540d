import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { alSlotsMax, bitmapBytesOnDisk, layoutFor, type MetaPlacement } from "@hacluster/blockrep/unstable/meta/layout";
import {
  checkPlacement,
  decodeSuperblock,
  encodeSuperblock,
  freshSuperblock,
  MdFlag,
  requireClean,
  superblockGeometry,
} from "@hacluster/blockrep/unstable/meta/superblock";
import fc from "fast-check";

const MIB = 2048; // sectors
const refused =
  (code: ErrorCode, text?: RegExp) =>
  (e: unknown): boolean =>
    e instanceof HaError && e.code === code && (text === undefined || text.test(e.message));

test("layout: the examples of an 8 MiB and a 64 MiB device", () => {
  const small = layoutFor("internal", 8 * MIB);
  assert.deepEqual(
    [small.mdSizeSectors, small.superblockSector * 512, small.alSector * 512, small.bitmapSector * 512],
    [80, 8384512, 8351744, 8347648],
  );
  assert.deepEqual([small.dataSectorsMax, small.alOffset, small.bmOffset], [16304, -64, -72]);
  assert.equal(layoutFor("internal", 64 * MIB).dataSectorsMax, 130992);
  const slot = layoutFor({ index: 1 }, 512 * MIB, 512 * MIB);
  assert.deepEqual([slot.superblockSector * 512, slot.bmOffset, slot.mdSizeSectors], [134217728, 72, 262144]);
});

test("layout: parts never overlap, the bitmap covers the data, for any size", () => {
  const placement: fc.Arbitrary<MetaPlacement> = fc.constantFrom<MetaPlacement>("internal", "flexible", { index: 1 });
  fc.assert(
    fc.property(fc.integer({ min: 300 * MIB, max: 40_000_000 * MIB }), placement, (sectors, where) => {
      const l = layoutFor(where, sectors);
      assert.ok(bitmapBytesOnDisk(l.dataSectorsMax) <= l.bitmapSectors * 512);
      const parts = [
        [l.superblockSector, l.superblockSector + 8],
        [l.alSector, l.alSector + 64],
        [l.bitmapSector, l.bitmapSector + l.bitmapSectors],
        ...(where === "internal" ? [[0, l.dataSectorsMax]] : []),
      ].sort((a, b) => (a[0] as number) - (b[0] as number)) as [number, number][];
      for (const [i, [start, end]] of parts.entries()) {
        assert.ok(start < end && start % 8 === 0);
        assert.ok(end <= (parts[i + 1]?.[0] ?? sectors), JSON.stringify(l));
      }
    }),
  );
});

test("layout: what does not fit is refused with the sizes", () => {
  assert.throws(() => layoutFor("internal", MIB - 1), refused(ErrorCode.storeTooSmall, /1 MiB/));
  assert.equal(layoutFor("internal", MIB).dataSectorsMax, 2048 - 80);
  assert.throws(
    () => layoutFor("internal", MIB, MIB, { stripes: 1, stripeSize4k: 256 }),
    refused(ErrorCode.storeTooSmall, /no room/),
  );
  assert.throws(() => layoutFor({ index: 1 }, 255 * MIB), refused(ErrorCode.storeTooSmall, /slot 1/));
  assert.throws(
    () => layoutFor("flexible", MIB, MIB, { stripes: 4, stripeSize4k: 64 }),
    refused(ErrorCode.storeTooSmall, /bitmap/),
  );
  assert.throws(
    () => layoutFor("internal", 8 * MIB, 8 * MIB, { stripes: 1, stripeSize4k: 7 }),
    refused(ErrorCode.metaInvalid),
  );
  assert.throws(
    () => layoutFor({ index: 0 }, 512 * MIB, MIB, { stripes: 2, stripeSize4k: 8 }),
    refused(ErrorCode.metaInvalid, /fixed/),
  );
  assert.equal(alSlotsMax({ stripes: 1, stripeSize4k: 8 }), 6433);
});

const layout = layoutFor("internal", 8 * MIB);
const fresh = freshSuperblock(layout, 0x1234_5678_9abc_def0n);

test("superblock: any one encodes and decodes to itself", () => {
  const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
  fc.assert(
    fc.property(u64, u64, u64, u64, fc.nat(0x1ff), fc.nat(2 ** 31), fc.boolean(), (a, b, c, d, flags, size, clean) => {
      const s = {
        ...fresh,
        clean,
        flags,
        laSizeSectors: size * 8,
        uuids: { current: a, bitmap: b, history0: c, history1: d },
      };
      assert.deepEqual(decodeSuperblock(encodeSuperblock(s)), s);
    }),
  );
});

test("superblock: every refusal of damaged or foreign bytes", () => {
  const patch = (offset: number, value: number): Uint8Array => {
    const bytes = encodeSuperblock(fresh);
    new DataView(bytes.buffer).setUint32(offset, value);
    return bytes;
  };
  assert.throws(() => decodeSuperblock(new Uint8Array(4096)), refused(ErrorCode.metaNotFound, /create-md/));
  assert.throws(() => decodeSuperblock(patch(60, 0x8374026a)), refused(ErrorCode.metaInvalid, /v07/));
  assert.throws(() => decodeSuperblock(patch(80, 512)), refused(ErrorCode.metaInvalid, /bytes per bitmap bit/));
  assert.throws(() => decodeSuperblock(patch(88, 0)), refused(ErrorCode.metaInvalid, /stripes/));
  assert.throws(() => decodeSuperblock(patch(0, 0xffff_ffff)), refused(ErrorCode.metaInvalid, /size/));
});

test("superblock: images from before stripes have the default log", () => {
  assert.deepEqual(superblockGeometry({ ...fresh, alStripes: 0, alStripeSize4k: 0 }), { stripes: 1, stripeSize4k: 8 });
});

test("superblock: one that does not fit its place is refused", () => {
  checkPlacement(fresh, layout);
  assert.throws(
    () => checkPlacement(fresh, layoutFor("internal", 256 * MIB)),
    refused(ErrorCode.metaInvalid, /resized/),
  );
  assert.throws(
    () => checkPlacement({ ...fresh, alOffset: -72 }, layout),
    refused(ErrorCode.metaInvalid, /activity log/),
  );
  assert.throws(
    () => checkPlacement({ ...fresh, laSizeSectors: 16305 }, layout),
    refused(ErrorCode.storeTooSmall, /smaller than its metadata say/),
  );
});

test("superblock: unclean by magic or by flag alone", () => {
  requireClean(fresh);
  assert.throws(() => requireClean({ ...fresh, clean: false }), refused(ErrorCode.metaUnclean, /apply-al/));
  assert.throws(() => requireClean({ ...fresh, flags: MdFlag.consistent }), refused(ErrorCode.metaUnclean));
});
