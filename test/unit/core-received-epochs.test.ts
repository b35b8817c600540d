import assert from "node:assert/strict";
import { test } from "node:test";
import { ReceivedEpochs } from "@hacluster/blockrep/unstable/core/epochs";

test("epochs: writes held back for an earlier epoch may begin once that is acknowledged, though their own barrier came", () => {
  // protocols A and B: the sender's application goes on, and so does the sender, before its writes are on our disk
  const flushes: ((ok: boolean) => void)[] = [];
  const acknowledged: [number, number][] = [];
  const epochs = new ReceivedEpochs(
    (done) => flushes.push(done),
    (barrier, size) => acknowledged.push([barrier, size]),
    () => ({ delayMs: 0, writes: 0, bytes: 0 }),
    () => 0,
  );
  const first = epochs.begin(4096);
  epochs.barrier(1);
  epochs.end(first);
  const second = epochs.begin(4096);
  assert.equal(epochs.isOldest(second), false, "the first epoch is not durable yet");
  epochs.barrier(2);
  assert.equal(epochs.isOldest(second), false);
  flushes.shift()?.(true);
  assert.deepEqual(acknowledged, [[1, 1]]);
  assert.equal(epochs.waiting, 1);
  assert.equal(epochs.isOldest(second), true, "nothing but itself is waiting");
  epochs.end(second);
  flushes.shift()?.(true);
  assert.deepEqual(acknowledged, [
    [1, 1],
    [2, 1],
  ]);
});
