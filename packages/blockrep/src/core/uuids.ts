import { UUID_JUST_CREATED, type UuidSet } from "../meta/uuid-set.ts";
import { Role } from "../wire/state-word.ts";

export { FRESH_UUIDS, formatUuid, formatUuids, UUID_JUST_CREATED, type UuidSet } from "../meta/uuid-set.ts";

/** A source adds this to its bitmap UUID when a resync starts, so that an interrupted one is recognised. */
export const UUID_NEW_BM_OFFSET = 0x0001_0000_0000_0000n;

const U64 = 0xffff_ffff_ffff_ffffn;
const WITHOUT_BIT0 = 0xffff_ffff_ffff_fffen;

/** Results of the comparison that are not a direction. */
export const CompareResult = {
  noSync: 0,
  /** Both wrote since they last met; automatic recovery may decide. */
  splitBrain: 100,
  /** The same, but related only through history: automatic recovery needs `always-asbp` and copies everything. */
  splitBrainDistant: -100,
  unrelated: -1000,
  /** The rule needs protocol version 91 (-1000 - version). */
  needsProtocol91: -1091,
  /** Rule 41 needs the feature flag WRITE_SAME, which a peer new enough to know the rule has. */
  needsWriteSame: -0x10465,
} as const;

export interface UuidComparisonInput {
  readonly self: UuidSet;
  readonly peer: UuidSet;
  /** Roles now, not those at the time of the crash. */
  readonly selfRole: Role;
  readonly peerRole: Role;
  /** I was Primary when I went down. */
  readonly selfCrashedPrimary: boolean;
  /** Flag 2 of the peer's UUID packet. */
  readonly peerCrashedPrimary: boolean;
  /** The tie-break bit, set on exactly one of the two nodes: the one that accepted the meta socket. */
  readonly resolveConflicts: boolean;
  /** Agreed protocol version, 86..101. */
  readonly protocolVersion: number;
  /** FF_WSAME is among the agreed feature flags. */
  readonly writeSameAgreed: boolean;
}

export interface UuidComparison {
  /** 0, 1/-1 sync source/target by bitmap, 2/-2 by a full sync, or a value of `CompareResult`. */
  readonly result: number;
  /** Number of the rule that decided, as DRBD logs it. */
  readonly rule: number;
  /** My set after the correction of rules 34 and 71; kept (and written) even if the connection then fails. */
  readonly self: UuidSet;
  /** What I know of the peer's set, after the correction of rules 35 and 51. */
  readonly peer: UuidSet;
  /** My own set was corrected. */
  readonly selfCorrected: boolean;
}

const same = (a: bigint, b: bigint): boolean => ((a ^ b) & WITHOUT_BIT0) === 0n;

/**
 * Which of two replicas has the newer data. Each node calls this with the sets swapped and nothing on the wire
 * confirms that they agree, so the order of the rules is the protocol. Results are mirrored except for sets that no
 * metadata tool or node writes: two zero current UUIDs, and two sets that each name the other as its past.
 *
 * @see DRBD 8.4 drbd_receiver.c drbd_uuid_compare; the rule numbers are those of its log
 */
