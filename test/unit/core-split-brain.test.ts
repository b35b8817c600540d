import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type AfterSb0pri,
  type AfterSb1pri,
  type AfterSb2pri,
  DEFAULT_SPLIT_BRAIN_POLICIES,
  type HandshakeInput,
  handshakeDecision,
  mapPeerNegotiating,
  mirrorPolicy,
  policiesAgree,
  recoverSplitBrain,
  type SplitBrainFacts,
  type SplitBrainPolicies,
} from "@hacluster/blockrep/unstable/core/split-brain";
import { ConnState, DiskState, Role } from "@hacluster/blockrep/unstable/wire/state-word";
import fc from "fast-check";

const facts: SplitBrainFacts = {
  selfWasPrimary: true,
  peerWasPrimary: false,
  selfChanges: 5,
  peerChanges: 9,
  resolveConflicts: true,
  selfRole: Role.Secondary,
  peerRole: Role.Secondary,
  canDemote: true,
};

const POLICIES_0: readonly AfterSb0pri[] = [
  "disconnect",
  "discard-younger-primary",
  "discard-older-primary",
  "discard-zero-changes",
  "discard-least-changes",
  "discard-local",
  "discard-remote",
];
const POLICIES_1: readonly AfterSb1pri[] = [
  "disconnect",
  "consensus",
  "discard-secondary",
  "call-pri-lost-after-sb",
  "violently-as0p",
];
const POLICIES_2: readonly AfterSb2pri[] = ["disconnect", "call-pri-lost-after-sb", "violently-as0p"];

const with0 = (afterSb0pri: AfterSb0pri, f: Partial<SplitBrainFacts> = {}): number | undefined =>
  recoverSplitBrain({ ...DEFAULT_SPLIT_BRAIN_POLICIES, afterSb0pri }, { ...facts, ...f }).winner;

test("after-sb-0pri: each policy discards whom its name says", () => {
  const none = { selfWasPrimary: true, peerWasPrimary: true };
  const table: [AfterSb0pri, Partial<SplitBrainFacts>, number | undefined][] = [
    ["disconnect", {}, undefined],
    ["discard-younger-primary", {}, 1],
    ["discard-younger-primary", { selfWasPrimary: false, peerWasPrimary: true }, -1],
    ["discard-younger-primary", none, -1],
    ["discard-older-primary", {}, -1],
    ["discard-older-primary", { selfWasPrimary: false, peerWasPrimary: true }, 1],
    ["discard-older-primary", none, -1],
    ["discard-older-primary", { ...none, peerChanges: 0 }, 1],
    ["discard-older-primary", { ...none, selfChanges: 10 }, 1],
    ["discard-zero-changes", {}, undefined],
    ["discard-zero-changes", { selfChanges: 0 }, -1],
    ["discard-zero-changes", { peerChanges: 0 }, 1],
    ["discard-zero-changes", { selfChanges: 0, peerChanges: 0 }, -1],
    ["discard-zero-changes", { selfChanges: 0, peerChanges: 0, resolveConflicts: false }, 1],
    ["discard-least-changes", {}, -1],
    ["discard-least-changes", { selfChanges: 10 }, 1],
    ["discard-least-changes", { selfChanges: 9 }, -1],
    ["discard-least-changes", { selfChanges: 9, resolveConflicts: false }, 1],
    ["discard-local", {}, -1],
    ["discard-remote", {}, 1],
  ];
  for (const [policy, f, winner] of table) assert.equal(with0(policy, f), winner, `${policy} ${JSON.stringify(f)}`);
});

test("after-sb-1pri and -2pri: what each policy makes of the 0pri decision", () => {
  type Row = [AfterSb1pri, AfterSb0pri, "self" | "peer", number | undefined];
  const rows: Row[] = [
    ["disconnect", "discard-remote", "self", undefined],
    ["violently-as0p", "discard-local", "self", -1],
    ["violently-as0p", "disconnect", "self", undefined],
    ["discard-secondary", "disconnect", "self", 1],
    ["discard-secondary", "disconnect", "peer", -1],
    ["consensus", "discard-remote", "self", 1],
    ["consensus", "discard-local", "self", undefined],
    ["consensus", "discard-local", "peer", -1],
    ["consensus", "discard-remote", "peer", undefined],
    ["call-pri-lost-after-sb", "discard-remote", "self", 1],
    ["call-pri-lost-after-sb", "discard-remote", "peer", 1],
  ];
  for (const [afterSb1pri, afterSb0pri, primary, winner] of rows) {
    const roles = {
      selfRole: primary === "self" ? Role.Primary : Role.Secondary,
      peerRole: primary === "self" ? Role.Secondary : Role.Primary,
    };
    const policies = { ...DEFAULT_SPLIT_BRAIN_POLICIES, afterSb0pri, afterSb1pri };
    const verdict = recoverSplitBrain(policies, { ...facts, ...roles });
    assert.deepEqual([verdict.winner, verdict.demote], [winner, false], `${afterSb1pri} ${afterSb0pri} ${primary}`);
  }
});

