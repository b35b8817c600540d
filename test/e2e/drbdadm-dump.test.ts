import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { formatDiagnostic } from "@hacluster/blockrep/base";
import { dumpDrbdConf } from "@hacluster/blockrep/unstable/config/dump";
import { OPTIONS, type OptionSpec } from "@hacluster/blockrep/unstable/config/options";
import { readDrbdConf } from "@hacluster/blockrep/unstable/drivers/config-files";
import fc from "fast-check";
import { DRBD_CONFIG_VECTORS, DRBDADM_84, drbdadmDump, readStatements } from "../support/drbdadm.ts";
import { skipUnless } from "../support/requires.ts";

const needs = { files: { [DRBDADM_84]: "Debian package drbd-utils" } };

function inFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "drbd-conf-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "drbd.conf");
}

/** Compare verdict and dump of one file; returns both verdicts. */
function compare(file: string, name: string): { ours: boolean; theirs: boolean } {
  const answer = drbdadmDump(file);
  const result = readDrbdConf({ file });
  assert.ok(result !== undefined);
  const ours = !result.diagnostics.hasErrors;
  if (ours && answer.accepted) {
    assert.equal(dumpDrbdConf(result.config, { hostName: hostname() }), answer.dump, name);
  }
  return { ours, theirs: answer.accepted };
}

test("drbdadm-84 gives every short configuration the verdict that we give it, and the same dump", (t) => {
  if (skipUnless(t, needs)) return;
  const file = inFolder(t);
  const expected = {
    accept: { ours: true, theirs: true },
    reject: { ours: false, theirs: false },
    stricter: { ours: false, theirs: true },
    looser: { ours: true, theirs: false },
  };
  for (const { verdict, name, text } of readStatements()) {
    writeFileSync(file, text);
    assert.deepEqual(compare(file, name), expected[verdict], name);
  }
});

test("drbdadm-84 prints the samples as we do", (t) => {
  if (skipUnless(t, needs)) return;
  const folder = `${DRBD_CONFIG_VECTORS}samples`;
  for (const name of readdirSync(folder).filter((f) => f.endsWith(".conf"))) {
    assert.deepEqual(compare(join(folder, name), name), { ours: true, theirs: true }, name);
  }
});

test("drbdadm-84 prints a resource of this very host as we do", (t) => {
  if (skipUnless(t, needs)) return;
  const file = inFolder(t);
  writeFileSync(
    file,
    `global { disable-ip-verification; }
     resource r0 { device minor 0; disk /dev/sdz1; meta-disk internal;
       on "${hostname()}" { address 192.0.2.1:7788; } on the-peer { address 192.0.2.2:7788; }
       startup { become-primary-on the-peer; wfc-timeout 3; } disk { resync-after r1; } }
     resource r1 { device minor 1; disk /dev/sdz2; meta-disk internal;
       on one { address 192.0.2.1:7789; } on "${hostname()}" { address 192.0.2.2:7789; } disk { resync-after r0/0; } }
     resource r2 { device minor 2; disk /dev/sdz3; meta-disk internal;
       on one { address 192.0.2.1:7790; } on two { address 192.0.2.2:7790; } disk { resync-after r1; } }`,
  );
  assert.deepEqual(compare(file, "own host"), { ours: true, theirs: true });
});

/** A legal value of an option, as text for a configuration; undefined for a bare keyword. */
function legalValue(option: OptionSpec): fc.Arbitrary<string | undefined> {
  const { type } = option;
  switch (type.kind) {
    case "number": {
      const plain = fc.integer({ min: type.min, max: type.max }).map(String);
      const perKibi = type.unit === "KiB/s" ? 1 : type.unit === "sectors" ? 2 : 1024;
      const low = Math.ceil(type.min / perKibi);
      const high = Math.floor(type.max / perKibi);
      if (high < Math.max(low, 1)) return plain;
      return fc.oneof(
        plain,
        fc.integer({ min: Math.max(low, 1), max: high }).map((n) => `${n}K`),
      );
    }
    case "boolean":
      return fc.constantFrom("yes", "no", undefined);
    case "enum":
      return fc.constantFrom(...type.values);
    case "names":
      return fc.constantFrom("alice", "bob", "alice bob");
    case "flag":
      return fc.constant(undefined);
    case "string": {
      if (option.name === "resync-after") return fc.constantFrom("generated", "generated/0", "unknown");
      const quoted = fc
        .string({ minLength: 0, maxLength: 60, unit: "grapheme-ascii" })
        .map((text) => `"${text.replace(/["\\]/g, "\\$&")}"`);
      return option.section === "proxy" ? fc.constantFrom("100M", "5") : quoted;
    }
  }
}

const setting: fc.Arbitrary<{ section: string; text: string }> = fc.constantFrom(...OPTIONS).chain((option) =>
  legalValue(option).map((value) => ({
    section: option.section,
    text: value === undefined ? `${option.name};` : `${option.name} ${value};`,
  })),
);

function sections(settings: readonly { section: string; text: string }[]): string {
  const names = [...new Set(settings.map((s) => s.section))];
  const body = (name: string) => settings.filter((s) => s.section === name).map((s) => s.text);
  return names.map((name) => `  ${name} {\n    ${body(name).join("\n    ")}\n  }\n`).join("");
}

test("drbdadm-84 prints generated configurations of every option as we do", (t) => {
  if (skipUnless(t, needs)) return;
  const file = inFolder(t);
  const settings = fc.array(setting, { maxLength: 25 });
  const hosts = `  device minor 1; disk /dev/sdz1; meta-disk internal;
  on alice { address 192.0.2.1:7788; }
  on bob { address ipv6 [2001:db8::2]:7788; }\n`;
  fc.assert(
    fc.property(settings, settings, (common, own) => {
      const text = `common {\n${sections(common)}}\nresource generated {\n${hosts}${sections(own)}}\n`;
      writeFileSync(file, text);
      const answer = drbdadmDump(file);
      const result = readDrbdConf({ file });
      assert.ok(result !== undefined);
      assert.deepEqual(result.diagnostics.items.filter((d) => d.severity === "error").map(formatDiagnostic), []);
      assert.equal(answer.message.replace(/.*resync-after.*\n?|.*: in resource .*\n?/g, ""), "");
      assert.equal(dumpDrbdConf(result.config, { hostName: hostname() }), answer.dump);
    }),
    { numRuns: 150 },
  );
});
