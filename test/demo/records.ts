// The writer's program, run on the node that holds the service: appends numbered records to a file and prints each number when
// fsync has returned: from then on the record must survive anything. The other two commands judge the file afterwards.
//   records.js append FILE NONCE      until it is stopped, or the file is gone (the filesystem was unmounted below it)
//   records.js check FILE NONCE LAST  prints {"records":N,"lost":N,"firstLost":N|null} for the acknowledged 0..LAST
import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

export const RECORD_BYTES = 64;
/** Between two records: the file is closed then, so that an unmount finds a quiet moment. */
const PAUSE_MS = 4;

/** Exit codes of `append`; 0: stopped, or the filesystem went away in an orderly manner. */
export const EXIT_NOT_MOUNTED = 4;
export const EXIT_IO_ERROR = 5;

export interface Verdict {
  readonly records: number;
  readonly lost: number;
  readonly firstLost: number | null;
}

/** Record `n`: 64 bytes that only it can have. */
export function record(n: number, nonce: string): string {
  const digest = createHash("sha256").update(`${nonce}:${n}`).digest("hex");
  return `${`${String(n).padStart(10, "0")} ${nonce} ${digest}`.slice(0, RECORD_BYTES - 1)}\n`;
}

export function check(file: Buffer, nonce: string, last: number): Verdict {
  let lost = 0;
  let firstLost: number | null = null;
  for (let n = 0; n <= last; n++) {
    if (file.toString("latin1", n * RECORD_BYTES, (n + 1) * RECORD_BYTES) === record(n, nonce)) continue;
    lost++;
    firstLost ??= n;
  }
  return { records: Math.floor(file.length / RECORD_BYTES), lost, firstLost };
}

/** What a power loss left behind the last whole record was never acknowledged; the file is made where there is none. */
function dropTornTail(path: string, nonce: string): void {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  let count = Math.floor(fstatSync(fd).size / RECORD_BYTES);
  const slot = Buffer.alloc(RECORD_BYTES);
  const isWhole = (n: number): boolean =>
    readSync(fd, slot, 0, RECORD_BYTES, n * RECORD_BYTES) === RECORD_BYTES &&
    slot.toString("latin1") === record(n, nonce);
  while (count > 0 && !isWhole(count - 1)) count--;
  ftruncateSync(fd, count * RECORD_BYTES);
  closeSync(fd);
}

async function append(path: string, nonce: string): Promise<void> {
  const device = statSync(dirname(path)).dev;
  if (device === statSync(dirname(dirname(path))).dev) {
    console.error(`${dirname(path)} is not mounted`);
    process.exit(EXIT_NOT_MOUNTED);
  }
  dropTornTail(path, nonce);
  for (;;) {
    let fd: number;
    try {
      fd = openSync(path, constants.O_WRONLY | constants.O_APPEND); // no O_CREAT: not into the folder below the mount
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return; // unmounted: the service moves
      throw error;
    }
    const { size, dev } = fstatSync(fd);
    if (dev !== device) return;
    const n = size / RECORD_BYTES;
    writeSync(fd, record(n, nonce));
    fsyncSync(fd);
    writeSync(1, `${n}\n`);
    closeSync(fd);
    await delay(PAUSE_MS);
  }
}

const [command, path, nonce, last] = process.argv.slice(2);
if (command === "append" && path !== undefined && nonce !== undefined) {
  try {
    await append(path, nonce);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(EXIT_IO_ERROR);
  }
} else if (command === "check" && path !== undefined && nonce !== undefined) {
  console.log(JSON.stringify(check(readFileSync(path), nonce, Number(last))));
}
