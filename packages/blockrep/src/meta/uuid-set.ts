/**
 * The generation identifiers of one replica. Bit 0 of `current` says "a Primary made or holds this"; comparisons
 * ignore it, the split-brain policies read bit 0 of `bitmap`.
 * Values are never changed in place: every operation returns a new set, to be written to disk before going on.
 */
export interface UuidSet {
  /** Generation of the data here. */
  readonly current: bigint;
  /** Generation of the data on the peer as of the last contact, the base of the out-of-sync bitmap; 0: in sync. */
  readonly bitmap: bigint;
  readonly history0: bigint;
  readonly history1: bigint;
}

/** `current` of metadata that never held data. */
export const UUID_JUST_CREATED = 4n;

/** What `create-md` writes. */
export const FRESH_UUIDS: UuidSet = { current: UUID_JUST_CREATED, bitmap: 0n, history0: 0n, history1: 0n };

/** One UUID as 16 upper-case hexadecimal digits. */
export function formatUuid(uuid: bigint): string {
  return BigInt.asUintN(64, uuid).toString(16).toUpperCase().padStart(16, "0");
}

/** `C:B:H0:H1`, 16 upper-case digits each, as DRBD logs and `get-gi` prints them. */
export function formatUuids(set: UuidSet): string {
  return [set.current, set.bitmap, set.history0, set.history1].map(formatUuid).join(":");
}
