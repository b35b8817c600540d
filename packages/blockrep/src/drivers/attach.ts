import { spawn } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { access, type FileHandle, open } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ErrorCode, HaError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import {
  type AttachMethod,
  type Attachment,
  processStartTicks,
  readAttachment,
  removeAttachment,
  writeAttachment,
} from "./attachment-record.ts";
import { describeHolders, findDeviceHolders } from "./device-holders.ts";
import { checkLinkPath, putLink, removeLink } from "./device-link.ts";
import { needProgram, runProgram } from "./program.ts";

const READY_TIMEOUT_MS = 10_000;
const GONE_TIMEOUT_MS = 10_000;
const POLL_MS = 10;
/** udev and blkid open a device for a moment after each change: a refusal is final only after these tries. */
const EXCLUSIVE_TRIES = 10;
const EXCLUSIVE_WAIT_MS = 50;

export interface AttachOptions {
  /** Unique on this machine, fit for a file name; the resource's name, with the volume where it has several. */
  readonly name: string;
  /** `auto`: the kernel's client where it has one, else `fuse`. */
  readonly method: AttachMethod | "auto";
  /** The NBD server's socket and export. */
  readonly socketPath: string;
  readonly exportName: string;
  /** Of the export; what comes up under /dev is checked against it. */
  readonly sizeBytes: number;
  /** The configured device, such as /dev/drbd0; becomes a link. */
  readonly linkPath?: string;
  readonly readOnly?: boolean;
  /** Where records and mount points are kept: /run/hacluster/attach. */
  readonly runDirectory: string;
}

/** The method that `auto` means on this machine. */
export function defaultAttachMethod(): "fuse" | "nbd" {
  return existsSync("/sys/module/nbd") ? "nbd" : "fuse";
}

/**
 * Makes a block device of an NBD export and links the configured device to it.
 * @throws HaError HA_DEVICE_BUSY when the name is attached or the link's path holds something else, HA_PROGRAM_MISSING,
 * HA_PROGRAM_FAILED, HA_TIMEOUT; nothing stays behind after a failure
 */
export async function attachDevice(options: AttachOptions): Promise<Attachment> {
  const existing = readAttachment(options.runDirectory, options.name);
  if (existing !== undefined) {
    throw new HaError(
      ErrorCode.deviceBusy,
      `${options.name} is attached already as ${existing.devicePath || "(unfinished)"}; detach it first`,
      { name: options.name, device: existing.devicePath },
    );
  }
  if (options.linkPath !== undefined) checkLinkPath(options.linkPath);
  const method = options.method === "auto" ? defaultAttachMethod() : options.method;
  let attachment: Attachment = {
    name: options.name,
    method,
    devicePath: "",
    linkPath: options.linkPath ?? "",
    sizeBytes: options.sizeBytes,
    socketPath: options.socketPath,
    mountPoint: method === "fuse" ? join(options.runDirectory, `${options.name}.mnt`) : "",
    pid: 0,
    pidStartTicks: 0,
  };
  // each step is recorded before the next begins, so that a crash in between leaves nothing that cannot be found
  const record = (change: Partial<Attachment>): void => {
    attachment = { ...attachment, ...change };
    writeAttachment(options.runDirectory, attachment);
  };
  if (method === "none") return attachment;
  try {
    record({});
    if (method === "fuse") await attachFuse(options, attachment, record);
    else await attachKernel(options, record);
    checkSize(attachment);
    if (options.linkPath !== undefined) putLink(options.linkPath, attachment.devicePath);
    return attachment;
  } catch (error) {
    await takeDown(options.runDirectory, attachment).catch(() => {});
    throw error;
  }
}

