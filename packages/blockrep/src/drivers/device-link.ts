import { lstatSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { dirname } from "node:path";
import { ErrorCode, HaError } from "../base/errors.ts";

/** What stands at the configured device's path. */
export type LinkState = { kind: "absent" } | { kind: "link"; target: string } | { kind: "other" };

export function linkState(path: string): LinkState {
  try {
    if (!lstatSync(path).isSymbolicLink()) return { kind: "other" };
    return { kind: "link", target: readlinkSync(path) };
  } catch {
    return { kind: "absent" };
  }
}

/**
 * Refuses a path that holds something of somebody else: a device node of the kernel's DRBD, above all.
 * @throws HaError HA_DEVICE_BUSY
 */
export function checkLinkPath(path: string): void {
  const state = linkState(path);
  if (state.kind !== "other") return;
  throw new HaError(
    ErrorCode.deviceBusy,
    `${path} exists and is not a link of ours; unload the kernel's drbd module (rmmod drbd) or remove the file`,
    { path },
  );
}

/** Points `path` at `target`, replacing a link that is there; nobody ever sees it missing. */
export function putLink(path: string, target: string): void {
  checkLinkPath(path);
  mkdirSync(dirname(path), { recursive: true });
  const fresh = `${path}.hacluster-new`;
  rmSync(fresh, { force: true });
  symlinkSync(target, fresh);
  renameSync(fresh, path);
}

/** Removes `path` when it is a link to `target`, or a link to a loop or nbd device when `target` is undefined. */
export function removeLink(path: string, target?: string): boolean {
  const state = linkState(path);
  if (state.kind !== "link") return false;
  const ours = target === undefined ? /^\/dev\/(loop|nbd)\d+$/.test(state.target) : state.target === target;
  if (ours) rmSync(path, { force: true });
  return ours;
}
