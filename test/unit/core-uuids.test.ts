import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "@hacluster/blockrep/base";
import {
  adoptSkippedInitialSync,
  CompareResult,
  clearBitmapUuid,
  compareUuids,
  FRESH_UUIDS,
  finishResyncSource,
  finishResyncTarget,
  formatUuids,
  markRole,
  needsNewCurrent,
  newCurrentUuid,
  skipInitialSync,
  startResyncSource,
  startResyncTarget,
  type UuidComparisonInput,
  type UuidSet,
} from "@hacluster/blockrep/unstable/core/uuids";
import { Role } from "@hacluster/blockrep/unstable/wire/state-word";
import fc from "fast-check";

const base: Omit<UuidComparisonInput, "self" | "peer"> = {
  selfRole: Role.Secondary,
  peerRole: Role.Secondary,
  selfCrashedPrimary: false,
  peerCrashedPrimary: false,
  resolveConflicts: false,
  protocolVersion: 101,
  writeSameAgreed: true,
};

const set = (current: bigint, bitmap: bigint, history0: bigint, history1: bigint): UuidSet => ({
  current,
  bitmap,
  history0,
  history1,
});

const parse = (text: string): UuidSet => {
  const n = text.split(":").map((h) => BigInt(`0x${h}`)) as [bigint, bigint, bigint, bigint];
  return set(...n);
};

function mirrored(i: UuidComparisonInput): UuidComparisonInput {
  return {
    ...i,
    self: i.peer,
    peer: i.self,
    selfRole: i.peerRole,
    peerRole: i.selfRole,
    selfCrashedPrimary: i.peerCrashedPrimary,
    peerCrashedPrimary: i.selfCrashedPrimary,
    resolveConflicts: !i.resolveConflicts,
  };
}

/** What the other node must come to. */
function mirrorOf(result: number): number {
  return Math.abs(result) <= 2 ? 0 - result : result;
}

const clear0 = (n: bigint): bigint => n & ~1n;
const eq = (a: bigint, b: bigint): boolean => clear0(a) === clear0(b);

/** Inputs in which each side looks older than the other; no sequence of events leads there. */
function contradicts({ self, peer }: UuidComparisonInput): boolean {
  const behind = [peer.bitmap, peer.history0, peer.history1].some((u) => eq(self.current, u));
  const ahead = [self.bitmap, self.history0, self.history1].some((u) => eq(peer.current, u));
  return (
    (behind && ahead && !eq(self.current, peer.current)) || clear0(self.current) === 0n || clear0(peer.current) === 0n
  );
}

const uuid = fc.constantFrom(
  0n,
  4n,
  0x10n,
  0x11n,
  0x20n,
  0x21n,
  0x30n,
  0x40n,
  0x1_0000_0000_0010n,
  0x1_0000_0000_0020n,
);
const role = fc.constantFrom(Role.Primary, Role.Secondary);
const input: fc.Arbitrary<UuidComparisonInput> = fc.record({
  self: fc.tuple(uuid, uuid, uuid, uuid).map((u) => set(...u)),
  peer: fc.tuple(uuid, uuid, uuid, uuid).map((u) => set(...u)),
  selfRole: role,
  peerRole: role,
  selfCrashedPrimary: fc.boolean(),
  peerCrashedPrimary: fc.boolean(),
  resolveConflicts: fc.boolean(),
  protocolVersion: fc.constantFrom(86, 90, 91, 95, 96, 101),
  writeSameAgreed: fc.boolean(),
});

test("compareUuids: both nodes come to mirrored results from mirrored input", () => {
  fc.assert(
    fc.property(input, (i) => {
      fc.pre(!contradicts(i));
      const here = compareUuids(i);
      const there = compareUuids(mirrored(i));
      assert.equal(there.result, mirrorOf(here.result), `rules ${here.rule} and ${there.rule}`);
      if (here.selfCorrected) assert.deepEqual(there.peer, here.self, "the peer corrects its copy likewise");
      if (there.selfCorrected) assert.deepEqual(here.peer, there.self);
    }),
    { numRuns: 3000 },
  );
});

