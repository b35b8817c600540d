import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { BITMAP_PAGE_BYTES, Bitmap, DEVICE_SECTORS_MAX } from "@hacluster/blockrep/unstable/core/bitmap";
import fc from "fast-check";

/** The obvious implementation. */
class NaiveBitmap {
  set = new Set<number>();
  sizeSectors: number;
  constructor(sizeSectors: number) {
    this.sizeSectors = sizeSectors;
  }
  *blocks(): Generator<{ block: number; first: number; end: number }> {
    for (let block = 0; block * 8 < this.sizeSectors; block++) {
      yield { block, first: block * 8, end: Math.min(block * 8 + 8, this.sizeSectors) };
    }
  }
  setRange(sector: number, sectors: number): void {
    for (const { block, first, end } of this.blocks()) {
      if (sectors > 0 && first < sector + sectors && end > sector) this.set.add(block);
    }
  }
  clearRange(sector: number, sectors: number): void {
    for (const { block, first, end } of this.blocks()) {
      if (sectors > 0 && first >= sector && end <= sector + sectors) this.set.delete(block);
    }
  }
  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (const bit of this.set) out[bit >> 3] = (out[bit >> 3] ?? 0) | (1 << (bit & 7));
    return out;
  }
}

const SIZE = 4001; // sectors: 501 blocks, the last one is a sector long

const operation = fc.oneof(
  fc.record({ op: fc.constant("set" as const), at: fc.nat(SIZE + 50), n: fc.nat(900) }),
  fc.record({ op: fc.constant("clear" as const), at: fc.nat(SIZE + 50), n: fc.nat(900) }),
  fc.record({ op: fc.constant("or" as const), at: fc.nat(15), bytes: fc.uint8Array({ minLength: 8, maxLength: 8 }) }),
  fc.record({ op: fc.constant("load" as const), at: fc.nat(15), bytes: fc.uint8Array({ minLength: 8, maxLength: 8 }) }),
);

function agree(bitmap: Bitmap, naive: NaiveBitmap): void {
  assert.equal(bitmap.count, naive.set.size);
  const out = new Uint8Array(BITMAP_PAGE_BYTES);
  bitmap.storeBytes(0, out);
  assert.deepEqual(out, naive.bytes(out.length));
  const found: number[] = [];
  for (let bit = bitmap.nextSet(0); bit !== -1; bit = bitmap.nextSet(bit + 1)) found.push(bit);
  assert.deepEqual(
    found,
    [...naive.set].sort((a, b) => a - b),
  );
}

test("bitmap: behaves as a set of blocks under any sequence of operations", () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 25 }), (operations) => {
      const bitmap = new Bitmap(SIZE);
      const naive = new NaiveBitmap(SIZE);
      for (const o of operations) {
        const before = new Set(naive.set);
        if (o.op === "set") {
          naive.setRange(o.at, o.n);
          assert.equal(bitmap.setRange(o.at, o.n), naive.set.size - before.size);
        } else if (o.op === "clear") {
          naive.clearRange(o.at, o.n);
          assert.equal(bitmap.clearRange(o.at, o.n), before.size - naive.set.size);
        } else {
          for (let bit = 0; bit < 64; bit++) {
            const block = o.at * 64 + bit;
            if (block * 8 >= SIZE) continue;
            if (((o.bytes[bit >> 3] as number) >> (bit & 7)) & 1) naive.set.add(block);
            else if (o.op === "load") naive.set.delete(block);
          }
          if (o.op === "or") assert.equal(bitmap.orBytes(o.at * 8, o.bytes), naive.set.size - before.size);
          else bitmap.loadBytes(o.at * 8, o.bytes);
        }
      }
      agree(bitmap, naive);
      const middle = bitmap.nextClear(100, 300);
      const expected = Array.from({ length: 200 }, (_, i) => 100 + i).find((bit) => !naive.set.has(bit)) ?? -1;
      assert.equal(middle, expected);
      assert.equal(bitmap.countRange(33, 450), [...naive.set].filter((bit) => bit >= 33 && bit < 450).length);
    }),
    { numRuns: 150 },
  );
});

