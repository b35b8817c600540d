import { readdir, readFile, readlink } from "node:fs/promises";
import { isBelow, type MountEntry, mountsOf } from "./mounts.ts";

/** A process that keeps a filesystem busy. */
export interface Holder {
  readonly pid: number;
  readonly command: string;
  /** How: `works in it`, `runs from it`, `has PATH open`, ... */
  readonly how: string;
}

/** Everything that keeps a filesystem busy. */
export interface Busy {
  readonly holders: readonly Holder[];
  /** Other reasons, each a phrase: a mount below, swap, a loop device, an NFS export. */
  readonly reasons: readonly string[];
  /** Processes in other mount namespaces that keep the device busy though our own mount is not. */
  readonly elsewhere: readonly string[];
}

/** Processes looked at between two turns of the event loop: some milliseconds, so that no heartbeat is late. */
const BATCH = 20;

/**
 * Who and what keeps a mounted filesystem busy. Looks at names only, never at the files: a filesystem that hangs does
 * not stop the search. Processes of other mount namespaces may have another filesystem under the same name; they
 * count only as `elsewhere`, and only when they have mounted the same device.
 */
export async function findBusy(mount: MountEntry): Promise<Busy> {
  const ownNamespace = await readlink("/proc/self/ns/mnt").catch(() => "");
  const holders: Holder[] = [];
  const namespaces = new Map<string, number>();
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  for (const [index, pid] of pids.entries()) {
    if (index % BATCH === BATCH - 1) await new Promise((resolve) => setImmediate(resolve));
    if (pid === process.pid) continue;
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => "");
    if (namespace === "") continue; // ended meanwhile, a kernel thread, or not ours to look at
    if (namespace !== ownNamespace) {
      if (!namespaces.has(namespace)) namespaces.set(namespace, pid);
      continue;
    }
    const how = await holds(pid, mount.target);
    if (how !== undefined) holders.push({ pid, command: await commandOf(pid), how });
  }
  const elsewhere: string[] = [];
  for (const pid of namespaces.values()) {
    const seen = (await mountsOf(pid).catch(() => [])).find((entry) => entry.device === mount.device);
    if (seen !== undefined) elsewhere.push(`${await commandOf(pid)}[${pid}] (mounted on ${seen.target} there)`);
  }
  return { holders, reasons: await otherReasons(mount), elsewhere };
}

async function holds(pid: number, target: string): Promise<string | undefined> {
  const base = `/proc/${pid}`;
  const inside = (path: string): boolean => path === target || isBelow(path, target);
  const link = (name: string): Promise<string> => readlink(`${base}/${name}`).catch(() => "");
  if (inside(await link("cwd"))) return "works in it";
  if (inside(await link("exe"))) return "runs from it";
  if (target !== "/" && inside(await link("root"))) return "has its root in it";
  for (const descriptor of await readdir(`${base}/fd`).catch(() => [])) {
    const path = await link(`fd/${descriptor}`);
    if (inside(path)) return `has ${path} open`;
  }
  const maps = await readFile(`${base}/maps`, "utf8").catch(() => "");
  if (!maps.includes(`${target}/`)) return undefined;
  const mapped = maps.split("\n").find((line) => isBelow(line.slice(line.indexOf("/")), target));
  return mapped === undefined ? undefined : `has ${mapped.slice(mapped.indexOf("/"))} mapped`;
}

async function commandOf(pid: number): Promise<string> {
  return (await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "?")).trim();
}

async function otherReasons(mount: MountEntry): Promise<string[]> {
  const reasons: string[] = [];
  for (const entry of await mountsOf()) {
    if (isBelow(entry.target, mount.target)) reasons.push(`${entry.source} is mounted on ${entry.target}`);
  }
  const swaps = await readFile("/proc/swaps", "utf8").catch(() => "");
  for (const line of swaps.split("\n").slice(1)) {
    const path = line.split(/\s/)[0] ?? "";
    if (isBelow(path, mount.target)) reasons.push(`${path} is in use as swap (swapoff ${path})`);
  }
  for (const name of await readdir("/sys/block").catch(() => [])) {
    if (!name.startsWith("loop")) continue;
    const path = (await readFile(`/sys/block/${name}/loop/backing_file`, "utf8").catch(() => "")).trim();
    if (isBelow(path, mount.target)) reasons.push(`/dev/${name} serves ${path} (losetup -d /dev/${name})`);
  }
  const exports = await readFile("/var/lib/nfs/etab", "utf8").catch(() => "");
  for (const path of new Set(exports.split("\n").map((line) => line.split("\t")[0] ?? ""))) {
    if (path === mount.target || isBelow(path, mount.target))
      reasons.push(`${path} is exported over NFS (exportfs -u)`);
  }
  return reasons;
}

/** One line per process and reason, as an administrator wants to read it. */
export function describeBusy(busy: Busy): string[] {
  return [
    ...busy.holders.map((holder) => `${holder.command}[${holder.pid}] ${holder.how}`),
    ...busy.reasons,
    ...busy.elsewhere.map((process) => `the device is also mounted in the namespace of ${process}`),
  ];
}
