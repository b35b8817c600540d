// What users install: the command in a clone, and the packed packages installed into a prefix of their own.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { must, run } from "../lab/process.ts";
import { skipUnless } from "../support/requires.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const EXAMPLE = join(ROOT, "examples/file-server");

/** As scripts/setup.mjs does: fs-ext is compiled against headers that are here already, where they are. */
function npmEnvironment(): Record<string, string> {
  const prefixes = [dirname(dirname(process.execPath)), "/usr", "/usr/local"];
  const nodedir = prefixes.find((prefix) => existsSync(join(prefix, "include/node/node.h")));
  return nodedir === undefined || process.env["npm_config_nodedir"] !== undefined
    ? {}
    : { npm_config_nodedir: nodedir };
}

test("in a clone: npx --no-install hacluster, with an executable that is in git", async () => {
  const shown = await run(["npx", "--no-install", "hacluster", "config", "--root", EXAMPLE], { cwd: ROOT });
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /resource r0 \{/);
  if (!existsSync(join(ROOT, ".git"))) return; // an unpacked archive
  assert.match(await must(["git", "ls-files", "-s", "packages/cli/bin/hacluster.js"], { cwd: ROOT }), /^100755 /);
});

test("npm pack, npm i -g: the installed command works, units and manual page come with it", async (t) => {
  if (skipUnless(t, { programs: { make: "make", "g++": "g++", python3: "python3" } })) return;
  const folder = mkdtempSync(join(tmpdir(), "hacluster-package-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const options = { cwd: ROOT, env: npmEnvironment(), timeoutMs: 120_000 };
  await must(["npm", "pack", "--workspaces", "--silent", "--pack-destination", folder], options);
  const archives = readdirSync(folder).map((name) => join(folder, name));
  assert.equal(archives.length, 3);
  const cli = archives.find((path) => /\/hacluster-\d/.test(path));
  const listed = (await must(["tar", "-tzf", String(cli)])).split("\n");
  for (const name of [
    "bin/hacluster.js",
    "dist/main.js",
    "man/hacluster.8",
    "systemd/hacluster-blockrep@.service",
    "systemd/hacluster-heartbeat.service",
    "LICENSE",
  ]) {
    assert.ok(listed.includes(`package/${name}`), `${name} is not in ${cli}`);
  }

  const prefix = join(folder, "prefix");
  const install = ["npm", "install", "--global", "--prefix", prefix, "--no-audit", "--no-fund", "--prefer-offline"];
  await must([...install, "--loglevel=error", ...archives], options);
  const command = join(prefix, "bin/hacluster");
  const shown = await run([command, "config", "--root", EXAMPLE], { cwd: folder });
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /^nodo1 IPaddr2::/m);
  assert.match(shown.stdout, /resource r0 \{/);
  // what needs the compiled addon: the lock on a backing file
  const conf = `resource r0 { device /dev/drbd0; disk ${folder}/disk.img; meta-disk internal;
    on $(uname -n) { address 127.0.0.1:7793; } on other { address 127.0.0.2:7793; } }`;
  const script = `truncate -s 4M ${folder}/disk.img; cat >${folder}/r0.conf <<END\n${conf}\nEND
    ${command} blockrep -c ${folder}/r0.conf create-md r0; ${command} blockrep -c ${folder}/r0.conf get-gi r0`;
  assert.match(await must(["sh", "-ec", script], { cwd: folder }), /^0000000000000004:0/m);
});
