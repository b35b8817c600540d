import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { arch, cpus, loadavg, release, totalmem } from "node:os";

function firstLine(program: string, ...args: string[]): string | null {
  const { status, stdout } = spawnSync(program, args, { encoding: "utf8" });
  return status === 0 ? (stdout.split("\n")[0] ?? "").trim() : null;
}

/** What a figure depends on beside the code. */
export function machineFacts(work: string): Record<string, unknown> {
  const mount = firstLine("findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", work);
  let distribution = "";
  try {
    distribution = /PRETTY_NAME="(.*)"/.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "";
  } catch {
    // not Debian-like; the kernel's release says enough
  }
  return {
    cpu: cpus()[0]?.model ?? arch(),
    cpus: cpus().length,
    memoryMib: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    distribution,
    fileSystem: mount,
    loadAverage: loadavg(),
    node: process.version,
    fio: firstLine("fio", "--version"),
    nbdkit: firstLine("nbdkit", "--version"),
    qemu: firstLine("qemu-storage-daemon", "--version"),
    commit: firstLine("git", "describe", "--always", "--dirty"),
  };
}
