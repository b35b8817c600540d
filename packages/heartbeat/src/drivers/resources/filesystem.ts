import { mkdirSync, readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { runCommand } from "../run-command.ts";
import { type ActionResult, type BuiltinResource, failed, reported, succeeded } from "./resource.ts";

const MOUNT_LIMIT_MS = 60_000; // a journal replay on a large filesystem takes its time
const UMOUNT_LIMIT_MS = 60_000;
/** A busy mount: ask the holders to end, then end them, as resource-agents' Filesystem does (force_unmount). */
const TERM_ROUNDS = 3;
const KILL_ROUNDS = 3;
const ROUND_MS = 1000;

export interface Holder {
  readonly pid: number;
  readonly command: string;
}

interface MountEntry {
  readonly source: string;
  readonly target: string;
}

/** The mounts of this process's namespace; octal escapes of spaces in names are resolved. */
export function mounts(): MountEntry[] {
  return readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [source = "", target = ""] = line.split(" ").map(unescapeMount);
      return { source, target };
    });
}

function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Who keeps files open below a mount point, works in it, or runs a program from it. */
export function holdersOf(target: string): Holder[] {
  const below = (path: string): boolean => path === target || path.startsWith(`${target}/`);
  const link = (path: string): string => {
    try {
      return readlinkSync(path);
    } catch {
      return "";
    }
  };
  const holders: Holder[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const base = `/proc/${name}`;
    let descriptors: string[] = [];
    try {
      descriptors = readdirSync(`${base}/fd`).map((fd) => link(`${base}/fd/${fd}`));
    } catch {
      // ended meanwhile, or not ours to look at
    }
    if ([link(`${base}/cwd`), link(`${base}/root`), link(`${base}/exe`), ...descriptors].some(below)) {
      let command = "?";
      try {
        command = readFileSync(`${base}/comm`, "utf8").trim();
      } catch {
        // ended meanwhile
      }
      holders.push({ pid: Number(name), command });
    }
  }
  return holders;
}

/** Filesystem::DEVICE::DIRECTORY[::TYPE[::OPTIONS]] */
export class FilesystemResource implements BuiltinResource {
  async start(args: readonly string[]): Promise<ActionResult> {
    const [device, directory, type, options] = args;
    if (device === undefined || directory === undefined) {
      return failed("Filesystem: write Filesystem::DEVICE::DIRECTORY::TYPE", 2);
    }
    const mounted = this.#mountAt(directory);
    if (mounted !== undefined) {
      if (realPath(mounted.source) === realPath(device)) return succeeded(`${device} is already on ${directory}`);
      return failed(`Filesystem: ${mounted.source} is mounted on ${directory}, not ${device}; unmount it first`);
    }
    try {
      if (!device.includes(":") && !statSync(device).isBlockDevice()) {
        return failed(`Filesystem: ${device} is no block device`);
      }
    } catch {
      return failed(`Filesystem: ${device} does not exist; is its drbddisk earlier in the line, and started?`);
    }
    mkdirSync(directory, { recursive: true });
    const command = [...(type ? ["-t", type] : []), ...(options ? ["-o", options] : []), device, directory];
    const result = await runCommand("mount", command, { timeLimitMs: MOUNT_LIMIT_MS });
    if (result.exitCode !== 0) return failed(`Filesystem: mount ${command.join(" ")}: ${result.stderr.trim()}`);
    return succeeded(`${device} is mounted on ${directory}`);
  }

  async stop(args: readonly string[]): Promise<ActionResult> {
    const directory = args[1];
    if (directory === undefined) return failed("Filesystem: write Filesystem::DEVICE::DIRECTORY::TYPE", 2);
    if (this.#mountAt(directory) === undefined) return succeeded(`nothing is mounted on ${directory}`);
    const said: string[] = [];
    for (let round = 0; round <= TERM_ROUNDS + KILL_ROUNDS; round++) {
      const result = await runCommand("umount", [directory], { timeLimitMs: UMOUNT_LIMIT_MS });
      if (this.#mountAt(directory) === undefined) return succeeded([...said, `${directory} is unmounted`].join("\n"));
      const holders = holdersOf(realPath(directory));
      const names = holders.map((h) => `${h.command}[${h.pid}]`).join(" ");
      if (round === TERM_ROUNDS + KILL_ROUNDS) {
        said.push(`Filesystem: ${result.stderr.trim()}; still held by ${names === "" ? "nobody visible here" : names}`);
        break;
      }
      const signal = round < TERM_ROUNDS ? "SIGTERM" : "SIGKILL";
      said.push(`${directory} is busy${names === "" ? "" : `: sending ${signal} to ${names}`}`);
      for (const holder of holders) {
        try {
          process.kill(holder.pid, signal);
        } catch {
          // ended meanwhile
        }
      }
      // a holder that obeys at once should not cost a whole round
      for (let waited = 0; waited < ROUND_MS && holdersOf(realPath(directory)).length > 0; waited += 50)
        await sleep(50);
      if (holders.length === 0) await sleep(ROUND_MS);
    }
    return failed(said.join("\n"));
  }

  status(args: readonly string[]): Promise<ActionResult> {
    const [device, directory] = args;
    if (device === undefined || directory === undefined) {
      return Promise.resolve(failed("Filesystem: write Filesystem::DEVICE::DIRECTORY::TYPE", 2));
    }
    const mounted = this.#mountAt(directory);
    return Promise.resolve(
      mounted === undefined
        ? reported(false, `${device} is stopped (not mounted on ${directory})`)
        : reported(true, `${mounted.source} is running on ${directory}`),
    );
  }

  #mountAt(directory: string): MountEntry | undefined {
    const target = realPath(directory);
    return mounts().findLast((entry) => entry.target === target);
  }
}
