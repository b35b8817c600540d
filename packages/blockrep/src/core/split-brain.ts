import { ConnState, DiskState, Role } from "../wire/state-word.ts";
import { CompareResult, compareUuids, type UuidComparisonInput, type UuidSet } from "./uuids.ts";

export type AfterSb0pri =
  | "disconnect"
  | "discard-younger-primary"
  | "discard-older-primary"
  | "discard-zero-changes"
  | "discard-least-changes"
  | "discard-local"
  | "discard-remote";
export type AfterSb1pri =
  | "disconnect"
  | "consensus"
  | "discard-secondary"
  | "call-pri-lost-after-sb"
  | "violently-as0p";
export type AfterSb2pri = "disconnect" | "call-pri-lost-after-sb" | "violently-as0p";
export type RrConflict = "disconnect" | "call-pri-lost" | "violently";

/** What to do after a split brain, by the number of nodes that are Primary at the moment of the handshake. */
export interface SplitBrainPolicies {
  readonly afterSb0pri: AfterSb0pri;
  readonly afterSb1pri: AfterSb1pri;
  readonly afterSb2pri: AfterSb2pri;
  readonly rrConflict: RrConflict;
  /** Decide automatically also where the replicas are related through history only. */
  readonly alwaysAsbp: boolean;
}

export const DEFAULT_SPLIT_BRAIN_POLICIES: SplitBrainPolicies = {
  afterSb0pri: "disconnect",
  afterSb1pri: "disconnect",
  afterSb2pri: "disconnect",
  rrConflict: "disconnect",
  alwaysAsbp: false,
};

/** The value the peer must have configured: "local" here is "remote" there, everything else is the same. */
export function mirrorPolicy(policy: string): string {
  if (policy === "discard-local") return "discard-remote";
  return policy === "discard-remote" ? "discard-local" : policy;
}

/** Whether the peer's after-sb policies fit mine; two nodes that would decide differently must not connect. */
export function policiesAgree(mine: SplitBrainPolicies, peers: SplitBrainPolicies): boolean {
  return (
    mirrorPolicy(mine.afterSb0pri) === peers.afterSb0pri &&
    mine.afterSb1pri === peers.afterSb1pri &&
    mine.afterSb2pri === peers.afterSb2pri
  );
}

/** What the policies look at. Both nodes fill it with mirrored values. */
export interface SplitBrainFacts {
  /** Bit 0 of my bitmap UUID: I was Primary when the link was lost. */
  readonly selfWasPrimary: boolean;
  readonly peerWasPrimary: boolean;
  /** Dirty bits as exchanged in the UUID packets. */
  readonly selfChanges: number;
  readonly peerChanges: number;
  /** The tie-break bit, set on exactly one of the two. */
  readonly resolveConflicts: boolean;
  readonly selfRole: Role;
  readonly peerRole: Role;
  /** A demotion right now would succeed: the device is not open. Only `call-pri-lost-after-sb` asks. */
  readonly canDemote: boolean;
}

export type HandshakeHandler = "initial-split-brain" | "split-brain" | "pri-lost" | "pri-lost-after-sb";

/** Outcome of a policy: 1 the peer's changes are discarded, -1 mine, undefined: it does not decide. */
export interface SplitBrainVerdict {
  readonly winner: 1 | -1 | undefined;
  /** The Primary that loses must become Secondary first. */
  readonly demote: boolean;
  readonly handlers: readonly HandshakeHandler[];
  readonly log: readonly string[];
}

type Step = (f: SplitBrainFacts) => 1 | -1 | undefined;

const tieBreak: Step = (f) => (f.resolveConflicts ? -1 : 1);
const older: Step = (f) => (f.selfWasPrimary === f.peerWasPrimary ? undefined : f.selfWasPrimary ? -1 : 1);
const younger: Step = (f) => (f.selfWasPrimary === f.peerWasPrimary ? undefined : f.selfWasPrimary ? 1 : -1);
const leastChanges: Step = (f) => {
  if (f.selfChanges === f.peerChanges) return tieBreak(f);
  return f.selfChanges < f.peerChanges ? -1 : 1;
};
const zeroChanges: Step = (f) => {
  if (f.selfChanges === 0 && f.peerChanges === 0) return tieBreak(f);
  if (f.peerChanges === 0) return 1;
  return f.selfChanges === 0 ? -1 : undefined;
};

/** The steps of each policy, tried in order until one decides. "older" and "younger" name who became Primary when. */
const STEPS_0PRI: Record<AfterSb0pri, readonly Step[]> = {
  disconnect: [],
  "discard-younger-primary": [younger, zeroChanges, leastChanges],
  "discard-older-primary": [older, zeroChanges, leastChanges],
  "discard-zero-changes": [zeroChanges],
  "discard-least-changes": [leastChanges],
  "discard-local": [() => -1],
  "discard-remote": [() => 1],
};

const UNDECIDED: SplitBrainVerdict = { winner: undefined, demote: false, handlers: [], log: [] };

/**
 * Which side of a split brain loses, by the policy for the number of present primaries.
 * @see DRBD 8.4 drbd_receiver.c; drbd.conf(5) after-sb-0pri, after-sb-1pri, after-sb-2pri
 */
