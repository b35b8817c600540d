import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

/** Who uses a block device: enough to name them in an error. */
export interface DeviceHolders {
  /** Mount points, as seen in the mount namespace of the process that was looked at. */
  readonly mounts: readonly string[];
  readonly processes: readonly { readonly pid: number; readonly command: string }[];
  /** Block devices that stand on it (device mapper, md, loop), and "swap". */
  readonly others: readonly string[];
}

/** Major and minor of a device number as Linux packs it into `stat.rdev`. */
export function majorMinor(rdev: number): { major: number; minor: number } {
  const low = rdev % 0x1_0000_0000;
  const high = Math.floor(rdev / 0x1_0000_0000);
  return {
    major: ((low >>> 8) & 0xfff) | (high & 0xfffff000),
    minor: (low & 0xff) | ((low >>> 12) & 0xfffff00),
  };
}

/** Looks through /proc for the users of the block device `path`; never fails, at worst it finds nobody. */
export function findDeviceHolders(path: string): DeviceHolders {
  const mounts = new Set<string>();
  const processes: { pid: number; command: string }[] = [];
  const others: string[] = [];
  let rdev: number;
  try {
    rdev = statSync(path).rdev;
  } catch {
    return { mounts: [], processes, others };
  }
  const { major, minor } = majorMinor(rdev);
  const number = `${major}:${minor}`;
  const seen = new Set<string>();
  for (const pid of list("/proc").filter((name) => /^\d+$/.test(name))) {
    const namespace = link(`/proc/${pid}/ns/mnt`);
    if (namespace !== undefined && !seen.has(namespace)) {
      seen.add(namespace);
      for (const line of text(`/proc/${pid}/mountinfo`).split("\n")) {
        const fields = line.split(" ");
        if (fields[2] === number) mounts.add(unescapeMount(fields[4] ?? ""));
      }
    }
    if (Number(pid) !== process.pid && opens(pid, rdev)) {
      processes.push({ pid: Number(pid), command: text(`/proc/${pid}/comm`).trim() });
    }
  }
  others.push(...list(`/sys/dev/block/${number}/holders`).map((name) => `/dev/${name}`));
  for (const line of text("/proc/swaps").split("\n").slice(1)) {
    const swap = line.split(/\s+/)[0] ?? "";
    if (swap.startsWith("/") && rdevOf(swap) === rdev) others.push("swap");
  }
  return { mounts: [...mounts], processes, others };
}

/** "mounted on /srv, open in process 12 (dd)", or an empty text when nobody was found. */
export function describeHolders(holders: DeviceHolders): string {
  return [
    ...holders.mounts.map((mount) => `mounted on ${mount}`),
    ...holders.processes.map(({ pid, command }) => `open in process ${pid} (${command})`),
    ...holders.others.map((other) => `used by ${other}`),
  ].join(", ");
}

function opens(pid: string, rdev: number): boolean {
  const folder = `/proc/${pid}/fd`;
  return list(folder).some((fd) => {
    const target = link(`${folder}/${fd}`);
    return target?.startsWith("/dev/") === true && rdevOf(`${folder}/${fd}`) === rdev;
  });
}

function rdevOf(path: string): number {
  try {
    const stat = statSync(path);
    return stat.isBlockDevice() ? stat.rdev : -1;
  } catch {
    return -1;
  }
}

/** Spaces and the like stand as octal in mountinfo. */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function link(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
