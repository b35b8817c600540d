import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { HA_CF_DIRECTIVES } from "@hacluster/heartbeat/unstable/config/ha-cf-directives";

const text = readFileSync(fileURLToPath(new URL("../../../docs/COMPATIBILITY.md", import.meta.url)), "utf8");

test("docs: COMPATIBILITY.md has a row for every directive of ha.cf", () => {
  const from = text.indexOf("### Directives of ha.cf");
  const section = text.slice(from, text.indexOf("\n### ", from + 1));
  const missing = [...HA_CF_DIRECTIVES.keys()].filter(
    (name) => !new RegExp(`^\\|[^|]*\`${name}[ \`]`, "m").test(section),
  );
  assert.deepEqual(missing, []);
});
