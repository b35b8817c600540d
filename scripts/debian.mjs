// Debian packages: which of a list are missing, and their installation with every service kept from starting.
// As a program (`debian.mjs PACKAGE ...`) it installs what is missing of the list; demo.mjs runs it under a lock.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const POLICY = "/usr/sbin/policy-rc.d";
const ASIDE = `${POLICY}.before-hacluster`;
const MARK = "# written by the set-up of hacluster; removed when it ends";

/** dpkg-query fills it in. */
const FORMAT = ["Package", "db:Status-Status"]
  .map((field) => `\${${field}}`)
  .join(" ")
  .concat("\n");

/** Services that these packages would start at the next boot: two machines of a cluster leave that to the cluster. */
const BOOT_SERVICES = { apache2: ["apache2"] };

/** The packages of `wanted` that are not installed. Throws where there is no dpkg. */
export function missingPackages(wanted) {
  const result = spawnSync("dpkg-query", ["-W", "-f", FORMAT, ...wanted], { encoding: "utf8" });
  if (result.error) throw new Error(`cannot ask dpkg-query (${result.error.message}): the demo needs Debian 12 or 13`);
  const installed = new Set(
    result.stdout
      .split("\n")
      .filter((line) => line.endsWith(" installed"))
      .map((line) => line.split(" ")[0]),
  );
  return wanted.filter((name) => !installed.has(name));
}

/** Install packages; invoke-rc.d asks policy-rc.d before it starts anything, and ours says no (101). */
export function installPackages(names) {
  restorePolicy(); // of an earlier set-up that was killed
  if (existsSync(POLICY)) renameSync(POLICY, ASIDE);
  try {
    writeFileSync(POLICY, `#!/bin/sh\n${MARK}\nexit 101\n`, { mode: 0o755 });
    if (!aptGet(["install", "-y", "--no-install-recommends", ...names]).ok) {
      aptGet(["update"]); // the package lists are absent or too old
      const again = aptGet(["install", "-y", "--no-install-recommends", ...names]);
      if (!again.ok) throw new Error(`apt-get install ${names.join(" ")} failed:\n${again.output}`);
    }
  } finally {
    restorePolicy();
  }
  for (const service of names.flatMap((name) => BOOT_SERVICES[name] ?? [])) {
    execFileSync("update-rc.d", [service, "disable"], { stdio: "ignore" });
  }
}

function restorePolicy() {
  if (existsSync(POLICY) && readFileSync(POLICY, "utf8").includes(MARK)) rmSync(POLICY);
  if (existsSync(ASIDE) && !existsSync(POLICY)) renameSync(ASIDE, POLICY);
}

function aptGet(args) {
  const options = ["-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confold"];
  const result = spawnSync("apt-get", [...options, ...args], {
    encoding: "utf8",
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 64 * 1024 * 1024,
  });
  return { ok: result.status === 0, output: `${result.stdout ?? ""}${result.stderr ?? ""}`.trim() };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  // Ctrl-C reaches apt-get as well (same terminal); wait for it here, so that policy-rc.d is put back
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});
  try {
    const absent = missingPackages(process.argv.slice(2));
    if (absent.length > 0) installPackages(absent);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