test("bitmap: a partly written block is marked, a partly resynced one stays marked, the short last one is cleared", () => {
  const bitmap = new Bitmap(4001);
  assert.equal(bitmap.setRange(7, 2), 2);
  assert.equal(bitmap.clearRange(1, 15), 1, "block 0 is not covered");
  assert.deepEqual([bitmap.test(0), bitmap.test(1)], [true, false]);
  bitmap.setRange(4000, 1);
  assert.equal(bitmap.clearRange(4000, 1), 1, "one sector is the whole last block");
  assert.equal(bitmap.setRange(9, 0) + bitmap.clearRange(0, 0), 0);
  assert.equal(bitmap.setRange(4001, 1), 0, "behind the device, though within its last block");
  assert.equal(bitmap.anySet(4001, 1), false);
  assert.equal(bitmap.anySet(1, 1), true);
  assert.equal(bitmap.anySet(8, 100), false);
});

test("bitmap: pages remember what is not on disk yet", () => {
  const bitmap = new Bitmap(3 * 32768 * 8);
  assert.equal(bitmap.pages, 3);
  assert.equal(bitmap.nextDirtyPage(0), -1);
  bitmap.setRange(32768 * 8 * 2, 8);
  bitmap.setRange(0, 8);
  assert.deepEqual([bitmap.dirtyPages, bitmap.nextDirtyPage(0), bitmap.nextDirtyPage(1)], [2, 0, 2]);
  const page = new Uint8Array(BITMAP_PAGE_BYTES);
  bitmap.takePage(2, page);
  assert.equal(page[0], 1);
  assert.deepEqual([bitmap.dirtyPages, bitmap.nextDirtyPage(1)], [1, -1]);
  bitmap.setRange(32768 * 8 * 2, 8);
  assert.equal(bitmap.isPageDirty(2), false, "nothing changed");
  bitmap.clearRange(32768 * 8 * 2, 8);
  assert.equal(bitmap.isPageDirty(2), true);
  bitmap.loadBytes(0, new Uint8Array(BITMAP_PAGE_BYTES * 3).fill(0xff));
  assert.deepEqual([bitmap.dirtyPages, bitmap.count], [0, bitmap.bits]);
});

test("bitmap: garbage behind the device is neither counted nor stored", () => {
  const bitmap = new Bitmap(16304); // 2038 blocks
  bitmap.loadBytes(0, new Uint8Array(BITMAP_PAGE_BYTES).fill(0xff));
  assert.equal(bitmap.count, 2038);
  const out = new Uint8Array(BITMAP_PAGE_BYTES);
  bitmap.storeBytes(0, out);
  assert.deepEqual([out[254], out[255]], [0x3f, 0]);
  assert.equal(bitmap.nextClear(0), -1);
  assert.equal(bitmap.wireBytes, 256);
});

test("bitmap: growing marks the new blocks if asked, shrinking forgets", () => {
  const bitmap = new Bitmap(2041);
  bitmap.setRange(0, 8);
  bitmap.resize(4096, true);
  assert.deepEqual([bitmap.bits, bitmap.count, bitmap.nextSet(1)], [512, 1 + 256, 256]);
  assert.equal(bitmap.dirtyPages, bitmap.pages);
  bitmap.resize(300_000, false);
  assert.deepEqual([bitmap.count, bitmap.pages], [257, 2]);
  bitmap.resize(8, false);
  assert.deepEqual([bitmap.count, bitmap.bits, bitmap.pages], [1, 1, 1]);
  bitmap.setAll();
  bitmap.clearAll();
  assert.equal(bitmap.count, 0);
});

test("bitmap: a device beyond 16 TiB is refused", () => {
  const refused = (e: unknown): boolean => e instanceof HaError && e.code === ErrorCode.unsupported;
  assert.throws(() => new Bitmap(DEVICE_SECTORS_MAX + 1), refused);
  assert.throws(() => new Bitmap(8).resize(2 ** 45, true), refused);
});