export function recoverSplitBrain(policies: SplitBrainPolicies, facts: SplitBrainFacts): SplitBrainVerdict {
  const selfPrimary = facts.selfRole === Role.Primary;
  const primaries = (selfPrimary ? 1 : 0) + (facts.peerRole === Role.Primary ? 1 : 0);
  if (primaries === 0) return recoverWithoutPrimary(policies.afterSb0pri, facts);
  const policy = primaries === 1 ? policies.afterSb1pri : policies.afterSb2pri;
  switch (policy) {
    case "disconnect":
      return UNDECIDED;
    case "discard-secondary":
      return { ...UNDECIDED, winner: selfPrimary ? 1 : -1 };
    case "violently-as0p":
      return recoverWithoutPrimary(policies.afterSb0pri, facts);
    case "consensus": {
      const verdict = recoverWithoutPrimary(policies.afterSb0pri, facts);
      return verdict.winner === (selfPrimary ? 1 : -1) ? verdict : { ...verdict, winner: undefined };
    }
    case "call-pri-lost-after-sb": {
      const verdict = recoverWithoutPrimary(policies.afterSb0pri, facts);
      if (verdict.winner !== -1 || !selfPrimary) return verdict;
      if (facts.canDemote) return { ...verdict, demote: true };
      return { ...verdict, winner: undefined, handlers: ["pri-lost-after-sb"] };
    }
  }
}

function recoverWithoutPrimary(policy: AfterSb0pri, facts: SplitBrainFacts): SplitBrainVerdict {
  const byAge = policy === "discard-older-primary" || policy === "discard-younger-primary";
  const log: string[] = [];
  for (const [index, step] of STEPS_0PRI[policy].entries()) {
    if (index === 1 && byAge) log.push(`${policy} did not find a decision, using discard-least-changes instead`);
    const winner = step(facts);
    if (winner !== undefined) return { ...UNDECIDED, winner, log };
  }
  return { ...UNDECIDED, log };
}

export interface HandshakeInput extends UuidComparisonInput {
  /** My disk; a Negotiating one as the metadata computed it (`negotiatedDisk`). */
  readonly selfDisk: DiskState;
  /** My disk state itself, before that mapping. */
  readonly selfDiskRaw: DiskState;
  /** The peer's disk; Negotiating already mapped by `mapPeerNegotiating`. */
  readonly peerDisk: DiskState;
  readonly selfChanges: number;
  readonly peerChanges: number;
  /** This node was told `--discard-my-data`. */
  readonly selfDiscard: boolean;
  /** Flag 1 of the peer's UUID packet. */
  readonly peerDiscard: boolean;
  /** `connect --tentative` here or there. */
  readonly dryRun: boolean;
  readonly canDemote: boolean;
  readonly policies: SplitBrainPolicies;
}

export type HandshakeAction = "no-sync" | "source-bitmap" | "target-bitmap" | "source-full" | "target-full" | "refuse";

export type RefuseReason =
  | "unrelated-data"
  | "protocol-too-old"
  | "split-brain"
  | "source-inconsistent"
  | "target-primary"
  | "dry-run";

export interface HandshakeDecision {
  readonly action: HandshakeAction;
  readonly reason?: RefuseReason;
  /** The result after all steps: 0, ±1, ±2 or what led to the refusal. */
  readonly result: number;
  /** Outcome of the comparison alone, as `uuid_compare()=RESULT by rule RULE` in the log. */
  readonly compared: number;
  readonly rule: number;
  /** Connection state to enter; undefined when refused. */
  readonly conn: ConnState | undefined;
  /** Handlers to run, in order, before acting. */
  readonly handlers: readonly HandshakeHandler[];
  /** Become Secondary before acting. */
  readonly demote: boolean;
  readonly self: UuidSet;
  readonly peer: UuidSet;
  readonly selfCorrected: boolean;
  /** A split brain was found, decided or not. */
  readonly splitBrain: boolean;
  /** What happened, in sentences for the log, in order. */
  readonly log: readonly string[];
}

/** A peer disk that is still Negotiating counts as what its UUID flags promise (flag 4: Inconsistent). */
export function mapPeerNegotiating(disk: DiskState, peerInconsistentFlag: boolean): DiskState {
  if (disk !== DiskState.Negotiating) return disk;
  return peerInconsistentFlag ? DiskState.Inconsistent : DiskState.Consistent;
}

/**
 * From the two UUID sets to the connection state after the handshake. Both nodes run it on mirrored input.
 * The steps and their order are the protocol.
 * @see DRBD 8.4 drbd_receiver.c drbd_sync_handshake
 */
