import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDiagnostic, nearestWord, Prng } from "@hacluster/blockrep/base";

test("Prng: the same seed gives the same sequence, another seed another", () => {
  const draw = (seed: number) =>
    Array.from(
      { length: 8 },
      (
        (p) => () =>
          p.u32()
      )(new Prng(seed)),
    );
  assert.deepEqual(draw(7), draw(7));
  assert.notDeepEqual(draw(7), draw(8));
  assert.notDeepEqual(draw(7), draw(7 + 2 ** 33));
});

test("Prng: below() stays below and reaches every value", () => {
  const prng = new Prng(1);
  const seen = new Set<number>();
  for (let i = 0; i < 1000; i++) seen.add(prng.below(5));
  assert.deepEqual(
    [...seen].sort((a, b) => a - b),
    [0, 1, 2, 3, 4],
  );
});

test("nearestWord: finds the misspelt directive, and nothing for a stranger", () => {
  assert.equal(nearestWord("keepalvie", ["keepalive", "deadtime"]), "keepalive");
  assert.equal(nearestWord("zzzzzz", ["keepalive", "deadtime"]), undefined);
});

test("formatDiagnostic: is file, line, column, what is wrong, what to write", () => {
  const at = { file: "/etc/ha.d/ha.cf", line: 3, column: 1 };
  assert.equal(
    formatDiagnostic({ severity: "error", at, message: 'unknown directive "keepalvie"', hint: 'write "keepalive"' }),
    '/etc/ha.d/ha.cf:3:1: error: unknown directive "keepalvie"; write "keepalive"',
  );
});
