import { readdirSync, readFileSync } from "node:fs";
import { must, run } from "./process.ts";

/** Attach a file to a free loop device and return its path, such as `/dev/loop3`. */
export async function attachLoop(file: string): Promise<string> {
  return (await must(["losetup", "--find", "--show", file])).trim();
}

/** The loop devices whose backing file is `path` or lies below it. Read from sysfs: no device is opened. */
export function loopsOn(path: string): string[] {
  return loopDevices().flatMap(({ device, backing }) =>
    backing === path || backing.startsWith(`${path}/`) ? [device] : [],
  );
}

/** Every attached loop device of this machine with its backing file, as the kernel names it. */
export function loopDevices(): { device: string; backing: string }[] {
  return readdirSync("/sys/block")
    .filter((name) => name.startsWith("loop"))
    .flatMap((name) => {
      try {
        const text = readFileSync(`/sys/block/${name}/loop/backing_file`, "utf8").trimEnd();
        return [{ device: `/dev/${name}`, backing: text.replace(/ \(deleted\)$/, "") }];
      } catch {
        return []; // not attached
      }
    });
}

/** Detach every loop device on `path` or below it. */
export async function detachLoops(path: string): Promise<void> {
  for (const device of loopsOn(path)) await run(["losetup", "--detach", device]);
}

/**
 * Make a folder with the device files of a node: the usual ones, FUSE, and enough loop devices that whatever number the
 * kernel hands out next has its file (loop numbers are global, and a private /dev gets no new files by itself).
 */
export async function makeDevices(folder: string): Promise<void> {
  const highest = Math.max(0, ...loopDevices().map(({ device }) => Number(device.slice("/dev/loop".length))));
  const script = `
    cd /dev && cp -a --parents null zero full random urandom tty loop-control fuse "$0/" && cd "$0" || exit 1
    n=0
    while [ $n -lt ${highest + 48} ]; do mknod -m 660 loop$n b 7 $n || exit 1; n=$((n + 1)); done`;
  await must(["sh", "-c", script, folder]);
}
