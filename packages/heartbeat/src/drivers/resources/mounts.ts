import { readFile, realpath } from "node:fs/promises";

/** A line of /proc/PID/mountinfo. */
export interface MountEntry {
  /** `major:minor` of the device. */
  readonly device: string;
  readonly target: string;
  readonly type: string;
  readonly source: string;
}

/** Looking at a path below a file server that is gone never ends. */
const PATH_LIMIT_MS = 2000;

/** The mounts that a process sees, in the order in which they were made. @throws Error when it has ended */
export async function mountsOf(pid: number | "self" = "self"): Promise<MountEntry[]> {
  return parseMountInfo(await readFile(`/proc/${pid}/mountinfo`, "utf8"));
}

/** @see proc(5), /proc/pid/mountinfo: optional fields end at a hyphen, blanks in names are octal */
export function parseMountInfo(text: string): MountEntry[] {
  return text.split("\n").flatMap((line) => {
    const [front, back] = line.split(" - ");
    const [, , device, , target] = front?.split(" ") ?? [];
    const [type, source] = back?.split(" ") ?? [];
    if (device === undefined || target === undefined || type === undefined) return [];
    return [{ device, target: unescapeOctal(target), type, source: unescapeOctal(source ?? "") }];
  });
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export function isBelow(path: string, folder: string): boolean {
  return path.startsWith(folder === "/" ? folder : `${folder}/`);
}

/** What is mounted on a directory, the last one when there are several; the directory itself is not touched if it can be helped. */
export async function mountOn(directory: string): Promise<MountEntry | undefined> {
  const plain = directory.length > 1 ? directory.replace(/\/+$/, "") : directory;
  const mounts = await mountsOf();
  const direct = mounts.findLast((entry) => entry.target === plain);
  if (direct !== undefined) return direct;
  const real = await realPath(plain);
  return mounts.findLast((entry) => entry.target === real);
}

/** The path without symbolic links; as given when it does not exist or cannot be looked at in time. */
export async function realPath(path: string): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(path), PATH_LIMIT_MS);
  });
  const found = realpath(path).catch(() => path);
  try {
    return await Promise.race([found, late]);
  } finally {
    clearTimeout(timer);
  }
}