async function attachFuse(
  options: AttachOptions,
  attachment: Attachment,
  record: (change: Partial<Attachment>) => void,
): Promise<void> {
  for (const program of ["losetup", "fusermount3"]) needProgram(program);
  if (!existsSync("/dev/fuse")) {
    throw new HaError(ErrorCode.unsupported, "/dev/fuse is missing; modprobe fuse, or give it to the container", {});
  }
  mkdirSync(attachment.mountPoint, { recursive: true, mode: 0o700 });
  // loop devices are global: a file name of its own tells whose a loop device is
  const file = join(attachment.mountPoint, `${options.name}.${process.pid}`);
  const args = [...(options.readOnly === true ? ["-r"] : []), ...["-C", "4", "-o", "noatime", file, nbdUri(options)]];
  const logPath = join(options.runDirectory, `${options.name}.nbdfuse.log`);
  const log = openSync(logPath, "w", 0o600);
  const child = spawn(needProgram("nbdfuse"), args, { detached: true, stdio: ["ignore", log, log] });
  closeSync(log);
  let ended = false;
  const end = (): void => {
    ended = true;
  };
  child.once("error", end).once("exit", end);
  if (child.pid !== undefined) record({ pid: child.pid, pidStartTicks: processStartTicks(child.pid) ?? 0 });
  await until(READY_TIMEOUT_MS, async () => ended || (await exists(file)), "nbdfuse did not show the device");
  if (ended) {
    const said = readText(logPath).trim().slice(-2048) || "it left no message";
    throw new HaError(
      ErrorCode.programFailed,
      `nbdfuse could not show export "${options.exportName}" of ${options.socketPath}: ${said}`,
      { program: "nbdfuse", path: options.socketPath },
    );
  }
  child.unref(); // from here on it lives on its own
  record({ devicePath: await setUpLoop(file, options.readOnly === true) });
}

async function setUpLoop(file: string, readOnly: boolean): Promise<string> {
  const args = ["--find", "--show", "--direct-io=on", ...(readOnly ? ["--read-only"] : []), file];
  try {
    return (await runProgram("losetup", args)).trim();
  } catch (error) {
    if (!(error instanceof HaError) || error.code !== ErrorCode.programFailed) throw error;
    throw new HaError(ErrorCode.programFailed, `${error.message}; ${loopHint()}`, error.details, error);
  }
}

/** Why there may be no loop device: the kernel picks a number, and a private /dev may lack its node. */
function loopHint(): string {
  if (!existsSync("/dev/loop-control"))
    return "/dev/loop-control is missing: modprobe loop, or give it to the container";
  const used = new Set(
    listFolder("/sys/block").filter((name) => /^loop\d+$/.test(name) && existsSync(`/sys/block/${name}/loop`)),
  );
  let number = 0;
  while (used.has(`loop${number}`)) number++;
  if (existsSync(`/dev/loop${number}`)) return "look at the kernel's log";
  return `the kernel's next free loop device has no node here: mknod /dev/loop${number} b 7 ${number}`;
}

async function attachKernel(options: AttachOptions, record: (change: Partial<Attachment>) => void): Promise<void> {
  if (!existsSync("/sys/module/nbd")) {
    throw new HaError(ErrorCode.unsupported, "the kernel has no nbd; modprobe nbd, or attach with fuse", {});
  }
  const device = listFolder("/sys/block")
    .filter((name) => /^nbd\d+$/.test(name) && !existsSync(`/sys/block/${name}/pid`))
    .sort((a, b) => Number(a.slice(3)) - Number(b.slice(3)))
    .map((name) => `/dev/${name}`)
    .find((path) => existsSync(path));
  if (device === undefined) {
    throw new HaError(ErrorCode.deviceBusy, "no free /dev/nbdN; modprobe nbd nbds_max=16, or detach one", {});
  }
  const args = [
    "-unix",
    options.socketPath,
    device,
    "-N",
    options.exportName,
    "-connections",
    "4",
    "-block-size",
    "512",
  ];
  await runProgram("nbd-client", options.readOnly === true ? [...args, "-readonly"] : args);
  // an older client forks, and the fork connects the device a moment after its parent's end
  await until(
    READY_TIMEOUT_MS,
    () => Number(readText(`/sys/block/${basename(device)}/pid`)) > 0,
    `${device} did not connect`,
  );
  record({ devicePath: device, ...kernelClient(device) });
}

