import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { ErrorCode, HaError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import { describeHolders, findDeviceHolders, majorMinor } from "./device-holders.ts";
import { lockFile, seekEnd } from "./file-lock.ts";
import { findProgram } from "./program.ts";

/** An open and locked file or block device. */
export interface OpenDisk {
  readonly path: string;
  readonly fd: number;
  /** A multiple of SECTOR_SIZE. */
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  /** Holes can probably be punched; the first try decides. */
  readonly canDiscard: boolean;
}

/**
 * Opens a disk for this process alone: a block device O_EXCL, so that nobody can mount it meanwhile (a flock would
 * succeed on a mounted device), a file with an exclusive lock.
 * @throws HaError HA_STORE_MISSING, HA_STORE_BUSY, HA_STORE_TOO_SMALL, HA_STORE_IO
 */
export function openDisk(path: string, options: { readOnly?: boolean; minimumBytes?: number } = {}): OpenDisk {
  const mode = options.readOnly === true ? constants.O_RDONLY : constants.O_RDWR;
  // without O_CREAT the kernel looks at O_EXCL for block devices only
  const fd = open(path, mode | constants.O_EXCL);
  try {
    const stat = fstatSync(fd);
    const isBlockDevice = stat.isBlockDevice();
    if (!isBlockDevice && !stat.isFile()) {
      throw new HaError(ErrorCode.storeMissing, `${path} is neither a file nor a block device; correct the path`, {
        path,
      });
    }
    if (!isBlockDevice) lockFile(fd, path);
    const sizeBytes = sizeOf(fd, stat.rdev, isBlockDevice, stat.size);
    const minimum = options.minimumBytes ?? 0;
    if (sizeBytes < minimum) {
      throw new HaError(
        ErrorCode.storeTooSmall,
        `${path} has ${sizeBytes} bytes, and ${minimum} are needed; use a larger disk`,
        { path, sizeBytes, neededBytes: minimum },
      );
    }
    return { path, fd, sizeBytes, isBlockDevice, canDiscard: canDiscard(stat.rdev, isBlockDevice) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

export function closeDisk(disk: OpenDisk): void {
  closeSync(disk.fd);
}

function open(path: string, flags: number): number {
  try {
    return openSync(path, flags);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    switch (code) {
      case "ENOENT":
        throw new HaError(
          ErrorCode.storeMissing,
          `${path} does not exist; correct "disk" in the resource, or create it`,
          { path, errno: code },
          error,
        );
      case "ENXIO":
        throw new HaError(ErrorCode.storeMissing, `${path} has no device behind it`, { path, errno: code }, error);
      case "EISDIR":
        throw new HaError(ErrorCode.storeMissing, `${path} is a directory, not a disk`, { path, errno: code }, error);
      case "EBUSY": {
        const holders = describeHolders(findDeviceHolders(path)) || "in use by the kernel or another process";
        throw new HaError(
          ErrorCode.storeBusy,
          `${path} is ${holders}; unmount it or stop what uses it`,
          { path, holders },
          error,
        );
      }
      case "EACCES":
      case "EPERM":
        throw new HaError(
          ErrorCode.storeIo,
          `cannot open ${path}: permission denied; run as root or change its owner`,
          { path, errno: code },
          error,
        );
      case "EROFS":
        throw new HaError(ErrorCode.storeIo, `cannot open ${path}: read-only`, { path, errno: code }, error);
      default:
        throw new HaError(ErrorCode.storeIo, `cannot open ${path}: ${message}`, { path, errno: code ?? "EIO" }, error);
    }
  }
}

function sizeOf(fd: number, rdev: number, isBlockDevice: boolean, statBytes: number): number {
  const bytes = isBlockDevice ? (sysfsBytes(rdev) ?? seekEnd(fd)) : statBytes;
  return Math.floor(bytes / SECTOR_SIZE) * SECTOR_SIZE;
}

/** The kernel's own figure, in sectors whatever the device's block size. */
function sysfsBytes(rdev: number): number | undefined {
  const sectors = sysfsNumber(rdev, "size");
  return sectors === undefined ? undefined : sectors * SECTOR_SIZE;
}

function canDiscard(rdev: number, isBlockDevice: boolean): boolean {
  if (findProgram("fallocate") === undefined) return false;
  // a partition's queue is its disk's
  return (
    !isBlockDevice ||
    (sysfsNumber(rdev, "queue/discard_max_bytes") ?? sysfsNumber(rdev, "../queue/discard_max_bytes") ?? 0) > 0
  );
}

function sysfsNumber(rdev: number, name: string): number | undefined {
  const { major, minor } = majorMinor(rdev);
  try {
    const value = Number(readFileSync(`/sys/dev/block/${major}:${minor}/${name}`, "utf8"));
    return Number.isFinite(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
