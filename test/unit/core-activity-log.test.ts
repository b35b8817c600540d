import assert from "node:assert/strict";
import { test } from "node:test";
import { ActivityLog, extentOfSector } from "@hacluster/blockrep/unstable/core/activity-log";
import {
  AL_BLOCK_SIZE,
  AL_INITIALISED,
  alBlockPosition,
  encodeAlBlock,
} from "@hacluster/blockrep/unstable/meta/activity-log-block";
import { readAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { type AlGeometry, alBlocks, layoutFor } from "@hacluster/blockrep/unstable/meta/layout";
import fc from "fast-check";

function run(log: ActivityLog, first: number, last: number = first): void {
  assert.equal(log.prepare(first, last), "prepared");
  if (log.begin() !== undefined) log.commit();
}

test("activity log: an extent is hot after the commit, not before", () => {
  const log = new ActivityLog(257, 8, 8);
  assert.equal(extentOfSector(8191) + extentOfSector(8192), 1);
  assert.equal(log.tryAcquire(0, 0), false);
  assert.equal(log.prepare(0, 0), "prepared");
  assert.equal(log.tryAcquire(0, 0), false, "only collected");
  const transaction = log.begin();
  assert.deepEqual(transaction?.block.updates, [{ slot: 256, extent: 0 }]);
  assert.deepEqual(transaction?.evicted, []);
  assert.equal(transaction?.block.trNumber, 8);
  assert.equal(log.tryAcquire(0, 0), false, "still being written");
  assert.equal(log.prepare(1, 1), "busy");
  log.commit();
  assert.equal(log.tryAcquire(0, 0), true);
  assert.equal(log.references(0), 2);
  assert.equal(log.release(0, 0), false);
  assert.equal(log.release(0, 0), true);
  assert.deepEqual(log.hotExtents(), [0]);
  assert.equal(log.begin(), undefined);
});

test("activity log: the transactions of a recorded Primary, slot for slot", () => {
  const log = new ActivityLog(257, 8);
  for (let i = 0; i < 8; i++) {
    assert.deepEqual(log.begin(true)?.block.updates, []);
    log.commit();
  }
  const seen: unknown[] = [];
  for (const extent of [0, 3, 5, 9, 14]) {
    log.prepare(extent, extent);
    const block = log.begin()?.block;
    seen.push([block?.trNumber, block?.updates[0]?.slot, block?.updates[0]?.extent, block?.contextStart]);
    log.commit();
  }
  assert.deepEqual(seen, [
    [8, 256, 0, 0],
    [9, 255, 3, 0],
    [10, 254, 5, 0],
    [11, 253, 9, 0],
    [12, 252, 14, 0],
  ]);
});

test("activity log: the least recently used extent without references leaves first", () => {
  const log = new ActivityLog(67, 8);
  for (let extent = 0; extent < 67; extent++) run(log, extent);
  for (let extent = 1; extent < 67; extent++) log.release(extent, extent);
  assert.equal(log.tryAcquire(1, 1), true);
  log.release(1, 1); // 1 is the youngest now, 0 is still referenced
  assert.equal(log.prepare(100, 101), "prepared");
  const transaction = log.begin();
  assert.deepEqual(
    [...(transaction?.evicted ?? [])].sort((a, b) => a - b),
    [2, 3],
  );
  assert.equal(transaction?.block.context[0], 66, "context is the state before");
  log.commit();
  assert.deepEqual([log.isHot(0), log.isHot(1), log.isHot(2), log.isHot(100)], [true, true, false, true]);
});

test("activity log: with every slot referenced a cold write waits until one is released", () => {
  const log = new ActivityLog(67, 8);
  for (let extent = 0; extent < 67; extent++) run(log, extent);
  assert.equal(log.prepare(99, 99), "full");
  assert.equal(log.references(99), 0);
  assert.equal(log.release(5, 5), true);
  assert.equal(log.prepare(99, 99), "prepared");
  assert.deepEqual(log.begin()?.evicted, [5]);
});

test("activity log: a request never evicts its own extents", () => {
  const log = new ActivityLog(67, 8);
  for (let extent = 0; extent < 67; extent++) run(log, extent);
  log.release(66, 66);
  assert.equal(log.prepare(66, 67), "full", "only 66 itself could give way to 67");
  log.release(3, 3);
  assert.equal(log.prepare(66, 67), "prepared");
  assert.deepEqual(log.begin()?.evicted, [3]);
});

test("activity log: 64 changes make a transaction, more wait for the next", () => {
  const log = new ActivityLog(300, 8);
  assert.equal(log.prepare(0, 40), "prepared");
  assert.equal(log.prepare(100, 122), "prepared");
  assert.equal(log.collected, 64);
  assert.equal(log.prepare(200, 200), "full");
  assert.equal(log.prepare(10, 30), "prepared", "these are in it already");
  assert.equal(log.begin()?.block.updates.length, 64);
  log.commit();
  assert.equal(log.prepare(200, 200), "prepared");
});

test("activity log: an aborted transaction leaves everything as it was", () => {
  const log = new ActivityLog(67, 8);
  for (let extent = 0; extent < 67; extent++) {
    run(log, extent);
    log.release(extent, extent);
  }
  const before = log.hotExtents();
  log.prepare(70, 72);
  const first = log.begin();
  log.abort();
  assert.deepEqual(log.hotExtents(), before);
  assert.equal(log.trNumber, first?.block.trNumber);
  assert.equal(log.tryAcquire(0, 2), true);
  log.release(0, 2);
  log.reset();
  assert.deepEqual([log.used, log.trNumber], [0, 0]);
});

test("activity log: slots are limited by the blocks that must describe them", () => {
  assert.equal(new ActivityLog(65534, 8).slots, 919 * 7);
  assert.equal(new ActivityLog(65534, 4096).slots, 65534);
  assert.throws(() => new ActivityLog(66, 8));
});

const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ op: fc.constant("write" as const), at: fc.nat(140), n: fc.nat(3) }) },
  { weight: 4, arbitrary: fc.record({ op: fc.constant("release" as const), at: fc.nat(1000), n: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("transact" as const), at: fc.constant(0), n: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("abort" as const), at: fc.constant(0), n: fc.constant(0) }) },
);

