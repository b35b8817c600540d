import { readFileSync } from "node:fs";

const LEAST_BYTES: number = 16 * 1024 * 1024;
const MOST_BYTES: number = 1024 * 1024 * 1024;
const UNKNOWN_BYTES: number = 64 * 1024 * 1024;

/**
 * Bytes of unflushed data that one disk may have while the kernel surely lets writers run: half of the threshold at
 * which it begins to write back by itself (vm.dirty_background_*), since other writers count as well.
 */
export function kernelDirtyLimitBytes(): number {
  const bytes = value("/proc/sys/vm/dirty_background_bytes");
  const background = bytes > 0 ? bytes : (availableBytes() * value("/proc/sys/vm/dirty_background_ratio")) / 100;
  if (!(background > 0)) return UNKNOWN_BYTES;
  return Math.min(MOST_BYTES, Math.max(LEAST_BYTES, background / 2));
}

function value(path: string): number {
  return Number(text(path));
}

function availableBytes(): number {
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(text("/proc/meminfo"))?.[1]) * 1024;
}

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