function kernelClient(device: string): Partial<Attachment> {
  const pid = Number(readText(`/sys/block/${basename(device)}/pid`));
  return pid > 0 ? { pid, pidStartTicks: processStartTicks(pid) ?? 0 } : {};
}

function checkSize(attachment: Attachment): void {
  const bytes = deviceBytes(attachment.devicePath);
  if (bytes === attachment.sizeBytes) return;
  throw new HaError(
    ErrorCode.storeTooSmall,
    `${attachment.devicePath} has ${bytes} bytes, and ${attachment.name} has ${attachment.sizeBytes}: it is another device`,
    { device: attachment.devicePath, sizeBytes: bytes, neededBytes: attachment.sizeBytes },
  );
}

/**
 * Takes the device away when nobody uses it: claims it (so that nobody can mount it meanwhile), flushes it, removes it
 * and its link, and looks whether it is gone. Does nothing when the name is not attached.
 * @throws HaError HA_DEVICE_BUSY naming mounts and processes; then everything stays as it was
 */
export async function detachDevice(runDirectory: string, name: string): Promise<void> {
  const attachment = readAttachment(runDirectory, name);
  if (attachment === undefined) return;
  const claim = isOurs(attachment) ? await claimDevice(attachment.devicePath) : undefined;
  try {
    await claim?.sync();
    await takeDown(runDirectory, attachment, claim);
  } finally {
    await claim?.close().catch(() => {}); // closed on the way, or kept by a failure
  }
}

/**
 * Removes what a process that died left attached. Its NBD server is gone, so a flush cannot succeed and is not tried.
 * @throws HaError HA_DEVICE_BUSY when it is still mounted or open: then it must not be attached anew under it
 */
export async function cleanLeftovers(runDirectory: string, name: string, linkPath?: string): Promise<boolean> {
  const attachment = readAttachment(runDirectory, name);
  if (attachment === undefined) {
    // a link without a record is older than this boot's run directory
    if (linkPath !== undefined) removeLink(linkPath);
    return false;
  }
  const claim = isOurs(attachment) ? await claimDevice(attachment.devicePath) : undefined;
  try {
    await takeDown(runDirectory, attachment, claim);
  } finally {
    await claim?.close().catch(() => {});
  }
  return true;
}

/** Who uses the attached device, in words; empty when nobody does or nothing is attached. */
export function attachedHolders(runDirectory: string, name: string): string {
  const attachment = readAttachment(runDirectory, name);
  return attachment === undefined || !isOurs(attachment) ? "" : holdersOf(attachment.devicePath);
}

/** Loop and nbd numbers are used again: a device is ours only while our file, or our client, stands behind it. */
function isOurs(attachment: Attachment): boolean {
  if (attachment.devicePath === "") return false;
  const block = `/sys/block/${basename(attachment.devicePath)}`;
  if (attachment.method === "nbd") return Number(readText(`${block}/pid`)) === attachment.pid && attachment.pid > 0;
  const backing = readText(`${block}/loop/backing_file`).trim();
  // in another mount namespace, or after a lazy unmount, the path is cut short: its last part stays
  return basename(backing.replace(/ \(deleted\)$/, "")).startsWith(`${attachment.name}.`);
}

function holdersOf(devicePath: string): string {
  return describeHolders(findDeviceHolders(devicePath));
}

/**
 * Opens the device O_EXCL; `losetup -d` on a mounted device "succeeds", so only this proves that it is free. Never by
 * a synchronous call: the device's I/O may be served by this very event loop.
 */
async function claimDevice(devicePath: string): Promise<FileHandle> {
  for (let tries = 1; ; tries++) {
    const claim = await tryClaim(devicePath);
    // a plain open is no claim, and such a process would go on writing: ask for those as well
    const holders = holdersOf(devicePath);
    if (claim !== undefined && holders === "") return claim;
    await claim?.close();
    if (tries < EXCLUSIVE_TRIES) {
      await sleep(EXCLUSIVE_WAIT_MS);
      continue;
    }
    const by = holders || "in use by the kernel or a process in another pid namespace";
    throw new HaError(ErrorCode.deviceBusy, `${devicePath} is ${by}; unmount it or end what uses it`, {
      device: devicePath,
      holders: by,
    });
  }
}