/** Everything that runs is in the log on disk, whatever torn block the crash left; the bounds hold. */
function checkAgainstModel(
  steps: readonly { op: string; at: number; n: number }[],
  al: AlGeometry,
  slots: number,
): void {
  const layout = layoutFor({ index: 0 }, 262144);
  const area = new Uint8Array(alBlocks(al) * AL_BLOCK_SIZE);
  for (let i = 0; i < alBlocks(al); i++) area.set(encodeAlBlock(AL_INITIALISED), i * AL_BLOCK_SIZE);
  const log = new ActivityLog(slots, alBlocks(al));
  const running: [number, number][] = [];
  let collected: [number, number][] = [];
  const disk = () => new Set(readAl(area, { ...layout, al }).hotExtents);
  for (const s of steps) {
    if (s.op === "write") {
      const [first, last] = [s.at, s.at + s.n];
      const allHot = Array.from({ length: s.n + 1 }, (_, i) => log.isHot(first + i)).every(Boolean);
      assert.equal(log.tryAcquire(first, last), allHot);
      if (allHot) running.push([first, last]);
      else if (log.prepare(first, last) === "prepared") collected.push([first, last]);
    } else if (s.op === "release" && running.length > 0) {
      const [request] = running.splice(s.at % running.length, 1);
      if (request !== undefined) log.release(...request);
    } else if (s.op === "transact") {
      const transaction = log.begin();
      if (transaction === undefined) continue;
      const at = alBlockPosition(transaction.block.trNumber, al.stripes, al.stripeSize4k) * AL_BLOCK_SIZE;
      for (const e of transaction.evicted) {
        assert.ok(!running.some(([a, b]) => a <= e && e <= b), `extent ${e} is written to and evicted`);
      }
      const torn = area.slice(at, at + AL_BLOCK_SIZE);
      area[at + 100] = (area[at + 100] as number) ^ 0x55;
      const crashed = readAl(area, { ...layout, al });
      assert.equal(crashed.complete, true);
      for (const [a, b] of running) for (let e = a; e <= b; e++) assert.ok(crashed.hotExtents.includes(e));
      area.set(torn, at);
      area.set(encodeAlBlock(transaction.block), at);
      log.commit();
      running.push(...collected);
      collected = [];
      assert.deepEqual(
        [...disk()].sort((a, b) => a - b),
        log.hotExtents().sort((a, b) => a - b),
      );
    } else if (s.op === "abort") {
      if (log.begin() === undefined) continue;
      const expected = [...disk()].sort((a, b) => a - b);
      log.abort();
      // references on extents that were hot stay with the requests; the model ends them here
      for (const [a, b] of collected)
        for (let e = a; e <= b; e++) if (log.references(e) > 0 && !expected.includes(e)) assert.fail();
      assert.deepEqual(
        log.hotExtents().sort((a, b) => a - b),
        expected,
      );
      return;
    }
    for (const [a, b] of running) for (let e = a; e <= b; e++) assert.ok(log.isHot(e) && log.references(e) > 0);
    assert.ok(log.used <= log.slots);
  }
  const held = new Map<number, number>();
  for (const [a, b] of [...running, ...collected]) for (let e = a; e <= b; e++) held.set(e, (held.get(e) ?? 0) + 1);
  for (let e = 0; e < 150; e++) assert.equal(log.references(e), held.get(e) ?? 0);
}

test("activity log: the log on disk names every extent that is written to, at any moment", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.constantFrom(67, 80), (steps, slots) =>
      checkAgainstModel(steps, { stripes: 2, stripeSize4k: 4 }, slots),
    ),
    { numRuns: 60 },
  );
});
