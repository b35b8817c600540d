// npm run demo [-- --help]: two nodes, one replicated disk, a power loss, a takeover, a return. Does all set-up first:
// Debian packages (listed, then installed; no service starts), npm packages, build. Then test/demo does the work.
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { missingPackages } from "./debian.mjs";
import { BUILD, DEMO } from "./packages.mjs";
import { ensureBuild, ensurePackages, root } from "./setup.mjs";

const args = process.argv.slice(2);
const json = args.includes("--json");

function say(text, fields = {}) {
  console.log(json ? JSON.stringify({ event: "setup", text, ...fields }) : text);
}

function fail(step, reason) {
  console.log(`demo: failed step=${step} reason=${reason.split("\n")[0]}`);
  if (reason.includes("\n")) console.error(reason);
  process.exit(1);
}

if (!args.includes("--help")) {
  if (process.platform !== "linux") fail("set-up", `needs Linux (Debian 12 or 13), this is ${process.platform}`);
  if (process.getuid() !== 0) fail("set-up", "needs root: it makes network namespaces, mounts and loop devices");
  if (Number(process.versions.node.split(".")[0]) < 20) {
    fail("set-up", `needs Node 20 or later, this is ${process.version}`);
  }
}

try {
  if (!args.includes("--help")) debianPackages();
  const started = Date.now();
  const fresh = ensurePackages();
  ensureBuild();
  if (fresh) say(`set-up: npm packages installed, built (${((Date.now() - started) / 1000).toFixed(1)} s)`);
} catch (error) {
  fail("set-up", error.message);
}

function debianPackages() {
  const absent = missingPackages([...BUILD, ...DEMO]);
  if (absent.length === 0) return;
  say(`set-up: installs Debian packages, without starting their services: ${absent.join(" ")}`, { packages: absent });
  const started = Date.now();
  // one set-up at a time (another demo may be doing the same): the lock is on a folder that is there anyway
  const installer = join(root, "scripts/debian.mjs");
  const result = spawnSync("flock", ["/var/lib/dpkg", process.execPath, installer, ...absent], {
    stdio: ["ignore", "inherit", "pipe"],
    encoding: "utf8",
  });
  if (result.status !== 0) fail("set-up", result.stderr?.trim() || `${installer} ended with ${result.signal}`);
  say(`set-up: Debian packages installed (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

const child = spawn(process.execPath, [join(root, "build/test/demo/main.js"), ...args], { stdio: "inherit" });
// a terminal sends Ctrl-C to both; the demo cleans up and ends, this one waits for it
process.on("SIGINT", () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 1);
});
