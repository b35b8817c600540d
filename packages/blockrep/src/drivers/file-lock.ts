import { fstatSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { ErrorCode, HaError } from "../base/errors.ts";

/** What is used of fs-ext. It is loaded when it is first needed, so that everything else works without the addon. */
interface FsExt {
  flockSync(fd: number, flags: "exnb" | "un"): void;
  seekSync(fd: number, position: number, whence: number): number;
}

const SEEK_END = 2;
let loaded: FsExt | undefined;

function fsExt(): FsExt {
  try {
    loaded ??= createRequire(import.meta.url)("fs-ext") as FsExt;
    return loaded;
  } catch (error) {
    throw new HaError(
      ErrorCode.unsupported,
      "the npm package fs-ext was not compiled; install make, g++ and python3, then run npm rebuild fs-ext",
      {},
      error,
    );
  }
}

/**
 * Takes the exclusive lock of an open file, without waiting. It lasts until the descriptor is closed, also by death.
 * Advisory, so for files only: a mounted block device does not mind it.
 * @throws HaError HA_STORE_BUSY naming the holder where /proc/locks tells
 */
export function lockFile(fd: number, path: string): void {
  try {
    fsExt().flockSync(fd, "exnb");
  } catch (error) {
    if (error instanceof HaError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EAGAIN" && code !== "EWOULDBLOCK") {
      throw new HaError(ErrorCode.storeIo, `cannot lock ${path}: ${(error as Error).message}`, { path }, error);
    }
    const holder = lockHolder(fd);
    const by = holder === undefined ? "another process" : `process ${holder.pid} (${holder.command})`;
    throw new HaError(
      ErrorCode.storeBusy,
      `${path} is locked by ${by}; bring that resource down or use another file`,
      holder === undefined ? { path } : { path, pid: holder.pid },
      error,
    );
  }
}

/** Bytes of an open file or block device, by seeking to its end: stat says 0 for a device. */
export function seekEnd(fd: number): number {
  return fsExt().seekSync(fd, 0, SEEK_END);
}

/** Who holds the flock of the file, from /proc/locks; undefined where that is not to be had. */
function lockHolder(fd: number): { pid: number; command: string } | undefined {
  try {
    const { ino } = fstatSync(fd);
    for (const line of readFileSync("/proc/locks", "utf8").split("\n")) {
      const fields = line.trim().split(/\s+/);
      if (fields[1] !== "FLOCK" || !(fields[5] ?? "").endsWith(`:${ino}`)) continue;
      const pid = Number(fields[4]);
      return { pid, command: readFileSync(`/proc/${pid}/comm`, "utf8").trim() };
    }
  } catch {
    // no /proc, or the holder is in another pid namespace
  }
  return undefined;
}
