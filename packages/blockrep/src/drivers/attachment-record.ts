import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** How a device gets from the NBD socket to /dev. */
export type AttachMethod = "fuse" | "nbd" | "none";

/** What is attached under a name, as it is written to the run directory: a restarted process finds it there. */
export interface Attachment {
  readonly name: string;
  readonly method: AttachMethod;
  /** The block device that the kernel made: /dev/loopN or /dev/nbdN; empty while it is being made, and for `none`. */
  readonly devicePath: string;
  /** The configured device: a link to `devicePath`, or empty. */
  readonly linkPath: string;
  readonly sizeBytes: number;
  readonly socketPath: string;
  /** Where nbdfuse shows the device as a file. */
  readonly mountPoint: string;
  /** The helper process and its start time in clock ticks since boot, which tells it from a later one of that pid. */
  readonly pid: number;
  readonly pidStartTicks: number;
}

function recordPath(runDirectory: string, name: string): string {
  return join(runDirectory, `attach-${name}.json`);
}

/** What is attached as `name` according to the run directory, or undefined. */
export function readAttachment(runDirectory: string, name: string): Attachment | undefined {
  let text: string;
  try {
    text = readFileSync(recordPath(runDirectory, name), "utf8");
  } catch {
    return undefined;
  }
  try {
    return JSON.parse(text) as Attachment;
  } catch {
    return undefined; // cut off by a crash before anything was attached: it is renamed into place when complete
  }
}

export function writeAttachment(runDirectory: string, attachment: Attachment): void {
  mkdirSync(runDirectory, { recursive: true, mode: 0o755 });
  const path = recordPath(runDirectory, attachment.name);
  writeFileSync(`${path}.new`, `${JSON.stringify(attachment, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function removeAttachment(runDirectory: string, name: string): void {
  rmSync(recordPath(runDirectory, name), { force: true });
}

/** When a process started, in clock ticks since boot; undefined when there is none of that pid, or only its zombie. */
export function processStartTicks(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // the command in parentheses may hold spaces and parentheses itself
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : Number(fields[19]);
  } catch {
    return undefined;
  }
}
