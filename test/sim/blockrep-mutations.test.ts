import assert from "node:assert/strict";
import { test } from "node:test";
import type { Mutations } from "@hacluster/blockrep/unstable/core/ports";
import type { SimOptions } from "./blockrep/options.ts";
import { runSeed } from "./blockrep/run.ts";

/** Seeds within which a missing protection has to show. */
const SEEDS_MAX = 80;
const GREEN = 8;

/** Each takes one protection away, in the course of events where it matters; a simulator that stayed green without it would prove nothing. */
const MUTATIONS: readonly (readonly [keyof Mutations, SimOptions])[] = [
  ["skipActivityLogFlush", {}],
  ["skipEvictionFlush", { focus: "lonely" }],
  ["skipBarrierFlush", {}],
  ["skipResyncFlush", { focus: "resync" }],
  ["skipBitmapWrite", { focus: "lonely" }],
];

for (const [mutation, options] of MUTATIONS) {
  test(`replication simulator notices ${mutation}`, () => {
    for (let seed = 1; seed <= SEEDS_MAX; seed++) {
      if (runSeed(seed, { ...options, mutations: { [mutation]: true } }).violations.length > 0) return;
    }
    assert.fail(`${SEEDS_MAX} seeds without a violation`);
  });
}

for (const focus of ["lonely", "resync"] as const) {
  test(`replication simulator: the course of events "${focus}" is harmless with all protections`, () => {
    for (let seed = 1; seed <= GREEN; seed++) assert.deepEqual(runSeed(seed, { focus }).violations, [], `seed ${seed}`);
  });
}