export function handshakeDecision(input: HandshakeInput): HandshakeDecision {
  const comparison = compareUuids(input);
  const handlers: HandshakeHandler[] = [];
  const log: string[] = [`uuid_compare()=${comparison.result} by rule ${comparison.rule}`];
  let demote = false;
  let result = comparison.result;
  const isSplitBrain = (): boolean => Math.abs(result) === 100;
  let splitBrain = false;

  const finish = (action: HandshakeAction, conn: ConnState | undefined, reason?: RefuseReason): HandshakeDecision => ({
    action,
    ...(reason === undefined ? {} : { reason }),
    result,
    compared: comparison.result,
    rule: comparison.rule,
    conn,
    handlers,
    demote: demote && reason === undefined,
    self: comparison.self,
    peer: comparison.peer,
    selfCorrected: comparison.selfCorrected,
    splitBrain,
    log,
  });
  const refuse = (reason: RefuseReason, message: string): HandshakeDecision => {
    log.push(message);
    return finish("refuse", undefined, reason);
  };

  if (result === CompareResult.unrelated) return refuse("unrelated-data", "Unrelated data, aborting!");
  if (result < CompareResult.unrelated) {
    const need =
      result === CompareResult.needsWriteSame ? "protocol 101 with WRITE_SAME" : `protocol ${-result - 1000}`;
    return refuse("protocol-too-old", `To resolve this both sides have to support at least ${need}`);
  }

  const selfGood = input.selfDisk > DiskState.Inconsistent;
  const peerGood = input.peerDisk > DiskState.Inconsistent;
  const selfBad = input.selfDisk === DiskState.Inconsistent;
  const peerBad = input.peerDisk === DiskState.Inconsistent;
  if ((selfBad && peerGood) || (peerBad && selfGood)) {
    const full = result === CompareResult.splitBrainDistant || Math.abs(result) === 2;
    result = (selfGood ? 1 : -1) * (full ? 2 : 1);
    log.push(`Becoming sync ${result > 0 ? "source" : "target"} due to disk states.`);
  }

  if (isSplitBrain()) {
    splitBrain = true;
    handlers.push("initial-split-brain");
  }
  if (
    result === CompareResult.splitBrain ||
    (result === CompareResult.splitBrainDistant && input.policies.alwaysAsbp)
  ) {
    const distant = result === CompareResult.splitBrainDistant;
    const verdict = recoverSplitBrain(input.policies, {
      selfWasPrimary: (comparison.self.bitmap & 1n) === 1n,
      peerWasPrimary: (comparison.peer.bitmap & 1n) === 1n,
      selfChanges: input.selfChanges,
      peerChanges: input.peerChanges,
      resolveConflicts: input.resolveConflicts,
      selfRole: input.selfRole,
      peerRole: input.peerRole,
      canDemote: input.canDemote,
    });
    handlers.push(...verdict.handlers);
    log.push(...verdict.log);
    demote = verdict.demote;
    result = verdict.winner ?? CompareResult.splitBrainDistant;
    if (verdict.winner !== undefined) {
      const primaries = (input.selfRole === Role.Primary ? 1 : 0) + (input.peerRole === Role.Primary ? 1 : 0);
      log.push(`Split-Brain detected, ${primaries} primaries, automatically solved. ${syncFrom(result)}`);
      if (distant) {
        log.push("Doing a full sync, since the UUIDs were ambiguous.");
        result *= 2;
      }
    }
  }
  if (result === CompareResult.splitBrainDistant && input.selfDiscard !== input.peerDiscard) {
    result = input.selfDiscard ? -1 : 1;
    log.push(`Split-Brain detected, manually solved. ${syncFrom(result)}`);
  }
  if (result === CompareResult.splitBrainDistant) {
    handlers.push("split-brain");
    return refuse("split-brain", "Split-Brain detected but unresolved, dropping connection!");
  }

  if (result > 0 && input.selfDisk <= DiskState.Inconsistent) {
    return refuse("source-inconsistent", "I shall become SyncSource, but I am inconsistent!");
  }
  // the disk as it is, not as negotiated: a Primary without data loses nothing by becoming target
  const primaryWithData = input.selfRole === Role.Primary && !demote && input.selfDiskRaw >= DiskState.Consistent;
  if (result < 0 && primaryWithData) {
    if (input.policies.rrConflict === "call-pri-lost") handlers.push("pri-lost");
    if (input.policies.rrConflict !== "violently") {
      return refuse("target-primary", "I shall become SyncTarget, but I am primary!");
    }
    log.push("Becoming SyncTarget, violating the stable-data assumption");
  }

  if (input.dryRun) {
    return refuse("dry-run", `dry-run connect: ${describe(result)}`);
  }
  if (Math.abs(result) >= 2) log.push("Writing the whole bitmap, full sync required after the handshake.");
  if (result > 0) return finish(result > 1 ? "source-full" : "source-bitmap", ConnState.WFBitMapS);
  if (result < 0) return finish(result < -1 ? "target-full" : "target-bitmap", ConnState.WFBitMapT);
  return finish("no-sync", ConnState.Connected);
}

function syncFrom(result: number): string {
  return `Sync from ${result < 0 ? "peer" : "this"} node`;
}

function describe(result: number): string {
  if (result === 0) return "No resync, would become Connected immediately.";
  const side = result > 0 ? "SyncSource" : "SyncTarget";
  return `Would become ${side}, doing a ${Math.abs(result) >= 2 ? "full" : "bit-map based"} resync.`;
}
