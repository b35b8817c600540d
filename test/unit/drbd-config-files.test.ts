import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { HaError } from "@hacluster/blockrep/base";
import { resolveResource } from "@hacluster/blockrep/unstable/config/resolve";
import { expandGlob, readDrbdConf } from "@hacluster/blockrep/unstable/drivers/config-files";

function tree(t: TestContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), "drbd-root-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

const names = (root: string): string[] | undefined => readDrbdConf({ root })?.config.resources.map((r) => r.name);

test("the file server's configuration works unchanged", () => {
  const root = fileURLToPath(new URL("../../../examples/file-server", import.meta.url));
  const result = readDrbdConf({ root });
  assert.ok(result !== undefined);
  assert.deepEqual(
    result.diagnostics.items.map((d) => [d.severity, d.at.line, d.message]),
    [["warning", 17, "sndbuf-size 512k has no meaning in userspace"]],
  );
  const r0 = resolveResource(result.config, "r0", "nodo1");
  assert.equal(r0.peer.address.host, "192.168.0.28");
  assert.deepEqual([r0.net.pingTimeoutMs, r0.net.maxBuffersPages, r0.startup.degrWfcTimeoutMs], [900, 20480, 60_000]);
  assert.equal(r0.handlers["pri-lost"], 'echo primary DRBD lost | mail -s "DRBD Alert" adm@example.com');
});

test("drbd.conf with its includes, relative and absolute below the root", (t) => {
  const root = tree(t, {
    "etc/drbd.conf": 'include "drbd.d/*.res"; include "/etc/more/b.res"; include "none/*";',
    "etc/drbd.d/a2.res": "resource a2 { }",
    "etc/drbd.d/a1.res": 'resource a1 { } include "sub/c.conf";',
    "etc/drbd.d/.hidden.res": "resource hidden { }",
    "etc/drbd.d/sub/c.conf": "resource c { }",
    "etc/more/b.res": "resource b { }",
  });
  assert.deepEqual(names(root), ["a1", "c", "a2", "b"]);
});

test("without drbd.conf global_common.conf and the resources are read; without them there is nothing", (t) => {
  const root = tree(t, {
    "etc/drbd.d/global_common.conf": "global { usage-count no; }",
    "etc/drbd.d/z.res": "resource z { }",
    "etc/drbd.d/other.conf": "resource other { }",
  });
  assert.deepEqual(names(root), ["z"]);
  assert.equal(readDrbdConf({ root })?.config.global?.usageCount, "no");
  assert.equal(readDrbdConf({ root: join(root, "etc") }), undefined);
});

test("a named file that is not there is refused; a named include is an error with its place", (t) => {
  const root = tree(t, { "etc/drbd.conf": 'include "gone.conf";' });
  assert.throws(() => readDrbdConf({ file: join(root, "nothing") }), HaError);
  const [finding] = readDrbdConf({ root })?.diagnostics.items ?? [];
  assert.match(finding?.message ?? "", /cannot include "gone.conf": there is no file .*etc\/gone\.conf/);
});

test("globs: stars, question marks, sets and folders; a missing folder matches nothing", (t) => {
  const root = tree(t, { "a1/x.res": "", "a2/x.res": "", "b/y+z.res": "", "a1/.x.res": "" });
  const glob = (pattern: string): string[] =>
    expandGlob(join(root, pattern)).map((path) => path.slice(root.length + 1));
  assert.deepEqual(glob("a?/*.res"), ["a1/x.res", "a2/x.res"]);
  assert.deepEqual(glob("[!a]/y+?.res"), ["b/y+z.res"]);
  assert.deepEqual(glob("a[1]/.x*"), ["a1/.x.res"]);
  assert.deepEqual(glob("c/*.res"), []);
});
