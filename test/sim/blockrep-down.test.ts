import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeSuperblock, MdFlag, requireClean } from "@hacluster/blockrep/unstable/meta/superblock";
import { World } from "./blockrep/world.ts";

test("down after writes and a demotion leaves clean metadata on both nodes", () => {
  const world = new World(5, { calm: true });
  world.operator.start();
  world.runUntil(3000, () => false);
  assert.ok(world.operator.application.acknowledged > 10);
  world.operator.retire();
  const codes: number[] = [];
  world.runUntil(6000, () => world.operator.application.node === undefined);
  for (const node of world.nodes) node.command({ verb: "down" }, (code) => codes.push(code));
  world.runUntil(20_000, () => codes.length === 2);
  assert.deepEqual(codes, [1, 1]);
  for (const node of world.nodes) {
    const superblock = decodeSuperblock(node.store.bytes(node.layout.superblockSector, 8));
    requireClean(superblock);
    assert.equal(superblock.flags & (MdFlag.primaryIndicator | MdFlag.connectedIndicator), 0);
    assert.equal(superblock.flags & MdFlag.wasUpToDate, MdFlag.wasUpToDate);
  }
  assert.deepEqual(world.violations, []);
});
