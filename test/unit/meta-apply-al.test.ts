import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import {
  AL_BLOCK_SIZE,
  AL_EXTENT_FREE,
  AL_INITIALISED,
  AL_INITIALISED_CRC,
  type AlBlock,
  alBlockCrc,
  alBlockPosition,
  decodeAlBlock,
  encodeAlBlock,
} from "@hacluster/blockrep/unstable/meta/activity-log-block";
import { readAl, recoverAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { layoutFor } from "@hacluster/blockrep/unstable/meta/layout";
import { freshSuperblock, MdFlag, type Superblock } from "@hacluster/blockrep/unstable/meta/superblock";

const layout = layoutFor("internal", 64 * 2048);
const primary: Superblock = {
  ...freshSuperblock(layout, 1n),
  clean: false,
  flags: MdFlag.consistent | MdFlag.primaryIndicator,
  laSizeSectors: layout.dataSectorsMax,
};

/** A ring of 8 blocks; transactions of `slots` slots, each putting extent t into slot t. */
function area(from: number, to: number, slots: number = 100): Uint8Array {
  const bytes = new Uint8Array(8 * AL_BLOCK_SIZE);
  for (let i = 0; i < 8; i++) bytes.set(encodeAlBlock(AL_INITIALISED), i * AL_BLOCK_SIZE);
  const content = new Uint32Array(slots).fill(AL_EXTENT_FREE);
  let start = 0;
  for (let t = from; t <= to; t++) {
    const slot = (t - from) % slots;
    const block: AlBlock = {
      type: "update",
      trNumber: t >>> 0,
      updates: [{ slot, extent: t - from }],
      contextSize: slots,
      contextStart: start,
      context: content.slice(start, start + 919),
    };
    bytes.set(encodeAlBlock(block), alBlockPosition(t, 1, 8) * AL_BLOCK_SIZE);
    content[slot] = t - from;
    start = start + 919 >= slots ? 0 : start + 919;
  }
  return bytes;
}

function damage(bytes: Uint8Array, ...blocks: number[]): Uint8Array {
  for (const block of blocks) {
    const at = block * AL_BLOCK_SIZE + 2000;
    bytes[at] = (bytes[at] as number) ^ 0xff;
  }
  return bytes;
}

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const refused =
  (text: RegExp) =>
  (e: unknown): boolean =>
    e instanceof HaError && e.code === ErrorCode.metaInvalid && text.test(e.message);

test("block: an initialised one has the known checksum, a changed byte is seen", () => {
  const bytes = encodeAlBlock(AL_INITIALISED);
  assert.equal(alBlockCrc(bytes), AL_INITIALISED_CRC);
  assert.equal(decodeAlBlock(bytes)?.type, "initialised");
  bytes[3000] = 1;
  assert.equal(decodeAlBlock(bytes), undefined);
  assert.equal(decodeAlBlock(new Uint8Array(AL_BLOCK_SIZE)), undefined);
});

test("block: a right checksum over nonsense is refused", () => {
  const forge = (offset: number, value: number): Uint8Array => {
    const block = area(0, 0).subarray(0, AL_BLOCK_SIZE);
    const view = new DataView(block.buffer, block.byteOffset, AL_BLOCK_SIZE);
    view.setUint16(offset, value);
    view.setUint32(8, alBlockCrc(block));
    return block;
  };
  assert.throws(() => decodeAlBlock(forge(12, 7)), refused(/unknown type 7/));
  assert.throws(() => decodeAlBlock(forge(14, 65)), refused(/65 updates/));
  assert.throws(() => decodeAlBlock(forge(18, 101)), refused(/context from slot 101/));
  assert.throws(() => decodeAlBlock(forge(36, 100)), refused(/slot 100 of 100/));
});

test("block: stripes spread neighbours over the area", () => {
  assert.deepEqual(
    [0, 1, 2, 3, 15, 16].map((t) => alBlockPosition(t, 2, 8)),
    [0, 8, 1, 9, 15, 0],
  );
});

test("replay: from the oldest to the newest, across the wrap of ring and number", () => {
  assert.deepEqual(readAl(area(0, 4), layout).hotExtents, upTo(5));
  assert.deepEqual(readAl(area(0, 20), layout).hotExtents, upTo(21));
  assert.deepEqual(readAl(area(2 ** 32 - 4, 2 ** 32 + 6), layout).hotExtents, upTo(11));
  assert.equal(readAl(area(0, 20), layout).complete, true);
});

test("replay: contexts of several blocks describe a log of more slots than one holds", () => {
  const contents = readAl(area(0, 40, 6433), layout);
  assert.deepEqual([contents.hotExtents, contents.complete], [upTo(41), true]);
  const torn = readAl(damage(area(0, 40, 6433), 41 % 8), layout);
  assert.deepEqual([torn.hotExtents, torn.complete], [upTo(41), true], "the block behind the newest");
  const lost = readAl(damage(area(0, 40, 6433), 37 % 8), layout);
  assert.equal(lost.complete, false);
});

test("replay: the torn last write is no loss, a gap that later contexts repeat neither", () => {
  const torn = readAl(damage(area(0, 20), 20 % 8), layout);
  assert.deepEqual([torn.hotExtents, torn.damagedBlocks, torn.complete], [upTo(20), 1, true]);
  assert.equal(readAl(damage(area(0, 20), 17 % 8, 18 % 8), layout).complete, true);
  const early = readAl(damage(area(0, 2, 6433), 0), layout);
  assert.equal(early.complete, false, "slots beyond the contexts seen may have been named by the lost block");
  const first = readAl(damage(area(0, 0), 0), layout);
  assert.deepEqual([first.hotExtents, first.complete], [[], true]);
});

test("recover: sets whole extents, neighbours together, none behind the device", () => {
  const plan = recoverAl(primary, area(0, 17), layout);
  assert.deepEqual(plan.extents, upTo(16));
  assert.equal(plan.bitmapRegions.length, 1);
  const [region] = plan.bitmapRegions;
  assert.ok(region && "bytes" in region);
  assert.deepEqual([region.offset, region.bytes.length], [layout.bitmapSector * 512, 16 * 128]);
  assert.equal(plan.superblock.clean, true);
  assert.equal(plan.superblock.flags, primary.flags | MdFlag.alClean);
  assert.equal(plan.regions.length, 9);
});

test("recover: a Primary's unreadable or incomplete log is refused", () => {
  assert.throws(() => recoverAl(primary, damage(area(0, 20), ...upTo(8)), layout), refused(/No usable activity log/));
  assert.throws(
    () => recoverAl(primary, damage(area(0, 40, 6433), 36 % 8, 37 % 8), layout),
    refused(/2 damaged blocks/),
  );
});

test("recover: the log does not matter on a Secondary, when disabled, and when clean", () => {
  const broken = damage(area(0, 20), ...upTo(8));
  for (const flags of [MdFlag.consistent, MdFlag.primaryIndicator | MdFlag.alDisabled]) {
    assert.deepEqual(recoverAl({ ...primary, flags }, broken, layout).extents, []);
  }
  const clean = { ...primary, clean: true, flags: primary.flags | MdFlag.alClean };
  assert.deepEqual(recoverAl(clean, broken, layout).extents, []);
});
