import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { formatDiagnostic } from "@hacluster/blockrep/base";
import { dumpDrbdConf } from "@hacluster/blockrep/unstable/config/dump";
import { parseDrbdConf } from "@hacluster/blockrep/unstable/config/parser";
import { readDrbdConf } from "@hacluster/blockrep/unstable/drivers/config-files";
import { DRBD_CONFIG_VECTORS, RECORDING_HOST, readRecordedDumps, readStatements } from "../support/drbdadm.ts";

const samples = `${DRBD_CONFIG_VECTORS}samples`;

test("drbd.conf statements: the recorded verdict, and the recorded dump", () => {
  const dumps = readRecordedDumps();
  for (const { verdict, name, text } of readStatements()) {
    const include = (pattern: string) => (pattern.includes("*") ? [] : { error: "no such file" });
    const { config, diagnostics } = parseDrbdConf({ file: "/etc/drbd.conf", text }, include);
    const accepted = verdict === "accept" || verdict === "looser";
    assert.equal(!diagnostics.hasErrors, accepted, `${name}: ${diagnostics.items.map(formatDiagnostic).join("\n")}`);
    if (verdict === "accept") {
      assert.equal(dumpDrbdConf(config, { hostName: RECORDING_HOST }), dumps.get(name), name);
    }
  }
});

for (const file of readdirSync(samples).filter((name) => name.endsWith(".conf"))) {
  test(`drbd.conf sample ${file}: dump as drbdadm-84 prints it`, () => {
    const result = readDrbdConf({ file: `${samples}/${file}` });
    assert.ok(result !== undefined);
    assert.deepEqual(
      result.diagnostics.items.filter((d) => d.severity === "error"),
      [],
    );
    const dump = dumpDrbdConf(result.config, {
      hostName: RECORDING_HOST,
      absolute: (path) => path.replace(samples, "/etc/drbd"),
    });
    assert.equal(dump, readFileSync(`${samples}/${file.replace(/\.conf$/, ".dump")}`, "utf8"));
  });

  test(`drbd.conf sample ${file}: its dump is read back as the same configuration`, () => {
    const recorded = readFileSync(`${samples}/${file.replace(/\.conf$/, ".dump")}`, "utf8");
    const { config, diagnostics } = parseDrbdConf({ file: "/etc/drbd.conf", text: recorded });
    assert.equal(diagnostics.hasErrors, false);
    const statements = (text: string): string => text.replace(/^ *#.*\n/gm, "");
    assert.equal(statements(dumpDrbdConf(config, { hostName: RECORDING_HOST })), statements(recorded));
  });
}
