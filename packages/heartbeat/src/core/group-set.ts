import type { GroupSet } from "./ports.ts";

/**
 * Heartbeat's unit of ownership: the service groups of one node taken together. Two bits, seen from one node: the groups
 * that prefer it, and those that prefer the other.
 */
export const NONE = 0;
export const LOCAL = 1;
export const FOREIGN = 2;
export const ALL = 3;

const NAMES: readonly GroupSet[] = ["none", "local", "foreign", "all"];

export function setName(bits: number): GroupSet {
  return NAMES[bits & ALL] as GroupSet;
}

/** Bits of a name from the wire (`failback` means foreign, as everywhere in Heartbeat); undefined for other words. */
export function setBits(name: string | undefined): number | undefined {
  if (name === "failback") return FOREIGN;
  const at = (NAMES as readonly string[]).indexOf(name ?? "");
  return at < 0 ? undefined : at;
}

/** The same groups as the other node names them. */
export function mirrored(bits: number): number {
  return ((bits & LOCAL) << 1) | ((bits & FOREIGN) >> 1);
}