export function compareUuids(input: UuidComparisonInput): UuidComparison {
  const { self, peer } = input;
  const decide = (rule: number, result: number, correctedSelf?: UuidSet, correctedPeer?: UuidSet): UuidComparison => ({
    result,
    rule,
    self: correctedSelf ?? self,
    peer: correctedPeer ?? peer,
    selfCorrected: correctedSelf !== undefined,
  });

  const selfNew = same(self.current, UUID_JUST_CREATED);
  const peerNew = same(peer.current, UUID_JUST_CREATED);
  if (selfNew && peerNew) return decide(10, 0);
  if ((selfNew || same(self.current, 0n)) && !peerNew) return decide(20, -2);
  if (!selfNew && (peerNew || same(peer.current, 0n))) return decide(30, 2);

  if (same(self.current, peer.current)) return compareEqualGenerations(input, decide);
  const old = input.protocolVersion < 91;
  const offset = input.protocolVersion >= 96;

  if (same(self.current, peer.bitmap)) return decide(50, -1);
  if (same(self.current, peer.history0)) {
    const lost = offset
      ? startedFrom(peer.history0, peer.bitmap)
      : same(self.history0, peer.history1); /* a source before 96 rotated without the offset */
    if (lost) return old ? decide(51, CompareResult.needsProtocol91) : decide(51, -1, undefined, undoResyncStart(peer));
  }
  if (same(self.current, peer.history0) || same(self.current, peer.history1)) return decide(60, -2);

  if (same(self.bitmap, peer.current)) return decide(70, 1);
  if (same(self.history0, peer.current)) {
    const lost = offset ? startedFrom(self.history0, self.bitmap) : same(self.history1, peer.history0);
    if (lost) return old ? decide(71, CompareResult.needsProtocol91) : decide(71, 1, undoResyncStart(self));
  }
  if (same(self.history0, peer.current) || same(self.history1, peer.current)) return decide(80, 2);

  if (same(self.bitmap, peer.bitmap) && (self.bitmap & WITHOUT_BIT0) !== 0n) {
    return decide(90, CompareResult.splitBrain);
  }
  // empty slots take part: two nodes with short histories count as related
  const related = [self.history0, self.history1].some((h) => same(h, peer.history0) || same(h, peer.history1));
  return decide(100, related ? CompareResult.splitBrainDistant : CompareResult.unrelated);
}

type Decide = (rule: number, result: number, self?: UuidSet, peer?: UuidSet) => UuidComparison;

/** Rules 34 to 41: the same current UUID on both sides. */
function compareEqualGenerations(input: UuidComparisonInput, decide: Decide): UuidComparison {
  const { self, peer } = input;
  const old = input.protocolVersion < 91;

  if (peer.bitmap === 0n && self.bitmap !== 0n) {
    // I was source and the end of the resync did not reach one of us
    const missedEnd = same(self.bitmap, peer.history0) && same(self.history0, peer.history1);
    if (old) return decide(34, CompareResult.needsProtocol91);
    return missedEnd ? decide(34, 1, clearBitmapUuid(self)) : decide(36, 1);
  }
  if (self.bitmap === 0n && peer.bitmap !== 0n) {
    const missedEnd = same(self.history0, peer.bitmap) && same(self.history1, peer.history0);
    if (old) return decide(35, CompareResult.needsProtocol91);
    return missedEnd ? decide(35, -1, undefined, clearBitmapUuid(peer)) : decide(37, -1);
  }

  const crashed = (input.selfCrashedPrimary ? 1 : 0) + (input.peerCrashedPrimary ? 2 : 0);
  if (crashed === 0) return decide(40, 0);
  const selfPrimary = input.selfRole === Role.Primary;
  const peerPrimary = input.peerRole === Role.Primary;
  if (selfPrimary || peerPrimary) {
    if (!input.writeSameAgreed) return decide(41, CompareResult.needsWriteSame);
    if (selfPrimary && peerPrimary) return decide(41, CompareResult.splitBrainDistant);
    return decide(41, selfPrimary ? 1 : -1);
  }
  if (crashed === 1) return decide(40, 1);
  if (crashed === 2) return decide(40, -1);
  return decide(40, input.resolveConflicts ? -1 : 1);
}

/** Whether `bitmap` is what a resync that started from `base` made of it. */
function startedFrom(base: bigint, bitmap: bigint): boolean {
  return (((base & WITHOUT_BIT0) + UUID_NEW_BM_OFFSET) & U64) === (bitmap & WITHOUT_BIT0);
}

/** The set before the start of a resync that never reached the target. */
function undoResyncStart(set: UuidSet): UuidSet {
  return { ...set, bitmap: set.history0, history0: set.history1 };
}

