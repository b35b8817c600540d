import { mkdir, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { runCommand } from "../run-command.ts";
import { describeBusy, findBusy, type Holder } from "./mount-holders.ts";
import { isBelow, type MountEntry, mountOn, mountsOf, realPath } from "./mounts.ts";
import { type ActionResult, type BuiltinResource, failed, reported, succeeded } from "./resource.ts";

export interface FilesystemOptions {
  /** Longest time for one `stop`, in milliseconds. */
  readonly stopMs?: number;
  /** Whether processes that keep the filesystem busy may be ended. */
  readonly endHolders?: boolean;
}

const MOUNT_LIMIT_MS = 600_000; // a check or the replay of a journal on a large filesystem takes its time
const UMOUNT_LIMIT_MS = 60_000;
/** A busy mount: ask the holders to end, then end them, as resource-agents' Filesystem does (force_unmount). */
const TERM_ROUNDS = 3;
const KILL_ROUNDS = 3;
const ROUND_MS = 1000;
const LOOK_MS = 50;

const USAGE = "Filesystem: write Filesystem::DEVICE::DIRECTORY::TYPE";

/** Filesystem::DEVICE::DIRECTORY[::TYPE[::OPTIONS]] */
export class FilesystemResource implements BuiltinResource {
  readonly #stopMs: number;
  readonly #endHolders: boolean;

  constructor(options: FilesystemOptions = {}) {
    this.#stopMs = options.stopMs ?? 600_000;
    this.#endHolders = options.endHolders ?? true;
  }

  async start(args: readonly string[]): Promise<ActionResult> {
    const [device, directory, type, options] = args;
    if (device === undefined || directory === undefined) return failed(USAGE, 2);
    const mounted = await mountOn(directory);
    if (mounted !== undefined) {
      if ((await realPath(mounted.source)) === (await realPath(device))) {
        return succeeded(`${device} is already on ${directory}`);
      }
      return failed(`Filesystem: ${mounted.source} is mounted on ${directory}, not ${device}; unmount it first`);
    }
    if (isLocalDevice(device, type, options)) {
      try {
        if (!(await stat(device)).isBlockDevice()) return failed(`Filesystem: ${device} is no block device`);
      } catch {
        return failed(`Filesystem: ${device} does not exist; is its drbddisk earlier in the line, and started?`);
      }
    }
    try {
      await mkdir(directory, { recursive: true });
    } catch (error) {
      return failed(`Filesystem: cannot make ${directory}: ${(error as Error).message}`);
    }
    const command = [...(type ? ["-t", type] : []), ...(options ? ["-o", options] : []), ...source(device), directory];
    const result = await runCommand("mount", command, { timeLimitMs: MOUNT_LIMIT_MS });
    if (result.exitCode !== 0) return failed(`Filesystem: mount ${command.join(" ")}: ${result.stderr.trim()}`);
    return succeeded(`${device} is mounted on ${directory}`);
  }

  /**
   * Unmount, whatever it takes but never by halves: a lazy unmount would let the other node start while processes here
   * still write. The ladder: umount, also what is mounted below; name everything that keeps it busy; SIGTERM; SIGKILL;
   * for a file server that is gone `umount -f`. Each rung is in the output.
   */
  async stop(args: readonly string[]): Promise<ActionResult> {
    const directory = args[1];
    if (directory === undefined) return failed(USAGE, 2);
    const mount = await mountOn(directory);
    if (mount === undefined) return succeeded(`nothing is mounted on ${directory}`);
    const said: string[] = [];
    const endMs = performance.now() + this.#stopMs;
    const rounds = TERM_ROUNDS + KILL_ROUNDS;
    for (let round = 0; ; round++) {
      const problem = await unmount(mount, endMs - performance.now());
      if (problem === undefined) return succeeded([...said, `${directory} is unmounted`].join("\n"));
      if (problem.hangs) return failed([...said, problem.text].join("\n"));
      const busy = await findBusy(mount);
      const why = describeBusy(busy);
      if (round === 0) said.push(`${directory} is busy: ${problem.text}`, ...why);
      if (round >= rounds || performance.now() > endMs) {
        said.push(`Filesystem: ${directory} stays mounted: ${why.length === 0 ? problem.text : why.join("; ")}`);
        break;
      }
      if (this.#endHolders && busy.holders.length > 0) {
        const signal = round < TERM_ROUNDS ? "SIGTERM" : "SIGKILL";
        said.push(`sending ${signal} to ${busy.holders.map((h) => `${h.command}[${h.pid}]`).join(" ")}`);
        signalAll(busy.holders, signal);
        await untilGone(busy.holders);
      } else await sleep(ROUND_MS);
    }
    if (!this.#endHolders) said.push("processes are not ended: hacluster.conf says so (filesystem end-holders=no)");
    if (isNetwork(mount.type)) {
      said.push(`umount -f ${mount.target}: the file server may be gone`);
      const problem = await unmount(mount, UMOUNT_LIMIT_MS, ["-f"]);
      if (problem === undefined) return succeeded([...said, `${directory} is unmounted`].join("\n"));
    }
    return failed(said.join("\n"));
  }

  async status(args: readonly string[]): Promise<ActionResult> {
    const [device, directory] = args;
    if (device === undefined || directory === undefined) return failed(USAGE, 2);
    const mounted = await mountOn(directory);
    return mounted === undefined
      ? reported(false, `${device} is stopped (not mounted on ${directory})`)
      : reported(true, `${mounted.source} is running on ${directory}`);
  }
}

interface Problem {
  readonly text: string;
  /** umount itself does not come back: a further one would not either. */
  readonly hangs: boolean;
}

/** What is mounted below goes first, deepest first. Success is what the mount table says. */
async function unmount(
  mount: MountEntry,
  limitMs: number,
  options: readonly string[] = [],
): Promise<Problem | undefined> {
  const all = (await mountsOf()).map((entry) => entry.target);
  const below = all.filter((target) => isBelow(target, mount.target)).reverse();
  let problem: Problem | undefined;
  for (const target of [...below, mount.target]) {
    // -c: do not look at the path, that may hang where unmounting does not
    const result = await runCommand("umount", ["-c", ...options, target], {
      timeLimitMs: Math.max(ROUND_MS, Math.min(UMOUNT_LIMIT_MS, limitMs)),
    });
    problem = {
      text: result.timedOut
        ? `umount ${target} does not end: its device or server does not answer. ${result.stderr.trim()}`.trim()
        : result.stderr.trim(),
      hangs: result.timedOut,
    };
    if (result.timedOut) return problem;
  }
  const left = (await mountsOf()).filter((entry) => entry.target === mount.target).length;
  return left < all.filter((target) => target === mount.target).length ? undefined : problem;
}

function signalAll(holders: readonly Holder[], signal: NodeJS.Signals): void {
  for (const { pid } of holders) {
    if (pid === 1 || pid === process.pid) continue;
    try {
      process.kill(pid, signal);
    } catch {
      // ended meanwhile
    }
  }
}

/** A holder that obeys at once should not cost a whole round. */
async function untilGone(holders: readonly Holder[]): Promise<void> {
  for (let waited = 0; waited < ROUND_MS; waited += LOOK_MS) {
    await sleep(LOOK_MS);
    if (!holders.some(({ pid }) => isAlive(pid))) return;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** `-U UUID` and `-L LABEL` are Heartbeat's way to name a device; with `::` as separator they come as one word. */
function source(device: string): string[] {
  const named = /^-([UL])(.+)$/.exec(device);
  return named === null ? [device] : [`-${named[1]}`, (named[2] as string).trim()];
}

function isLocalDevice(device: string, type: string | undefined, options: string | undefined): boolean {
  if (/^-[UL]/.test(device) || /^(UUID|LABEL|PARTUUID|PARTLABEL)=/.test(device)) return false;
  if (/\bbind\b|\bloop\b/.test(options ?? "") || ["tmpfs", "none", "bind"].includes(type ?? "")) return false;
  return !device.includes(":") && !device.startsWith("//");
}

function isNetwork(type: string): boolean {
  return /^(nfs4?|cifs|smb3|ceph|glusterfs|fuse\.glusterfs)$/.test(type);
}
