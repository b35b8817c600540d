import assert from "node:assert/strict";
import { test } from "node:test";
import { DataFlag } from "@hacluster/blockrep/unstable/wire/constants";
import type { DataPacket } from "@hacluster/blockrep/unstable/wire/packets";
import { EnginePair } from "../support/engine-pair.ts";

const flagsOf = (pair: EnginePair): number[] =>
  pair.a.sent.filter((p): p is DataPacket => p.kind === "P_DATA").map((p) => p.dpFlags);

test("protocol C: a write is complete when the peer's disk has it", () => {
  const pair = EnginePair.connected({ net: { protocol: "C" } });
  pair.b.holding = true;
  const write = pair.a.write(8, 8, 1);
  pair.run(100);
  assert.equal(write.errno, undefined);
  pair.b.releaseIo();
  pair.done(write);
  assert.deepEqual(flagsOf(pair), [DataFlag.RW_SYNC | DataFlag.SEND_WRITE_ACK]);
});

test("protocol B: a write is complete when the peer has it in memory", () => {
  const pair = EnginePair.connected({ net: { protocol: "B" } });
  pair.b.holding = true;
  const write = pair.a.write(8, 8, 1);
  pair.done(write);
  assert.deepEqual(flagsOf(pair), [DataFlag.RW_SYNC | DataFlag.SEND_RECEIVE_ACK]);
  assert.deepEqual(pair.b.dataOf(8, 1), new Uint8Array(512));
  const flush = pair.a.flush();
  pair.run(100);
  assert.equal(flush.errno, undefined, "a flush waits for the peer's disk");
  pair.b.releaseIo();
  pair.done(flush);
  assert.deepEqual(pair.b.dataOf(8, 8), new Uint8Array(4096).fill(1));
  assert.equal(pair.a.volume.peerPending, 0);
});

test("protocol A is agreed with the peer and run as C: each write asks for its answer and waits for it", () => {
  const pair = EnginePair.connected({ net: { protocol: "A" } });
  assert.equal(pair.a.snapshot.protocol, "A");
  pair.b.holding = true;
  const writes = [pair.a.write(8, 8, 1), pair.a.write(800, 8, 2)];
  pair.run(100);
  for (const write of writes) assert.equal(write.errno, undefined);
  pair.b.releaseIo();
  for (const write of writes) pair.done(write);
  const flags = DataFlag.RW_SYNC | DataFlag.SEND_WRITE_ACK;
  assert.deepEqual(flagsOf(pair), [flags, flags]);
  assert.deepEqual(pair.b.dataOf(8, 8), new Uint8Array(4096).fill(1));
  assert.deepEqual(pair.b.dataOf(800, 8), new Uint8Array(4096).fill(2));
});

test("protocol A and B: what a lost connection may have taken is copied afterwards", () => {
  for (const protocol of ["A", "B"] as const) {
    const pair = EnginePair.connected({ net: { protocol } });
    pair.drop = (from, packet) => from === pair.a && packet.kind === "P_DATA";
    const write = pair.a.write(8, 8, 1);
    pair.run(5);
    pair.reset();
    pair.done(write);
    pair.drop = () => false;
    pair.until(() => pair.inSync, protocol);
    assert.deepEqual(pair.b.data, pair.a.data);
  }
});

test("protocol A: a failed write on the peer is on record although the application was told success", () => {
  const pair = EnginePair.connected({ net: { protocol: "A" }, disk: { onIoError: "pass_on" } });
  pair.b.failing = "write";
  pair.done(pair.a.write(8, 8, 1));
  pair.run(50);
  assert.equal(pair.a.volume.outOfSyncBlocks, 1);
});

test("protocol A and B: during a resync every write is acknowledged", () => {
  for (const protocol of ["A", "B"] as const) {
    const pair = EnginePair.connected({ net: { protocol }, disk: { resyncRateKib: 40 } });
    pair.must(pair.b, { verb: "disconnect" });
    for (let i = 0; i < 10; i++) pair.done(pair.a.write(i * 16, 8, i + 1));
    pair.must(pair.b, { verb: "connect" });
    pair.until(() => pair.b.snapshot.conn === 17, "a resync");
    pair.a.sent.length = 0;
    pair.done(pair.a.write(15 * 16, 8, 99));
    const [flags] = flagsOf(pair);
    assert.ok(((flags ?? 0) & DataFlag.SEND_WRITE_ACK) !== 0);
    assert.equal(((flags ?? 0) & DataFlag.SEND_RECEIVE_ACK) !== 0, protocol === "B");
    pair.until(() => pair.inSync, "in sync");
    assert.deepEqual(pair.b.dataOf(0, 400), pair.a.dataOf(0, 400));
  }
});

test("protocol B: epochs that the peer's disk holds up arrive whole and in order", () => {
  const pair = EnginePair.connected({ net: { protocol: "B" } });
  pair.b.holding = true;
  const writes = [0, 1, 2, 3].map((i) => {
    const write = pair.a.write(8 + i * 8, 8, i + 1);
    pair.run(5);
    return write;
  });
  pair.b.releaseIo();
  for (const write of writes) pair.done(write);
  pair.until(() => pair.a.volume.epochs === 0, "all epochs are acknowledged");
  assert.deepEqual(pair.b.data, pair.a.data);
});
