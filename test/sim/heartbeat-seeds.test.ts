import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runSeed } from "./heartbeat/run.ts";

const saved = fileURLToPath(new URL("../../../test/sim/seeds", import.meta.url));

test("cluster simulator: the same seed gives the same run", () => {
  for (const seed of [1, 7, 1_000_000_000]) assert.deepEqual(runSeed(seed), runSeed(seed));
  assert.notEqual(runSeed(1).traceHash, runSeed(2).traceHash);
});

test("cluster simulator: seeds 0..99 keep H1, H2, H3 and S1", () => {
  for (let seed = 0; seed < 100; seed++) assert.deepEqual(runSeed(seed).violations, [], `seed ${seed}`);
});

test("cluster simulator: seeds that once failed", () => {
  for (const name of readdirSync(saved).filter((file) => file.startsWith("heartbeat-"))) {
    const { seed, symptom } = JSON.parse(readFileSync(`${saved}/${name}`, "utf8")) as { seed: number; symptom: string };
    assert.deepEqual(runSeed(seed).violations, [], `seed ${seed}: ${symptom}`);
  }
});
