import assert from "node:assert/strict";
import { test } from "node:test";
import {
  applyStateChange,
  ConnState,
  DiskState,
  formatState,
  isKnownState,
  packState,
  packStateChange,
  Role,
  StateMask,
  unpackState,
} from "@hacluster/blockrep/unstable/wire/state-word";
import fc from "fast-check";

test("state word: the words that kernels sent", () => {
  for (const [word, text] of [
    [0x0000c882, "cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown"],
    [0x000088aa, "cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent"],
    [0x0000d081, "cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown"],
    [0x0000f0d9, "cs:WFBitMapS ro:Primary/Secondary ds:UpToDate/Consistent"],
    [0x00010ae6, "cs:WFBitMapT ro:Secondary/Primary ds:Outdated/UpToDate"],
    [0x000110a6, "cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate"],
  ] as const) {
    assert.equal(formatState(unpackState(word)), text);
    assert.equal(packState(unpackState(word)), word);
  }
});

test("state word: packing is the inverse of unpacking on the 23 bits in use", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 23 - 1 }), (word) => {
      assert.equal(packState(unpackState(word)), word);
    }),
  );
});

test("state word: values that no list has are told apart", () => {
  assert.ok(isKnownState(unpackState(0x000110a6)));
  for (const word of [0x3, 0xc, 24 << 4, 31 << 4, 9 << 9, 15 << 13]) assert.ok(!isKnownState(unpackState(word)));
});

test("state word: the masks cover 23 bits, none twice", () => {
  const masks = Object.values(StateMask);
  assert.equal(
    masks.reduce((a, b) => a + b, 0),
    2 ** 23 - 1,
  );
});

test("state change: the requests that kernels sent", () => {
  assert.deepEqual(packStateChange({ role: Role.Primary }), { mask: 0x3, value: 0x1 });
  assert.deepEqual(packStateChange({ role: Role.Primary, disk: DiskState.UpToDate }), { mask: 0x1e03, value: 0x1001 });
  assert.deepEqual(packStateChange({ disk: DiskState.Failed }), { mask: 0x1e00, value: 0x400 });
  assert.deepEqual(packStateChange({ conn: ConnState.VerifyS }), { mask: 0x1f0, value: 0x120 });
  assert.deepEqual(packStateChange({ conn: ConnState.StartingSyncT }).value, 0xc0);
  assert.deepEqual(packStateChange({ conn: ConnState.Disconnecting }), { mask: 0x1f0, value: 0x10 });
  assert.deepEqual(packStateChange({ conn: ConnState.Disconnecting, disk: DiskState.Outdated }), {
    mask: 0x1ff0,
    value: 0xa10,
  });
  assert.deepEqual(packStateChange({ userIsp: false }), { mask: StateMask.userIsp, value: 0 });
});

test("state change: changes the masked bits and nothing else", () => {
  const before = 0x000110a6;
  const after = applyStateChange(before, { mask: StateMask.conn, value: 0xffffffff });
  assert.equal(after, before | StateMask.conn);
  assert.equal(applyStateChange(0xffffffff, { mask: StateMask.role, value: 0 }), 0xfffffffc);
});