test("call-pri-lost-after-sb: the losing Primary demotes itself, or calls the handler", () => {
  for (const peerRole of [Role.Secondary, Role.Primary]) {
    const policies: SplitBrainPolicies = {
      ...DEFAULT_SPLIT_BRAIN_POLICIES,
      afterSb0pri: "discard-local",
      afterSb1pri: "call-pri-lost-after-sb",
      afterSb2pri: "call-pri-lost-after-sb",
    };
    const both = { ...facts, selfRole: Role.Primary, peerRole };
    const demoted = recoverSplitBrain(policies, both);
    assert.deepEqual([demoted.winner, demoted.demote, demoted.handlers], [-1, true, []]);
    const stuck = recoverSplitBrain(policies, { ...both, canDemote: false });
    assert.deepEqual([stuck.winner, stuck.demote, stuck.handlers], [undefined, false, ["pri-lost-after-sb"]]);
  }
});

test("policies: two nodes with mirrored facts and policies never both win or both lose", () => {
  const role = fc.constantFrom(Role.Primary, Role.Secondary);
  const arbitrary = fc.record({
    selfWasPrimary: fc.boolean(),
    peerWasPrimary: fc.boolean(),
    selfChanges: fc.nat(3),
    peerChanges: fc.nat(3),
    resolveConflicts: fc.boolean(),
    selfRole: role,
    peerRole: role,
    canDemote: fc.constant(true),
  });
  const policies = fc.record({
    afterSb0pri: fc.constantFrom(...POLICIES_0),
    afterSb1pri: fc.constantFrom(...POLICIES_1),
    afterSb2pri: fc.constantFrom(...POLICIES_2),
    rrConflict: fc.constant("violently" as const),
    alwaysAsbp: fc.boolean(),
  });
  fc.assert(
    fc.property(arbitrary, policies, (f, p) => {
      const theirs = { ...p, afterSb0pri: mirrorPolicy(p.afterSb0pri) as AfterSb0pri };
      assert.equal(policiesAgree(p, theirs), true);
      const here = recoverSplitBrain(p, f).winner;
      const there = recoverSplitBrain(theirs, {
        ...f,
        selfWasPrimary: f.peerWasPrimary,
        peerWasPrimary: f.selfWasPrimary,
        selfChanges: f.peerChanges,
        peerChanges: f.selfChanges,
        resolveConflicts: !f.resolveConflicts,
        selfRole: f.peerRole,
        peerRole: f.selfRole,
      }).winner;
      assert.equal(there, here === undefined ? undefined : -here);
    }),
    { numRuns: 1000 },
  );
});

test("policies: differing ones do not agree", () => {
  const mine = DEFAULT_SPLIT_BRAIN_POLICIES;
  assert.equal(policiesAgree(mine, { ...mine, afterSb2pri: "violently-as0p" }), false);
  assert.equal(
    policiesAgree({ ...mine, afterSb0pri: "discard-local" }, { ...mine, afterSb0pri: "discard-local" }),
    false,
  );
});

const C = 0xaaaa_0000_0000_0010n;
const D = 0xeeee_0000_0000_0050n;
const B = 0xbbbb_0000_0000_0021n;
const H = 0xcccc_0000_0000_0030n;

const equal: HandshakeInput = {
  self: { current: C, bitmap: 0n, history0: H, history1: 0n },
  peer: { current: C, bitmap: 0n, history0: H, history1: 0n },
  selfRole: Role.Secondary,
  peerRole: Role.Secondary,
  selfCrashedPrimary: false,
  peerCrashedPrimary: false,
  resolveConflicts: false,
  protocolVersion: 101,
  writeSameAgreed: true,
  selfDisk: DiskState.UpToDate,
  selfDiskRaw: DiskState.UpToDate,
  peerDisk: DiskState.UpToDate,
  selfChanges: 0,
  peerChanges: 0,
  selfDiscard: false,
  peerDiscard: false,
  dryRun: false,
  canDemote: false,
  policies: DEFAULT_SPLIT_BRAIN_POLICIES,
};
const behind: HandshakeInput = { ...equal, peer: { current: D, bitmap: C, history0: H, history1: 0n } };
const ahead: HandshakeInput = { ...equal, self: behind.peer };
const split: HandshakeInput = {
  ...equal,
  self: { current: C, bitmap: B, history0: H, history1: 0n },
  peer: { current: D, bitmap: B - 1n, history0: H, history1: 0n },
};
const distant: HandshakeInput = { ...split, peer: { ...split.peer, bitmap: 0x1110n } };
const always = { ...DEFAULT_SPLIT_BRAIN_POLICIES, afterSb0pri: "discard-remote" as const, alwaysAsbp: true };