test("compareUuids: bit 0 of no UUID changes a decision", () => {
  fc.assert(
    fc.property(input, fc.nat(255), (i, bits) => {
      const flip = (u: UuidSet, b: number): UuidSet =>
        set(
          u.current ^ BigInt(b & 1),
          u.bitmap === 0n ? 0n : u.bitmap ^ BigInt((b >> 1) & 1),
          u.history0 ^ BigInt((b >> 2) & 1),
          u.history1 ^ BigInt((b >> 3) & 1),
        );
      const other = { ...i, self: flip(i.self, bits), peer: flip(i.peer, bits >> 4) };
      fc.pre((other.self.bitmap === 0n) === (i.self.bitmap === 0n));
      fc.pre((other.peer.bitmap === 0n) === (i.peer.bitmap === 0n));
      assert.equal(compareUuids(other).result, compareUuids(i).result);
    }),
    { numRuns: 1000 },
  );
});

const C = 0xaaaa_0000_0000_0010n;
const B = 0xbbbb_0000_0000_0020n;
const H = 0xcccc_0000_0000_0030n;
const result = (i: Partial<UuidComparisonInput> & Pick<UuidComparisonInput, "self" | "peer">): [number, number] => {
  const r = compareUuids({ ...base, ...i });
  return [r.result, r.rule];
};

test("compareUuids: rule 35 corrects the copy of the peer, as rule 34 corrects itself there", () => {
  const r = compareUuids({ ...base, self: set(C, 0n, B, H), peer: set(C, B, H, 0n) });
  assert.deepEqual([r.result, r.rule, r.selfCorrected], [-1, 35, false]);
  assert.deepEqual(r.peer, set(C, 0n, B, H));
});

test("compareUuids: rule 41 lets the present Primary win, and needs a peer that knows the rule", () => {
  const equal = { self: set(C, 0n, H, 0n), peer: set(C, 0n, H, 0n), selfCrashedPrimary: true };
  assert.deepEqual(result({ ...equal, selfRole: Role.Primary }), [1, 41]);
  assert.deepEqual(result({ ...equal, peerRole: Role.Primary }), [-1, 41]);
  assert.deepEqual(result({ ...equal, selfRole: Role.Primary, peerRole: Role.Primary }), [-100, 41]);
  assert.deepEqual(result({ ...equal, peerRole: Role.Primary, writeSameAgreed: false }), [
    CompareResult.needsWriteSame,
    41,
  ]);
  assert.deepEqual(result({ ...equal, selfCrashedPrimary: false, selfRole: Role.Primary }), [0, 40]);
});

test("compareUuids: the corrections need protocol 91, and look for another trace below 96", () => {
  const offset = B + 0x0001_0000_0000_0000n;
  const lost = { self: set(C, offset, B, H), peer: set(B, 0n, H, 0n) };
  assert.deepEqual(result({ ...lost, protocolVersion: 96 }), [1, 71]);
  assert.deepEqual(result({ ...lost, protocolVersion: 95 }), [1, 71], "H1 is the peer's H0");
  assert.deepEqual(result({ ...lost, protocolVersion: 90 }), [CompareResult.needsProtocol91, 71]);
  assert.deepEqual(result({ self: lost.peer, peer: lost.self, protocolVersion: 90 }), [
    CompareResult.needsProtocol91,
    51,
  ]);
  assert.deepEqual(result({ self: set(C, B, H, 0n), peer: set(C, 0n, H, 0n), protocolVersion: 90 }), [-1091, 34]);
  assert.deepEqual(result({ self: set(C, 0x77n, B, H), peer: set(B, 0n, 0n, 0n), protocolVersion: 95 }), [2, 80]);
});

test("life cycle: the sets of a recorded promotion, split brain and resync", () => {
  // scenario 22: link loss of a Primary, then an empty resync
  const before = parse("82104BF8A9B35033:0000000000000000:52235EFF714399C5:52225EFF714399C5");
  assert.equal(needsNewCurrent(before), true);
  const lost = newCurrentUuid(before, 0x914fb9100ae965een, true);
  assert.equal(formatUuids(lost), "914FB9100AE965EF:82104BF8A9B35033:52235EFF714399C5:52225EFF714399C5");
  assert.equal(needsNewCurrent(lost), false);
  const source = startResyncSource(lost, 1n);
  assert.equal(formatUuids(source), "914FB9100AE965EF:82114BF8A9B35033:82104BF8A9B35033:52235EFF714399C5");
  assert.equal(
    formatUuids(finishResyncSource(source)),
    "914FB9100AE965EF:0000000000000000:82114BF8A9B35033:82104BF8A9B35033",
  );
});

