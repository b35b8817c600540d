// What every command needs first: npm packages that match the lockfile, and a build that matches the sources.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** fs-ext is compiled at install; Debian's and most other Node packages bring the headers, else node-gyp fetches them. */
function headersEnvironment() {
  if (process.env.npm_config_nodedir) return {};
  const prefix = dirname(dirname(process.execPath));
  for (const candidate of [prefix, "/usr", "/usr/local"]) {
    if (existsSync(join(candidate, "include/node/node.h"))) {
      const version = readFileSync(join(candidate, "include/node/node_version.h"), "utf8");
      const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(version)?.[1];
      if (major === process.versions.node.split(".")[0]) return { npm_config_nodedir: candidate };
    }
  }
  console.log("set-up: Node's headers are not installed here; node-gyp will fetch them to compile fs-ext");
  return {};
}

function requireBuildTools() {
  const absent = [
    ["make", "make"],
    ["g++", "g++"],
    ["python3", "python3"],
  ].filter(([program]) => spawnSync(program, ["--version"], { stdio: "ignore" }).status !== 0);
  if (absent.length > 0) {
    const packages = absent.map(([, name]) => name).join(" ");
    throw new Error(`compiling fs-ext needs ${packages}: run "apt-get install ${packages}" and try again`);
  }
}

/** npm ci when node_modules is absent or older than the lockfile; output only when it fails or `verbose`. */
export function ensurePackages(verbose = false) {
  const marker = join(root, "node_modules/.package-lock.json");
  const lock = join(root, "package-lock.json");
  if (existsSync(marker) && statSync(marker).mtimeMs >= statSync(lock).mtimeMs) return false;
  requireBuildTools();
  run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { verbose, env: headersEnvironment() });
  return true;
}

/** Incremental `tsc -b`: under a second when nothing changed. */
export function ensureBuild(verbose = false) {
  run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-b"], { verbose });
}

export function run(command, args, { verbose = true, env = {} } = {}) {
  try {
    execFileSync(command, args, {
      cwd: root,
      stdio: verbose ? "inherit" : ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
      maxBuffer: 64 * 1024 * 1024,
    });
  } catch (error) {
    if (!verbose) process.stderr.write(`${error.stdout ?? ""}${error.stderr ?? ""}`);
    throw new Error(`${command} ${args.join(" ")} failed with exit code ${error.status}`);
  }
}

export function ensureReady(verbose = false) {
  ensurePackages(verbose);
  ensureBuild(verbose);
}
