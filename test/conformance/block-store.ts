import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode, type HaError } from "@hacluster/blockrep/base";
import type { BlockStore } from "@hacluster/blockrep/unstable/drivers/block-store";

/** The store's calls as promises, for tests. */
export const ask = {
  read: (store: BlockStore, offset: number, length: number): Promise<Uint8Array> => {
    const target = new Uint8Array(length);
    return settle((done) => store.read(offset, target, done)).then(() => target);
  },
  write: (store: BlockStore, offset: number, data: Uint8Array): Promise<void> =>
    settle((done) => store.write(offset, data, done)),
  flush: (store: BlockStore): Promise<void> => settle((done) => store.flush(done)),
  discard: (store: BlockStore, offset: number, length: number): Promise<void> =>
    settle((done) => store.discard(offset, length, done)),
  zero: (store: BlockStore, offset: number, length: number): Promise<void> =>
    settle((done) => store.zero(offset, length, done)),
};

function settle(call: (done: (error: HaError | undefined) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => call((error) => (error === undefined ? resolve() : reject(error))));
}

export function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 0xff);
}

const MIB = 1024 * 1024;

/** What every store keeps, whatever is behind it. `open` makes one of 4 MiB, full of zeroes. */
export function blockStoreConformance(name: string, open: () => Promise<{ store: BlockStore; end: () => void }>): void {
  const check = (what: string, body: (store: BlockStore) => Promise<void>): void => {
    test(`${name}: ${what}`, async () => {
      const { store, end } = await open();
      try {
        await body(store);
      } finally {
        await store.close();
        end();
      }
    });
  };

  check("is as large as it was made, and reads zeroes at first", async (store) => {
    assert.equal(store.sizeBytes, 4 * MIB);
    assert.deepEqual(await ask.read(store, 4 * MIB - 512, 512), new Uint8Array(512));
  });

  check("reads back what was written, at sector and at megabyte size", async (store) => {
    for (const [offset, length] of [
      [0, 512],
      [512, 4096],
      [MIB - 512, 1024],
      [MIB, MIB],
      [4 * MIB - 4096, 4096],
    ] as const) {
      const data = pattern(length, offset);
      await ask.write(store, offset, data);
      assert.deepEqual(await ask.read(store, offset, length), data);
    }
  });

  check("keeps overlapping requests in the order of their calls", async (store) => {
    const calls: Promise<unknown>[] = [];
    for (let i = 1; i <= 40; i++) {
      // short and long ones, so that a store with two ways of working uses both
      const length = i % 3 === 0 ? 300 * 1024 : 4096;
      calls.push(ask.write(store, 0, new Uint8Array(length).fill(i)));
      calls.push(ask.read(store, 0, 512).then((seen) => assert.equal(seen[0], i)));
    }
    await Promise.all(calls);
    assert.equal((await ask.read(store, 0, 512))[0], 40);
  });

  check("discard and zero leave zeroes in their range and nothing else changed", async (store) => {
    const data = pattern(2 * MIB, 3);
    for (const [verb, offset, length] of [
      ["discard", 4096, 8192],
      ["discard", 512 * 1024, MIB],
      ["discard", 512, 512],
      ["zero", 12288, 4096],
      ["zero", 256 * 1024, MIB],
    ] as const) {
      await ask.write(store, 0, data);
      await ask[verb](store, offset, length);
      const expected = data.slice().fill(0, offset, offset + length);
      assert.equal(Buffer.compare(await ask.read(store, 0, data.length), expected), 0, `${verb} ${offset} ${length}`);
    }
  });

  check("a write after a discard of the same place stays", async (store) => {
    const done = [ask.discard(store, 0, MIB), ask.write(store, 4096, pattern(4096, 9))];
    await Promise.all(done);
    assert.deepEqual(await ask.read(store, 4096, 4096), pattern(4096, 9));
  });

  check("many flushes at once all succeed", async (store) => {
    await ask.write(store, 0, pattern(4096, 1));
    await Promise.all(Array.from({ length: 20 }, () => ask.flush(store)));
  });

  check("refuses a range that leaves the disk", async (store) => {
    const outside = { code: ErrorCode.storeOutOfRange };
    await assert.rejects(ask.read(store, 4 * MIB - 512, 1024), outside);
    await assert.rejects(ask.write(store, 4 * MIB, new Uint8Array(512)), outside);
    await assert.rejects(ask.write(store, -512, new Uint8Array(512)), outside);
    await assert.rejects(ask.discard(store, 0, 5 * MIB), outside);
    await assert.rejects(ask.zero(store, 4 * MIB - 512, 513), outside);
  });
}
