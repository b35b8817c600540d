// npm run test:interop [-- drbd|heartbeat|peers ...]: the tests below test/interop, against the real programs. Minutes, root.
// A run in which nothing could be tested is a failure: that is a question nobody answered.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "test/interop");
const wanted = process.argv.slice(2);
const all = readdirSync(folder).filter((name) => name.endsWith(".test.ts"));
const files = wanted.length === 0 ? all : all.filter((name) => wanted.some((word) => name.startsWith(word)));
if (files.length === 0) {
  console.error(`test:interop: no test called ${wanted.join(", ")}; there are: ${all.join(", ")}`);
  process.exit(2);
}
// one after the other: each of them has a machine that takes a processor for itself
let failed = false;
for (const file of files.sort()) {
  console.log(`test/interop/${file}`);
  // test.mjs ends with 1 when nothing passed
  const { status } = spawnSync(process.execPath, [join(root, "scripts/test.mjs"), join("test/interop", file)], {
    cwd: root,
    stdio: "inherit",
  });
  failed ||= status !== 0;
}
process.exitCode = failed ? 1 : 0;
