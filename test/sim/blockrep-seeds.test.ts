import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runSeed } from "./blockrep/run.ts";

const SEEDS = 30;

const EXPECTED = [
  "activity log replayed",
  "diskless Primary",
  "eviction",
  "flush error",
  "power loss of a Primary",
  "power loss of a Secondary",
  "promotion agreed",
  "promotion alone",
  "resync",
  "split brain",
  "split brain resolved",
];

test(`replication simulator: ${SEEDS} seeds without a violation`, () => {
  const covered = new Set<string>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const result = runSeed(seed);
    assert.deepEqual(result.violations, [], `npm run sim -- --only blockrep --seed ${seed} --trace`);
    for (const what of result.covered.keys()) covered.add(what);
  }
  assert.deepEqual(
    EXPECTED.filter((what) => !covered.has(what)),
    [],
    "these never happened: the seeds prove nothing about them",
  );
});

test("replication simulator: the same seed gives the same run, another seed another", () => {
  for (const seed of [3, 17, 1_000_000_000]) assert.equal(runSeed(seed).traceHash, runSeed(seed).traceHash);
  assert.notEqual(runSeed(3).traceHash, runSeed(4).traceHash);
});

// compiled to build/test/sim; the seeds stay in the sources
const folder = fileURLToPath(new URL("../../../test/sim/seeds", import.meta.url));
for (const file of readdirSync(folder).filter((name) => name.startsWith("blockrep-"))) {
  const { seed, symptom } = JSON.parse(readFileSync(join(folder, file), "utf8")) as { seed: number; symptom: string };
  test(`replication simulator, once failed: ${symptom}`, () => {
    assert.deepEqual(runSeed(seed).violations, []);
  });
}