/** Bit 0 of a current UUID follows the role. */
function withRole(uuid: bigint, primary: boolean): bigint {
  return primary ? uuid | 1n : uuid & WITHOUT_BIT0;
}

/** Promotion sets bit 0 of the current UUID, demotion clears it. */
export function markRole(set: UuidSet, primary: boolean): UuidSet {
  return { ...set, current: withRole(set.current, primary) };
}

/**
 * A new data generation: the old one becomes the base of the bitmap. For a promotion without the peer, and for a
 * Primary that loses the peer's data; both only while `bitmap` is 0, which `needsNewCurrent` checks.
 * @param random 64 random bits
 */
export function newCurrentUuid(set: UuidSet, random: bigint, primary: boolean): UuidSet {
  return { ...set, current: withRole(random & U64, primary), bitmap: set.current };
}

/** Whether a write without the peer must first start a new generation: it is not recorded in the bitmap UUID yet. */
export function needsNewCurrent(set: UuidSet): boolean {
  return set.bitmap === 0n;
}

/** "Clear the bitmap UUID with rotation": the peer has everything now; the base moves into the history. */
export function clearBitmapUuid(set: UuidSet): UuidSet {
  if (set.bitmap === 0n) return set;
  return { ...set, bitmap: 0n, history0: set.bitmap, history1: set.history0 };
}

/** Replaces the bitmap UUID; a base that was there moves into the history. */
export function rotateBitmapUuid(set: UuidSet, bitmap: bigint): UuidSet {
  if (set.bitmap === 0n) return { ...set, bitmap: bitmap & U64 };
  return { ...set, bitmap: bitmap & U64, history0: set.bitmap, history1: set.history0 };
}

/**
 * Start of a resync on the source. `set.bitmap` of the result is what P_SYNC_UUID carries, after the set is on disk.
 * @param random 64 random bits, used where there is no base yet (0 or "just created")
 */
export function startResyncSource(set: UuidSet, random: bigint): UuidSet {
  const fresh = set.bitmap === 0n || set.bitmap === UUID_JUST_CREATED;
  return rotateBitmapUuid(set, fresh ? random : set.bitmap + UUID_NEW_BM_OFFSET);
}

/** Start of a resync on the target: the UUID of P_SYNC_UUID becomes current, without rotation. */
export function startResyncTarget(set: UuidSet, syncUuid: bigint, primary: boolean): UuidSet {
  return { ...set, current: withRole(syncUuid & U64, primary), bitmap: 0n };
}

/** Successful end of a resync on the source. */
export function finishResyncSource(set: UuidSet): UuidSet {
  return clearBitmapUuid(set);
}

/**
 * Successful end of a resync on the target: takes over the peer's generation and history.
 * @param peer the peer's set as of the handshake, corrected by `compareUuids`
 */
export function finishResyncTarget(set: UuidSet, peer: UuidSet, primary: boolean): UuidSet {
  const taken = rotateBitmapUuid(
    { current: set.current, bitmap: peer.bitmap, history0: peer.history0, history1: peer.history1 },
    set.current,
  );
  return clearBitmapUuid({ ...taken, current: withRole(peer.current, primary) });
}

/**
 * `new-current-uuid --clear-bitmap` on two new replicas (skip of the initial sync), first step on the node where it
 * was typed: this set, whose bitmap UUID is still "just created", goes to the peer with flag 8. `bitmap: 0n` follows.
 */
export function skipInitialSync(set: UuidSet, random: bigint, primary: boolean): UuidSet {
  return newCurrentUuid(set, random, primary);
}

/** The peer's side of a skipped initial sync: adopts the generation of a P_UUIDS packet with flag 8. */
export function adoptSkippedInitialSync(set: UuidSet, peer: UuidSet, primary: boolean): UuidSet {
  return { ...set, current: withRole(peer.current, primary), bitmap: 0n };
}
