import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { ErrorCode, HaError } from "../base/errors.ts";

const FOLDERS: readonly string[] = [
  ...(process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== ""),
  "/usr/sbin",
  "/sbin",
  "/usr/bin",
  "/bin",
];

/** Which Debian package brings a program that is called from here. */
const DEBIAN_PACKAGES: Readonly<Record<string, string>> = {
  nbdfuse: "libnbd-bin",
  fusermount3: "fuse3",
  losetup: "mount",
  fallocate: "util-linux",
  "nbd-client": "nbd-client",
};

/** Full path of an installed program, or undefined. */
export function findProgram(name: string): string | undefined {
  return FOLDERS.map((folder) => join(folder, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Full path of a program that is needed.
 * @throws HaError HA_PROGRAM_MISSING naming the Debian package
 */
export function needProgram(name: string): string {
  const path = findProgram(name);
  if (path !== undefined) return path;
  const debianPackage = DEBIAN_PACKAGES[name] ?? name;
  throw new HaError(ErrorCode.programMissing, `${name} is not installed; apt install ${debianPackage}`, {
    program: name,
    debianPackage,
  });
}

/**
 * Runs a program to its end.
 * @param extraFd a descriptor that the program sees as number 3
 * @returns what it wrote to standard output
 * @throws HaError HA_PROGRAM_MISSING, HA_PROGRAM_FAILED with what it wrote to standard error, or HA_TIMEOUT
 */
export function runProgram(
  name: string,
  args: readonly string[],
  options: { timeoutMs?: number; extraFd?: number } = {},
): Promise<string> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const shown = [name, ...args].join(" ");
  return new Promise((resolve, reject) => {
    const child = spawn(needProgram(name), [...args], {
      stdio: ["ignore", "pipe", "pipe", ...(options.extraFd === undefined ? [] : [options.extraFd])],
    });
    let out = "";
    let err = "";
    let timedOut = false;
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      err = `${err}${text}`.slice(-4096);
    });
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    child.once("error", (error) => {
      clearTimeout(timer);
      reject(new HaError(ErrorCode.programFailed, `${shown}: ${error.message}`, { program: name }, error));
    });
    child.once("close", (status, signal) => {
      clearTimeout(timer);
      if (timedOut) {
        reject(new HaError(ErrorCode.timeout, `${shown} did not end within ${timeoutMs} ms`, { program: name }));
      } else if (status === 0) resolve(out);
      else {
        const how = status === null ? `ended by ${signal}` : `exit status ${status}`;
        const said = err.trim() === "" ? "" : `: ${err.trim()}`;
        const details = { program: name, status: status ?? -1, stderr: err.trim() };
        reject(new HaError(ErrorCode.programFailed, `${shown} failed (${how})${said}`, details));
      }
    });
  });
}
