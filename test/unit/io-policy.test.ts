import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "@hacluster/blockrep/base";
import { IoPolicy } from "@hacluster/blockrep/unstable/drivers/io-policy";
import { type QueuedRequest, RangeQueue } from "@hacluster/blockrep/unstable/drivers/range-queue";

const MIB = 1024 * 1024;

test("io policy: reads run at once only where the page was seen lately", () => {
  const policy = new IoPolicy();
  assert.equal(policy.readNow(0, 4096, 0), false, "a cold page may take the disk's time");
  policy.read(0, 4096);
  assert.equal(policy.readNow(0, 4096, 1), true);
  assert.equal(policy.readNow(0, 8192, 1), false, "half of it is cold");
  policy.wrote(4096, 4096);
  assert.equal(policy.readNow(0, 8192, 1), true);
  policy.wrote(0, MIB);
  assert.equal(policy.readNow(0, MIB, 1), false, "long ones hold up the loop");
  policy.read(1024 * MIB, 4096); // the same entry of the table
  assert.equal(policy.readNow(0, 4096, 1), false);
});

test("io policy: slow calls send everything to the pool, longer each time, and it recovers", () => {
  const policy = new IoPolicy();
  assert.equal(policy.writeNow(0, 4096, 0), true);
  policy.synchronousWrite(0, 4096, 0, 30);
  assert.equal(policy.writeNow(0, 4096, 31), false);
  assert.equal(policy.readNow(0, 4096, 31), false);
  assert.equal(policy.writeNow(0, 4096, 281), true);
  policy.synchronousWrite(0, 4096, 281, 310);
  assert.equal(policy.writeNow(0, 4096, 700), false, "twice as long");
  assert.equal(policy.writeNow(0, 4096, 811), true);
  policy.synchronousRead(0, 4096, 900, 925);
  assert.equal(policy.readNow(0, 4096, 5000), false, "the kernel dropped pages: none counts as cached any more");
});

test("io policy: one call that lost the processor means nothing, three in a row do", () => {
  const policy = new IoPolicy();
  policy.synchronousWrite(0, 4096, 0, 5);
  policy.synchronousWrite(0, 4096, 5, 10);
  assert.equal(policy.writeNow(0, 4096, 10), true);
  policy.synchronousWrite(0, 4096, 500, 505);
  assert.equal(policy.writeNow(0, 4096, 505), true, "the first two are long ago");
  policy.synchronousWrite(0, 4096, 510, 515);
  policy.synchronousWrite(0, 4096, 520, 525);
  assert.equal(policy.writeNow(0, 4096, 525), false);
});

test("io policy: a flush or a pool request that drags on keeps writes off the event loop", () => {
  const policy = new IoPolicy();
  policy.flushStarted(0);
  assert.equal(policy.writeNow(0, 4096, 10), true);
  assert.equal(policy.writeNow(0, 4096, 30), false);
  policy.flushEnded();
  assert.equal(policy.writeNow(0, 4096, 30), true);
  policy.oldestPoolMs = 30;
  assert.equal(policy.writeNow(0, 4096, 60), false);
});

test("io policy: much unflushed data, and parts of cold pages, go to the pool", () => {
  const policy = new IoPolicy();
  assert.equal(policy.writeNow(512, 512, 0), false, "the kernel would read the page first");
  policy.wrote(0, 4096);
  assert.equal(policy.writeNow(512, 512, 0), true);
  for (let i = 0; i < 65; i++) policy.wrote(i * MIB, MIB);
  assert.equal(policy.writeNow(0, 4096, 0), false);
  policy.flushStarted(0);
  policy.flushEnded();
  assert.equal(policy.writeNow(0, 4096, 0), true);
});

test("range queue: what overlaps runs in the order it came, all else at once", () => {
  const queue = new RangeQueue();
  const order: string[] = [];
  const submit = (name: string, start: number, end: number, writes: boolean): QueuedRequest =>
    queue.submit(start, end, writes, () => order.push(name));
  const a = submit("write a", 0, 10, true);
  const b = submit("read b", 5, 6, false);
  const c = submit("read c", 8, 20, false);
  const d = submit("write d", 15, 16, true);
  submit("write e", 30, 40, true);
  assert.deepEqual(order, ["write a", "write e"]);
  queue.finished(a);
  assert.deepEqual(order, ["write a", "write e", "read b", "read c"]);
  assert.equal(queue.conflicts(5, 6, false), false, "reads do not wait for reads");
  assert.equal(queue.conflicts(5, 6, true), true);
  queue.finished(b);
  queue.finished(c);
  assert.deepEqual(order.at(-1), "write d");
  queue.finished(d);
  assert.equal(queue.size, 1);
});

test("range queue: any schedule leaves the last write of every place", () => {
  for (let seed = 0; seed < 50; seed++) {
    const prng = new Prng(seed);
    const queue = new RangeQueue();
    const model = new Array<number>(20).fill(0);
    const actual = new Array<number>(20).fill(0);
    const running: (() => void)[] = [];
    for (let i = 1; i <= 60; i++) {
      const start = prng.below(20);
      const end = prng.between(start + 1, 20);
      model.fill(i, start, end);
      const request = queue.submit(start, end, true, () =>
        running.push(() => {
          actual.fill(i, start, end);
          queue.finished(request);
        }),
      );
      while (running.length > 0 && prng.chance(1, 2)) running.splice(prng.below(running.length), 1)[0]?.();
    }
    while (running.length > 0) running.splice(prng.below(running.length), 1)[0]?.();
    assert.deepEqual(actual, model, `seed ${seed}`);
    assert.equal(queue.size, 0);
  }
});