test("life cycle: both ends of a recorded resync have the same generations", () => {
  // scenario 12, where the target discards its own generation
  const target = parse("05B753282F36D6A6:5C265D3EFA9816F2:9AD40D9C770D1B46:9AD30D9C770D1B47");
  const source = parse("2B2AAD08352E8B11:5C265D3EFA9816F3:9AD40D9C770D1B47:9AD30D9C770D1B47");
  const syncing = startResyncSource(source, 0n);
  assert.equal(formatUuids(syncing), "2B2AAD08352E8B11:5C275D3EFA9816F3:5C265D3EFA9816F3:9AD40D9C770D1B47");
  const receiving = startResyncTarget(target, syncing.bitmap, false);
  assert.equal(formatUuids(receiving), "5C275D3EFA9816F2:0000000000000000:9AD40D9C770D1B46:9AD30D9C770D1B47");
  const done = finishResyncTarget(receiving, source, false);
  assert.equal(formatUuids(done), "2B2AAD08352E8B10:0000000000000000:5C275D3EFA9816F2:5C265D3EFA9816F3");
  const finished = finishResyncSource(syncing);
  assert.deepEqual(result({ self: done, peer: finished }), [0, 40]);
});

test("life cycle: a source without a base takes a random one and rotates nothing away", () => {
  // scenario 26
  const source = parse("F039E43C11354B76:0000000000000000:0000000000000000:0000000000000000");
  const syncing = startResyncSource(source, 0x9ca9d339660c12a3n);
  assert.equal(formatUuids(syncing), "F039E43C11354B76:9CA9D339660C12A3:0000000000000000:0000000000000000");
  const forced = newCurrentUuid(FRESH_UUIDS, 0xf4b66d8834af7c0fn, true);
  assert.equal(formatUuids(forced), "F4B66D8834AF7C0F:0000000000000004:0000000000000000:0000000000000000");
  assert.equal(startResyncSource(forced, 0x77n).bitmap, 0x77n);
  assert.equal(startResyncSource(forced, 0x77n).history0, 4n);
});

test("life cycle: skipping the initial sync ends with equal sets on both sides", () => {
  const here = skipInitialSync(FRESH_UUIDS, 0x1234n, false);
  assert.deepEqual([here.current, here.bitmap], [0x1234n, 4n]);
  const there = adoptSkippedInitialSync(FRESH_UUIDS, here, true);
  assert.deepEqual(there, set(0x1235n, 0n, 0n, 0n));
  assert.deepEqual(markRole(there, false), { ...here, bitmap: 0n });
  assert.equal(clearBitmapUuid(there), there);
});

/** Two nodes that promote, write, lose and find each other, and are interrupted while they sync. */
function live(seed: number): void {
  const prng = new Prng(seed);
  let [a, b]: [UuidSet, UuidSet] = [set(0x100n, 0n, 0n, 0n), set(0x100n, 0n, 0n, 0n)];
  for (let round = 0; round < 12; round++) {
    const writers = prng.below(4); // which of the two write while apart
    if ((writers & 1) !== 0 && needsNewCurrent(a)) a = newCurrentUuid(a, prng.u64(), true);
    if ((writers & 2) !== 0 && needsNewCurrent(b)) b = newCurrentUuid(b, prng.u64(), false);
    const i: UuidComparisonInput = { ...base, self: a, peer: b, resolveConflicts: true };
    const [onA, onB] = [compareUuids(i), compareUuids(mirrored(i))];
    assert.equal(onB.result, mirrorOf(onA.result), `${formatUuids(a)} ${formatUuids(b)}`);
    if (onA.result === CompareResult.splitBrain) assert.ok(a.bitmap !== 0n && b.bitmap !== 0n);
    const aWins = Math.abs(onA.result) <= 2 ? onA.result > 0 : prng.chance(1, 2);
    if (onA.result === 0) continue;
    [a, b] = [onA.self, onB.self];
    let [winner, loser] = aWins ? [a, b] : [b, a];
    const known = winner;
    const stage = prng.below(5); // where the link breaks, if it does
    if (stage > 0) winner = startResyncSource(winner, prng.u64());
    if (stage > 1) loser = startResyncTarget(loser, winner.bitmap, false);
    if (stage > 2) loser = finishResyncTarget(loser, known, false);
    if (stage > 3) winner = finishResyncSource(winner);
    [a, b] = aWins ? [winner, loser] : [loser, winner];
  }
}

test("life cycle: interrupted anywhere, both nodes agree at every reconnect", () => {
  for (let seed = 1; seed <= 300; seed++) live(seed);
});
