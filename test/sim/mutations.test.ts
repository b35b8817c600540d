import assert from "node:assert/strict";
import { test } from "node:test";
import type { Mutations } from "@hacluster/blockrep/unstable/core/ports";
import { runSeed } from "./blockrep/run.ts";

/** Seeds within which a missing protection has to show. */
const SEEDS_MAX = 150;

/** Each takes one protection away; a simulator that stays green without it would prove nothing. */
const MUTATIONS: readonly (keyof Mutations)[] = [
  "skipActivityLogFlush",
  "skipEvictionFlush",
  "skipBarrierFlush",
  "skipResyncFlush",
  "skipBitmapWrite",
];

for (const mutation of MUTATIONS) {
  test(`replication simulator notices ${mutation}`, () => {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      if (runSeed(seed, { mutations: { [mutation]: true } }).violations.length > 0) return;
    }
    assert.fail(`${SEEDS_MAX} seeds without a violation`);
  });
}
