import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const RUNNER = fileURLToPath(new URL("../../../test/lab/uml-run.pl", import.meta.url));
const LIMIT_MS = 60_000;

/** What every boot shows. */
const HARMLESS = /find_iomem failed|epollctl add err|ubd device 0/;

let known: { readonly reason: string | undefined } | undefined;

/**
 * Why a User-Mode Linux kernel does not come up on this machine, or undefined where it does. Boots the smallest one as far as its
 * first process, which needs what every machine of a lab needs of the host: ptrace, memory that may be executed, /dev/shm.
 * Takes 2 s, once per process.
 */
export function whyNoUml(): string | undefined {
  known ??= { reason: probe() };
  return known.reason;
}

function probe(): string | undefined {
  if (process.arch !== "x64") return `User-Mode Linux runs on x86-64 only, not on ${process.arch}`;
  const folder = mkdtempSync(join(tmpdir(), "uml-probe-"));
  try {
    const kernel = ["linux.uml", "mem=64M", "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/true"];
    const consoles = ["con=null", "con0=null,fd:1", "ssl=null", "umid=probe", `uml_dir=${folder}`];
    const { stdout, stderr, error, signal } = spawnSync("perl", [RUNNER, ...kernel, ...consoles], {
      encoding: "utf8",
      timeout: LIMIT_MS,
      killSignal: "SIGKILL",
      env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, TMPDIR: "/dev/shm" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    return judge(`${stdout}\n${stderr}`, signal === "SIGKILL" || error !== undefined);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What the console of such a boot says of the machine it ran on. */
export function judge(console: string, killed: boolean): string | undefined {
  // the first process ends at once, which the kernel takes for its death: that is as far as it should come
  if (/Attempted to kill init!/.test(console)) return undefined;
  const lines = console
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !HARMLESS.test(line));
  const telling = lines.find((line) => /panic|not permitted|denied|failed|cannot|can't|No space/i.test(line));
  const last = telling ?? lines.at(-1) ?? "no message";
  return `User-Mode Linux does not boot here${killed ? ` within ${LIMIT_MS / 1000} s` : ""}: ${last}`;
}
