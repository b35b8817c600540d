import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "@hacluster/blockrep/base";
import { ClusterEngine } from "@hacluster/heartbeat/unstable/core/engine";

test("placeholder", () => {
  assert.ok(ClusterEngine !== undefined && Prng !== undefined);
});
