// npm run ok: what a reviewer would run, in about a minute; stops at nothing, so that one run shows everything.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ensurePackages, root } from "./setup.mjs";

ensurePackages();

const bin = (name) => join(root, "node_modules/.bin", name);
/** Whole stories that need seconds: going down in the simulator, two processes of a library user. */
const SCENARIOS = ["test/sim/blockrep-down.test.ts", "test/e2e/embed.test.ts"];
const steps = [
  ["format and lint", bin("biome"), ["check", "."]],
  ["types", bin("tsc"), ["-b"]],
  ["promises", bin("oxlint"), ["--type-aware", "--tsconfig", "test/tsconfig.json", "packages", "test"]],
  ["layering", process.execPath, ["scripts/test.mjs", "test/tidy"]],
  ["unit", process.execPath, ["scripts/test.mjs", "test/unit", "test/conformance"]],
  ["vectors", process.execPath, ["scripts/test.mjs", "test/vectors"]],
  ["scenarios", process.execPath, ["scripts/test.mjs", ...SCENARIOS]],
  ["simulator", process.execPath, ["scripts/sim.mjs", "--seeds", "200"]],
];

let failures = 0;
for (const [name, command, args] of steps) {
  const started = Date.now();
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const last = stdout.trimEnd().split("\n").at(-1) ?? "";
  console.log(`${status === 0 ? "ok  " : "FAIL"} ${name.padEnd(16)} ${seconds.padStart(5)} s  ${last}`);
  if (status !== 0) {
    failures++;
    console.log(`${stdout}${stderr}`);
  }
}
if (!existsSync(join(root, ".git"))) console.log("note: not a git checkout, ignored files were checked too");
console.log(failures === 0 ? "ok" : `not ok: ${failures} of ${steps.length} steps failed`);
process.exitCode = failures === 0 ? 0 : 1;
