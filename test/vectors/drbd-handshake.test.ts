import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  DEFAULT_SPLIT_BRAIN_POLICIES,
  type HandshakeInput,
  handshakeDecision,
  type SplitBrainPolicies,
} from "@hacluster/blockrep/unstable/core/split-brain";
import { changeState, DEFAULT_STATE_CONTEXT, INITIAL_STATE } from "@hacluster/blockrep/unstable/core/state";
import {
  compareUuids,
  formatUuids,
  type UuidComparisonInput,
  type UuidSet,
} from "@hacluster/blockrep/unstable/core/uuids";
import { ConnState, DiskState, Role, type StateFields } from "@hacluster/blockrep/unstable/wire/state-word";

const folder = fileURLToPath(new URL("../../../test/vectors/drbd-meta/", import.meta.url));
const read = (name: string): string => readFileSync(folder + name, "utf8");

function parseSet(text: string): UuidSet {
  const [current, bitmap, history0, history1] = text.split(":").map((h) => BigInt(`0x${h}`)) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  return { current, bitmap, history0, history1 };
}

const base: Omit<UuidComparisonInput, "self" | "peer"> = {
  selfRole: Role.Secondary,
  peerRole: Role.Secondary,
  selfCrashedPrimary: false,
  peerCrashedPrimary: false,
  resolveConflicts: false,
  protocolVersion: 101,
  writeSameAgreed: true,
};

const mirrored = (i: UuidComparisonInput): UuidComparisonInput => ({
  ...i,
  self: i.peer,
  peer: i.self,
  selfRole: i.peerRole,
  peerRole: i.selfRole,
  selfCrashedPrimary: i.peerCrashedPrimary,
  peerCrashedPrimary: i.selfCrashedPrimary,
  resolveConflicts: !i.resolveConflicts,
});

const rows = read("uuid-rules-live.txt")
  .split("\n")
  .filter((line) => line.includes("|") && !line.startsWith("#"))
  .map((line) => line.split("|").map((cell) => cell.trim()) as [string, string, string, string, string]);

