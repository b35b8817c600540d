import { createHash, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";

/** Where Heartbeat keeps generation and uuid; the same files, so that a node can change sides and back. */
export const STATE_FOLDER = "/var/lib/heartbeat";
const GENERATION_DIGITS = 15;
const UUID_BYTES = 16;

/** Name of this node: the first line of etc/ha.d/nodeinfo below `root`, else `uname -n`; lower case. */
export function readNodeName(root = "/"): string {
  const override = readOptional(join(root, "etc/ha.d/nodeinfo"))?.toString("utf8").split("\n")[0]?.trim();
  return (override === undefined || override === "" ? hostname() : override).toLowerCase();
}

export interface Generation {
  /** For `hg` of this start; already on stable storage. */
  readonly generation: number;
  /** That of the last start; undefined when the file was missing or unreadable, which deserves a log line. */
  readonly previous: number | undefined;
}

/**
 * The generation of this start: one more than the last, and durable before it is returned, so before any packet. A
 * peer treats a lower generation as a replay for ever, so a file from an old backup is overtaken by the clock; a
 * missing file starts from the clock. `time` uses the clock only and no file.
 * The file is 15 columns of decimal and a newline, rewritten in place.
 * @param nowSeconds Unix time
 * @throws HaError HA_STORE_IO when the file cannot be written
 * @see Heartbeat 3.0.6 hb_generation
 */
export function nextGeneration(folder: string, method: "file" | "time", nowSeconds: number): Generation {
  const now = Math.floor(nowSeconds);
  if (method === "time") return { generation: now, previous: undefined };
  const path = join(folder, "hb_generation");
  const text = readOptional(path)?.toString("latin1") ?? "";
  const digits = /^ *([0-9]{1,15})\s*$/.exec(text)?.[1];
  const previous = digits === undefined ? undefined : Number(digits);
  const generation = Math.max(previous === undefined ? 0 : previous + 1, now + (previous === undefined ? 1 : 0));
  writeDurably(path, Buffer.from(`${String(generation).padStart(GENERATION_DIGITS)}\n`, "latin1"), 0o644);
  return { generation, previous };
}

/**
 * The uuid of this node, 16 bytes. From the file, which is created once; or derived from the node's name. Never copy
 * it to another machine: two nodes with one uuid are one node to their peers.
 * @throws HaError HA_STORE_IO when the file cannot be written
 * @see Heartbeat 3.0.6 hb_uuid
 */
export function loadUuid(folder: string, from: "file" | "nodename", nodeName: string): Uint8Array {
  if (from === "nodename") return asUuid(createHash("sha256").update(nodeName.toLowerCase()).digest(), 8);
  const path = join(folder, "hb_uuid");
  const stored = readOptional(path);
  if (stored?.length === UUID_BYTES && stored.some((byte) => byte !== 0)) return Uint8Array.from(stored);
  const fresh = asUuid(randomBytes(UUID_BYTES), 4);
  writeDurably(path, fresh, 0o600);
  return fresh;
}

/** Version and variant bits of RFC 9562, so that tools show it as what it is. */
function asUuid(bytes: Uint8Array, version: number): Uint8Array {
  const uuid = Uint8Array.from(bytes.subarray(0, UUID_BYTES));
  uuid[6] = (uuid[6]! & 0x0f) | (version << 4);
  uuid[8] = (uuid[8]! & 0x3f) | 0x80;
  return uuid;
}

function readOptional(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** Overwrites in place, as Heartbeat does, and flushes file and folder. */
function writeDurably(path: string, bytes: Uint8Array, mode: number): void {
  try {
    // "a+" would append and "w" would leave an empty file after a crash: open for update, or create
    const file = openForUpdate(path, mode);
    try {
      writeSync(file, bytes, 0, bytes.length, 0);
      ftruncateSync(file, bytes.length);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    const folder = openSync(dirname(path), "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new HaError(
      ErrorCode.storeIo,
      `cannot write ${path}: ${reason}; the daemon needs it before its first packet`,
      { path },
      cause,
    );
  }
}

function openForUpdate(path: string, mode: number): number {
  try {
    return openSync(path, "r+");
  } catch {
    return openSync(path, "wx", mode);
  }
}