/** The claimed device, or undefined while somebody else has it. */
async function tryClaim(devicePath: string): Promise<FileHandle | undefined> {
  const errors: unknown[] = [];
  for (const mode of [constants.O_RDWR, constants.O_RDONLY]) {
    try {
      return await open(devicePath, mode | constants.O_EXCL);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EBUSY") return undefined;
      errors.push(error);
      if (code !== "EROFS" && code !== "EACCES") break;
    }
  }
  const error = errors[0] as NodeJS.ErrnoException;
  throw new HaError(
    ErrorCode.storeIo,
    `cannot open ${devicePath} to detach it: ${error.message}`,
    { device: devicePath, errno: error.code ?? "EIO" },
    error,
  );
}

/** Removes everything that the record names. `claim` is closed in between, since a loop device goes with its last user. */
async function takeDown(runDirectory: string, attachment: Attachment, claim?: FileHandle): Promise<void> {
  if (attachment.devicePath !== "" && attachment.linkPath !== "")
    removeLink(attachment.linkPath, attachment.devicePath);
  if (isOurs(attachment)) {
    if (attachment.method === "nbd") {
      await claim?.close();
      await runProgram("nbd-client", ["-d", attachment.devicePath]);
    } else {
      // while the claim is open this only marks the device; closing it lets it go, with no moment for a mount between
      await runProgram("losetup", ["--detach", attachment.devicePath]);
      await claim?.close();
    }
    await until(GONE_TIMEOUT_MS, () => !isOurs(attachment), `${attachment.devicePath} did not go away`);
  }
  if (attachment.method === "fuse") await endFuse(attachment);
  removeAttachment(runDirectory, attachment.name);
}

async function endFuse(attachment: Attachment): Promise<void> {
  const { mountPoint, pid, pidStartTicks } = attachment;
  const runs = (): boolean => pid > 0 && pidStartTicks > 0 && processStartTicks(pid) === pidStartTicks;
  const isMounted = (): boolean => mounted(mountPoint);
  if (isMounted()) {
    await runProgram("fusermount3", ["-u", mountPoint]).catch(async (error: unknown) => {
      // its process is dead, or a loop device of a moment ago still holds the file
      if (isMounted()) await runProgram("fusermount3", ["-u", "-z", mountPoint]);
      else if (existsSync(mountPoint)) throw error;
    });
  }
  try {
    await until(GONE_TIMEOUT_MS, () => !runs(), "nbdfuse did not end");
  } catch {
    // it hangs on a server that does not answer; what was to be flushed is flushed
    process.kill(pid, "SIGKILL");
    await until(GONE_TIMEOUT_MS, () => !runs(), `nbdfuse (process ${pid}) cannot be ended`);
  }
  try {
    rmdirSync(mountPoint);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") rmSync(mountPoint, { recursive: true, force: true });
  }
}

function mounted(path: string): boolean {
  return readText("/proc/self/mountinfo")
    .split("\n")
    .some((line) => line.split(" ")[4] === path);
}

function nbdUri(options: AttachOptions): string {
  const name = encodeURIComponent(options.exportName);
  return `nbd+unix:///${name}?socket=${encodeURIComponent(options.socketPath)}`;
}

function deviceBytes(path: string): number {
  return Number(readText(`/sys/block/${basename(path)}/size`)) * SECTOR_SIZE;
}

async function until(timeoutMs: number, reached: () => boolean | Promise<boolean>, otherwise: string): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await reached())) {
    if (performance.now() > deadline) throw new HaError(ErrorCode.timeout, `${otherwise} within ${timeoutMs} ms`, {});
    await sleep(POLL_MS);
  }
}

/** Asynchronous, since the answer may come from a file system that this process serves. */
async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