test("uuid rules: every recorded pair gives the kernels' result on both sides", () => {
  assert.equal(rows.length, 14);
  for (const [name, a, b, resultA, resultB] of rows) {
    const left = a.replace(" +crashed", "");
    const right = b === "same" ? left : b.replace(" +crashed", "");
    const input: UuidComparisonInput = {
      ...base,
      self: parseSet(left),
      peer: parseSet(right),
      selfCrashedPrimary: a.endsWith("+crashed"),
      peerCrashedPrimary: b.endsWith("+crashed"),
      resolveConflicts: true,
    };
    const onA = compareUuids(input);
    const onB = compareUuids(mirrored(input));
    if (name === "equal-both-crashed") {
      assert.deepEqual([onA.result, onA.rule, onB.result, onB.rule], [-1, 40, 1, 40], name);
      continue;
    }
    const expect = (text: string): number[] => {
      const m = /(-?\d+)(?: \(?| )rule (\d+)|expected (-?\d+) rule (\d+)/.exec(text);
      assert.ok(m, `${name}: ${text}`);
      return [Number(m[1] ?? m[3]), Number(m[2] ?? m[4])];
    };
    assert.deepEqual([onA.result, onA.rule], expect(resultA), name);
    assert.deepEqual([onB.result, onB.rule], expect(resultB), name);
  }
});

test("uuid rules: corrections of rules 34, 35, 51 and 71 leave the kernels' sets", () => {
  const by = (name: string): UuidComparisonInput => {
    const row = rows.find(([n]) => n === name);
    assert.ok(row);
    return { ...base, self: parseSet(row[1]), peer: parseSet(row[2]) };
  };
  const missed = compareUuids(by("missed-finish"));
  assert.equal(missed.selfCorrected, true);
  assert.equal(formatUuids(missed.self), "AAAA000000000010:0000000000000000:BBBB000000000020:CCCC000000000030");
  const other = compareUuids(mirrored(by("missed-finish")));
  assert.deepEqual([other.selfCorrected, other.peer], [false, missed.self]);
  const lost = compareUuids(by("lost-sync-uuid"));
  assert.equal(formatUuids(lost.self), "EEEE000000000050:AAAA000000000010:CCCC000000000030:CCCC000000000030");
  assert.deepEqual(compareUuids(mirrored(by("lost-sync-uuid"))).peer, lost.self);
});

interface LoggedHandshake {
  readonly log: string;
  readonly self: string;
  readonly peer: string;
  readonly selfBits: number;
  readonly peerBits: number;
  readonly peerFlags: number;
  readonly result: number;
  readonly rule: number;
  readonly then: readonly string[];
}

const logged = JSON.parse(read("handshakes.json")) as LoggedHandshake[];

/** The policies of the installation that scenario 21 was recorded with. */
const EXAMPLE_POLICIES: SplitBrainPolicies = {
  ...DEFAULT_SPLIT_BRAIN_POLICIES,
  afterSb0pri: "discard-older-primary",
  afterSb1pri: "violently-as0p",
};

/** `field( FROM -> TO )` of a state change in the log. */
function transition(lines: readonly string[], field: string): [string, string] | undefined {
  const m = new RegExp(`(?:^| )${field}\\( (\\w+) -> (\\w+) \\)`).exec(lines.at(-1) ?? "");
  return m === null ? undefined : [m[1] as string, m[2] as string];
}

const disk = (name: string): DiskState => DiskState[name as keyof typeof DiskState];

function inputOf(h: LoggedHandshake): HandshakeInput {
  const self = parseSet(h.self);
  const toSource = h.result > 0;
  const peerRole = transition(h.then, "peer")?.[1];
  // a disk that does not move at the handshake is where the handshake would put it
  const still = h.result > 0 ? "UpToDate" : h.rule === 20 ? "Inconsistent" : "Outdated";
  const selfDiskName = transition(h.then, "disk")?.[0] ?? (h.rule === 90 ? "UpToDate" : still);
  const selfDisk = h.result === 0 ? DiskState.Inconsistent : disk(selfDiskName === "Negotiating" ? "Consistent" : selfDiskName);
  let peerDisk: DiskState = DiskState.UpToDate;
  if (h.result === 0 || (h.rule === 30 && toSource)) peerDisk = DiskState.Inconsistent;
  return {
    ...base,
    self,
    peer: parseSet(h.peer),
    selfRole: (self.current & 1n) === 1n ? Role.Primary : Role.Secondary,
    peerRole: peerRole === "Primary" ? Role.Primary : Role.Secondary,
    selfCrashedPrimary: h.log.startsWith("26"),
    peerCrashedPrimary: (h.peerFlags & 2) !== 0,
    selfDisk,
    selfDiskRaw: selfDiskName === "Negotiating" ? DiskState.Negotiating : selfDisk,
    peerDisk,
    selfChanges: h.selfBits,
    peerChanges: h.peerBits,
    selfDiscard: h.log === "12-split-brain-resolved-discard-my-data.n2",
    peerDiscard: (h.peerFlags & 1) !== 0,
    dryRun: false,
    canDemote: false,
    policies: h.log.startsWith("21") ? EXAMPLE_POLICIES : DEFAULT_SPLIT_BRAIN_POLICIES,
  };
}

test("handshake: every logged connect is decided as the kernel decided it", () => {
  assert.ok(logged.length >= 27);
  for (const h of logged) {
    const decision = handshakeDecision(inputOf(h));
    assert.deepEqual([decision.compared, decision.rule], [h.result, h.rule], h.log);
    const helpers = h.then.flatMap((line) => /drbdadm (\S+) minor-\d$/.exec(line)?.[1] ?? []);
    assert.deepEqual([...decision.handlers], helpers, h.log);
    const conn = transition(h.then, "conn")?.[1] as keyof typeof ConnState;
    const refused = conn === "Disconnecting" || conn === "NetworkFailure";
    assert.equal(decision.conn, refused ? undefined : ConnState[conn], h.log);
    assert.equal(decision.action === "refuse", refused, h.log);
    const sentences = h.then.filter((line) => /^(Split-Brain|I shall|Becoming sync)/.test(line));
    for (const sentence of sentences) assert.ok(decision.log.includes(sentence), `${h.log}: ${sentence}`);
    assert.equal(Math.abs(decision.result) >= 2 && !refused, h.then.some((l) => l.startsWith("Writing the whole")), h.log);
  }
});

test("handshake: the state after it is sanitized into what the kernel logged", () => {
  for (const h of logged) {
    const conn = transition(h.then, "conn");
    if (conn === undefined || !["Connected", "WFBitMapS", "WFBitMapT"].includes(conn[1])) continue;
    const input = inputOf(h);
    const pdsk = transition(h.then, "pdsk");
    const own = transition(h.then, "disk");
    const old: StateFields = {
      ...INITIAL_STATE,
      role: input.selfRole,
      peer: transition(h.then, "peer") === undefined ? input.peerRole : Role.Unknown,
      conn: ConnState[conn[0] as keyof typeof ConnState],
      disk: own === undefined ? input.selfDisk : disk(own[0]),
      pdsk: pdsk === undefined ? input.peerDisk : disk(pdsk[0]),
    };
    const to = ConnState[conn[1] as keyof typeof ConnState];
    const wanted = { ...old, conn: to, peer: input.peerRole, pdsk: input.peerDisk };
    const { rc, state, warnings } = changeState(old, wanted, DEFAULT_STATE_CONTEXT, true);
    assert.equal(rc, 1, h.log);
    assert.equal(state.conn, to, h.log);
    if (own !== undefined) assert.equal(state.disk, disk(own[1]), h.log);
    else assert.equal(state.disk, old.disk, h.log);
    if (pdsk !== undefined) assert.equal(state.pdsk, disk(pdsk[1]), h.log);
    assert.equal(warnings.includes("implicitly-upgraded-disk"), h.then.includes("Implicitly upgraded disk"), h.log);
  }
});
