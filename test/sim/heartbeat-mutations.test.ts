import assert from "node:assert/strict";
import { test } from "node:test";
import { MUTATIONS, type Mutation } from "./heartbeat/options.ts";
import { runSeed } from "./heartbeat/run.ts";

/** Which rule each mutation must break. */
const BREAKS: Record<Mutation, string> = {
  "early-release": "H1",
  "no-initdead": "H1",
  "wrong-order": "H3",
  "forged-fence": "H1",
  "lying-stop": "H1",
  "fresh-replay": "S1",
  "no-return": "H2",
  "no-ipfail": "H2",
  "blind-monitor": "H2",
};
/** A mutation that so many seeds do not see is not seen. */
const SEEDS = 200;

for (const mutation of MUTATIONS) {
  test(`cluster simulator: ${mutation} breaks ${BREAKS[mutation]}`, () => {
    for (let seed = 0; seed < SEEDS; seed++) {
      if (runSeed(seed, { mutation }).violations.some((line) => line.startsWith(`${BREAKS[mutation]} `))) return;
    }
    assert.fail(`${SEEDS} seeds did not notice`);
  });
}