test("handshake: comparison to action", () => {
  const table: [string, HandshakeInput, string, ConnState | undefined][] = [
    ["equal", equal, "no-sync", ConnState.Connected],
    ["behind", behind, "target-bitmap", ConnState.WFBitMapT],
    ["ahead", ahead, "source-bitmap", ConnState.WFBitMapS],
    ["history", { ...behind, peer: { ...behind.peer, bitmap: 1n, history0: C } }, "target-full", ConnState.WFBitMapT],
    ["disk states", { ...equal, selfDisk: DiskState.Inconsistent }, "target-bitmap", ConnState.WFBitMapT],
    ["disk states beat UUIDs", { ...behind, peerDisk: DiskState.Inconsistent }, "source-bitmap", ConnState.WFBitMapS],
    ["... full", { ...distant, peerDisk: DiskState.Inconsistent }, "source-full", ConnState.WFBitMapS],
    ["always-asbp", { ...distant, policies: always }, "source-full", ConnState.WFBitMapS],
    ["policy", { ...split, policies: always }, "source-bitmap", ConnState.WFBitMapS],
    ["discard here", { ...distant, selfDiscard: true }, "target-bitmap", ConnState.WFBitMapT],
    ["discard there", { ...split, peerDiscard: true }, "source-bitmap", ConnState.WFBitMapS],
  ];
  for (const [name, input, action, conn] of table) {
    const d = handshakeDecision(input);
    assert.deepEqual([d.action, d.conn, d.reason], [action, conn, undefined], name);
  }
});

test("handshake: every refusal, with its reason and handlers", () => {
  const unrelated = { ...split, self: { ...split.self, bitmap: 8n, history0: 16n, history1: 24n } };
  const primary = { selfRole: Role.Primary, policies: DEFAULT_SPLIT_BRAIN_POLICIES };
  const callHelper = { ...DEFAULT_SPLIT_BRAIN_POLICIES, rrConflict: "call-pri-lost" as const };
  const table: [string, HandshakeInput, string, string[], RegExp][] = [
    ["unrelated", unrelated, "unrelated-data", [], /Unrelated data, aborting!/],
    [
      "old",
      { ...equal, self: { ...equal.self, bitmap: B }, protocolVersion: 90 },
      "protocol-too-old",
      [],
      /protocol 91/,
    ],
    [
      "old 41",
      { ...equal, selfCrashedPrimary: true, peerRole: Role.Primary, writeSameAgreed: false },
      "protocol-too-old",
      [],
      /WRITE_SAME/,
    ],
    ["split", split, "split-brain", ["initial-split-brain", "split-brain"], /unresolved/],
    [
      "distant",
      { ...distant, policies: { ...always, alwaysAsbp: false } },
      "split-brain",
      ["initial-split-brain", "split-brain"],
      /unresolved/,
    ],
    [
      "both discard",
      { ...split, selfDiscard: true, peerDiscard: true },
      "split-brain",
      ["initial-split-brain", "split-brain"],
      /unresolved/,
    ],
    [
      "source bad",
      { ...ahead, selfDisk: DiskState.Inconsistent, peerDisk: DiskState.Inconsistent },
      "source-inconsistent",
      [],
      /inconsistent/,
    ],
    ["primary", { ...behind, ...primary }, "target-primary", [], /but I am primary/],
    ["pri-lost", { ...behind, ...primary, policies: callHelper }, "target-primary", ["pri-lost"], /but I am primary/],
    ["dry", { ...behind, dryRun: true }, "dry-run", [], /Would become SyncTarget, doing a bit-map based resync/],
    ["dry equal", { ...equal, dryRun: true }, "dry-run", [], /No resync/],
  ];
  for (const [name, input, reason, handlers, text] of table) {
    const d = handshakeDecision(input);
    assert.deepEqual([d.action, d.reason, d.conn], ["refuse", reason, undefined], name);
    assert.deepEqual(d.handlers, handlers, name);
    assert.match(d.log.join("\n"), text, name);
  }
});

test("handshake: rr-conflict violently, a Primary without data, and a demoted one go on", () => {
  const violently = { ...DEFAULT_SPLIT_BRAIN_POLICIES, rrConflict: "violently" as const };
  assert.equal(handshakeDecision({ ...behind, selfRole: Role.Primary, policies: violently }).action, "target-bitmap");
  const diskless = { ...behind, selfRole: Role.Primary, selfDiskRaw: DiskState.Negotiating };
  assert.equal(handshakeDecision(diskless).action, "target-bitmap");
  const policies: SplitBrainPolicies = {
    ...DEFAULT_SPLIT_BRAIN_POLICIES,
    afterSb0pri: "discard-local",
    afterSb1pri: "call-pri-lost-after-sb",
  };
  const demoted = handshakeDecision({ ...split, selfRole: Role.Primary, policies, canDemote: true });
  assert.deepEqual([demoted.action, demoted.demote], ["target-bitmap", true]);
});

test("handshake: a peer that negotiates counts as its UUID flags promise", () => {
  assert.equal(mapPeerNegotiating(DiskState.Negotiating, true), DiskState.Inconsistent);
  assert.equal(mapPeerNegotiating(DiskState.Negotiating, false), DiskState.Consistent);
  assert.equal(mapPeerNegotiating(DiskState.Outdated, true), DiskState.Outdated);
});
