import assert from "node:assert/strict";
import { test } from "node:test";
import {
  applyRequest,
  changeState,
  checkHardTransition,
  checkState,
  checkTransition,
  convertPeerRequest,
  DEFAULT_STATE_CONTEXT,
  explainRefusal,
  INITIAL_STATE,
  needsPeerConsent,
  readPeerState,
  type StateContext,
  StateRc,
  sanitizeState,
  stateRcText,
  stateRefusal,
} from "@hacluster/blockrep/unstable/core/state";
import {
  ConnState,
  DiskState,
  formatState,
  isKnownState,
  packState,
  Role,
  type StateFields,
  unpackState,
} from "@hacluster/blockrep/unstable/wire/state-word";
import fc from "fast-check";

const ctx = DEFAULT_STATE_CONTEXT;
const connected: StateFields = {
  ...INITIAL_STATE,
  role: Role.Secondary,
  peer: Role.Secondary,
  conn: ConnState.Connected,
  disk: DiskState.UpToDate,
  pdsk: DiskState.UpToDate,
};
const alone: StateFields = { ...INITIAL_STATE, conn: ConnState.WFConnection, disk: DiskState.UpToDate };
const C = ConnState;
const D = DiskState;

const stateArbitrary: fc.Arbitrary<StateFields> = fc.record({
  role: fc.constantFrom(Role.Primary, Role.Secondary),
  peer: fc.constantFrom(Role.Unknown, Role.Primary, Role.Secondary),
  conn: fc.constantFrom(...Object.values(ConnState)),
  disk: fc.constantFrom(...Object.values(DiskState).filter((d) => d !== D.DUnknown)),
  pdsk: fc.constantFrom(...Object.values(DiskState)),
  susp: fc.boolean(),
  aftrIsp: fc.boolean(),
  peerIsp: fc.boolean(),
  userIsp: fc.boolean(),
  suspNod: fc.boolean(),
  suspFen: fc.boolean(),
});

test("state word: recorded words, and every state there and back", () => {
  assert.equal(formatState(unpackState(0x0000d081)), "cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown");
  assert.equal(formatState(unpackState(0x0000f0d9)), "cs:WFBitMapS ro:Primary/Secondary ds:UpToDate/Consistent");
  assert.equal(formatState(unpackState(0x00010ae6)), "cs:WFBitMapT ro:Secondary/Primary ds:Outdated/UpToDate");
  assert.equal(packState({ ...connected, peer: Role.Primary }), 0x000110a6);
  fc.assert(
    fc.property(stateArbitrary, (s) => {
      assert.deepEqual(unpackState(packState(s)), { ...s });
      assert.equal(isKnownState(s), true);
    }),
  );
  assert.equal(isKnownState(unpackState(0x1f0)), false);
  assert.equal(isKnownState(unpackState(0x1e00)), false);
});

test("sanitize: what follows from a state", () => {
  const after = (s: Partial<StateFields>, old: StateFields = connected, c: Partial<StateContext> = {}): StateFields =>
    sanitizeState(old, { ...connected, ...s }, { ...ctx, ...c }).state;
  const lost = after({ conn: C.NetworkFailure, peerIsp: true });
  assert.deepEqual([lost.peer, lost.pdsk, lost.peerIsp], [Role.Unknown, D.DUnknown, false]);
  assert.equal(after({ conn: C.NetworkFailure, pdsk: D.Outdated }).pdsk, D.Outdated);
  assert.equal(after({ conn: C.NetworkFailure, pdsk: D.Inconsistent }).pdsk, D.Inconsistent);
  assert.equal(after({ conn: C.NetworkFailure, pdsk: D.Diskless }).pdsk, D.DUnknown);
  assert.equal(after({ conn: C.SyncSource, disk: D.Failed }).conn, C.Connected);
  assert.equal(after({ disk: D.Consistent }).disk, D.UpToDate);
  assert.equal(after({ disk: D.Outdated, pdsk: D.Consistent }).disk, D.UpToDate);
  assert.deepEqual(
    [after({ conn: C.WFBitMapT }).disk, after({ conn: C.SyncTarget }).disk],
    [D.Outdated, D.Inconsistent],
  );
  assert.deepEqual(
    [after({ conn: C.WFBitMapS }).pdsk, after({ conn: C.SyncSource }).pdsk],
    [D.Consistent, D.Inconsistent],
  );
  assert.equal(after({ conn: C.SyncSource, userIsp: true }).conn, C.PausedSyncS);
  assert.equal(after({ conn: C.SyncTarget, aftrIsp: true }).conn, C.PausedSyncT);
  assert.equal(after({ conn: C.PausedSyncT, disk: D.Inconsistent }).conn, C.SyncTarget);
  const alone0 = after({ conn: C.StandAlone, disk: D.Diskless, aftrIsp: true });
  assert.equal(alone0.aftrIsp, false);
});

test("sanitize: a Negotiating disk without its connection falls back to the metadata, or off", () => {
  const wanted = { ...alone, disk: D.Negotiating };
  const kept = sanitizeState(connected, wanted, { ...ctx, negotiated: { disk: D.Consistent, pdsk: D.Outdated } });
  assert.deepEqual([kept.state.disk, kept.state.pdsk], [D.Consistent, D.Outdated]);
  const lost = sanitizeState(connected, wanted, ctx);
  assert.deepEqual([lost.state.disk, lost.warnings], [D.Diskless, ["connection-lost-negotiating"]]);
});

test("sanitize: I/O is suspended once, on losing the peer under stonith and on losing all data", () => {
  const primary = { ...connected, role: Role.Primary };
  const stonith: StateContext = { ...ctx, fencing: "resource-and-stonith" };
  const lost = sanitizeState(primary, { ...primary, conn: C.NetworkFailure }, stonith).state;
  assert.equal(lost.suspFen, true);
  const resumed = { ...lost, suspFen: false };
  assert.equal(sanitizeState(resumed, { ...resumed, conn: C.Unconnected }, stonith).state.suspFen, false);
  const bare = { ...primary, disk: D.Failed, pdsk: D.Inconsistent };
  assert.equal(sanitizeState(primary, bare, { ...ctx, onNoData: "suspend-io" }).state.suspNod, true);
  assert.equal(sanitizeState(primary, bare, ctx).state.suspNod, false);
});

test("sanitize: applying it twice changes nothing more", () => {
  fc.assert(
    fc.property(stateArbitrary, stateArbitrary, (old, wanted) => {
      const once = sanitizeState(old, wanted, ctx).state;
      const twice = sanitizeState(once, once, ctx).state;
      // pause flags and disk ranges settle in the next step where both applied at once
      assert.deepEqual(sanitizeState(twice, twice, ctx).state, twice);
    }),
    { numRuns: 500 },
  );
});

test("permissions: every refusal of a requested state", () => {
  const primary = { ...connected, role: Role.Primary };
  const table: [StateFields, Partial<StateContext>, StateRc][] = [
    [connected, {}, StateRc.Success],
    [primary, {}, StateRc.Success],
    [{ ...primary, peer: Role.Primary }, {}, StateRc.TwoPrimaries],
    [{ ...primary, peer: Role.Primary }, { allowTwoPrimaries: true }, StateRc.Success],
    [primary, { otherVolumePeerPrimary: true }, StateRc.OtherVolumePeerPrimary],
    [connected, { deviceOpen: true }, StateRc.DeviceInUse],
    [{ ...alone, role: Role.Primary, disk: D.Consistent }, {}, StateRc.NoUpToDateDisk],
    [{ ...alone, role: Role.Primary }, {}, StateRc.Success],
    [{ ...alone, role: Role.Primary }, { fencing: "resource-only" }, StateRc.PrimaryNop],
    [{ ...alone, role: Role.Primary, pdsk: D.Outdated }, { fencing: "resource-only" }, StateRc.Success],
    [{ ...primary, disk: D.Diskless, pdsk: D.Inconsistent }, {}, StateRc.NoUpToDateDisk],
    [{ ...primary, disk: D.Outdated, pdsk: D.Consistent, conn: C.Ahead }, {}, StateRc.NoUpToDateDisk],
    [{ ...connected, conn: C.WFBitMapS, disk: D.Failed }, {}, StateRc.NoLocalDisk],
    [{ ...connected, conn: C.WFBitMapS, pdsk: D.Diskless }, {}, StateRc.NoRemoteDisk],
    [{ ...connected, conn: C.WFBitMapT, disk: D.Outdated, pdsk: D.Outdated }, {}, StateRc.NoUpToDateDisk],
    [{ ...connected, disk: D.Outdated }, {}, StateRc.ConnectedOutdates],
    [{ ...connected, conn: C.SyncSource, disk: D.Outdated }, {}, StateRc.ConnectedOutdates],
    [{ ...connected, conn: C.VerifyS }, {}, StateRc.NoVerifyAlg],
    [{ ...connected, conn: C.VerifyT }, { hasVerifyAlg: true, protocolVersion: 87 }, StateRc.NotSupported],
    [{ ...connected, conn: C.VerifyT }, { hasVerifyAlg: true }, StateRc.Success],
    [{ ...connected, conn: C.StartingSyncS, pdsk: D.DUnknown }, {}, StateRc.NeedConnection],
    [{ ...connected, pdsk: D.DUnknown }, {}, StateRc.ConnectedOutdates],
  ];
  for (const [s, c, rc] of table)
    assert.equal(checkState(s, { ...ctx, ...c }), rc, `${formatState(s)} ${JSON.stringify(c)}`);
});

test("permissions: every refusal of a requested step", () => {
  const to = (s: Partial<StateFields>, from: StateFields = connected): StateFields => ({ ...from, ...s });
  const table: [StateFields, StateFields, Partial<StateContext>, StateRc][] = [
    [connected, to({ conn: C.StartingSyncT }), {}, StateRc.Success],
    [to({ conn: C.SyncSource }), to({ conn: C.StartingSyncS }), {}, StateRc.ResyncRunning],
    [alone, to({ conn: C.StartingSyncS }, alone), {}, StateRc.NeedConnection],
    [INITIAL_STATE, to({ conn: C.Disconnecting }, INITIAL_STATE), {}, StateRc.AlreadyStandAlone],
    [INITIAL_STATE, to({ disk: D.UpToDate }, INITIAL_STATE), {}, StateRc.IsDiskless],
    [INITIAL_STATE, to({ disk: D.Attaching }, INITIAL_STATE), {}, StateRc.Success],
    [INITIAL_STATE, to({ conn: C.WFConnection }, INITIAL_STATE), {}, StateRc.NoNetConfig],
    [to({ disk: D.Inconsistent }), to({ disk: D.Outdated }), {}, StateRc.LowerThanOutdated],
    [to({ disk: D.Attaching }), to({ disk: D.Outdated }), {}, StateRc.Success],
    [to({ conn: C.Unconnected }), to({ conn: C.Disconnecting }), {}, StateRc.InTransientState],
    [
      to({ conn: C.WFReportParams }),
      to({ conn: C.WFReportParams, role: Role.Primary }),
      { handshaking: true },
      StateRc.InTransientState,
    ],
    [to({ conn: C.WFReportParams }), connected, { handshaking: true }, StateRc.Success],
    [
      to({ conn: C.WFBitMapT, disk: D.Inconsistent }),
      to({ conn: C.WFBitMapT, disk: D.Inconsistent, role: Role.Primary }),
      {},
      StateRc.InTransientState,
    ],
    [alone, to({ conn: C.VerifyS }, alone), {}, StateRc.NeedConnection],
    [to({ conn: C.SyncSource }), to({ conn: C.VerifyS }), {}, StateRc.ResyncRunning],
    [to({ conn: C.TearDown }), to({ conn: C.SyncTarget }), {}, StateRc.NeedConnection],
    [alone, to({ conn: C.Disconnecting, pdsk: D.Outdated }, alone), {}, StateRc.OutdateWithoutConnection],
  ];
  for (const [old, s, c, rc] of table) {
    assert.equal(checkTransition(old, s, { ...ctx, ...c }), rc, `${formatState(old)} -> ${formatState(s)}`);
  }
});

test("transitions: an error state of the connection is only left towards Unconnected", () => {
  const rc = (from: ConnState, to: ConnState): StateRc =>
    checkHardTransition({ ...alone, conn: from }, { ...alone, conn: to });
  assert.equal(rc(C.StandAlone, C.Unconnected), StateRc.Success);
  assert.equal(rc(C.StandAlone, C.WFConnection), StateRc.NeedConnection);
  assert.equal(rc(C.StandAlone, C.Disconnecting), StateRc.AlreadyStandAlone);
  assert.equal(rc(C.WFConnection, C.Connected), StateRc.NeedConnection);
  assert.equal(rc(C.WFReportParams, C.Connected), StateRc.Success);
  assert.equal(rc(C.BrokenPipe, C.WFConnection), StateRc.InTransientState);
  assert.equal(rc(C.BrokenPipe, C.Unconnected), StateRc.Success);
  assert.equal(rc(C.NetworkFailure, C.Disconnecting), StateRc.Success);
  assert.equal(rc(C.Disconnecting, C.Unconnected), StateRc.InTransientState);
  assert.equal(rc(C.Disconnecting, C.StandAlone), StateRc.Success);
  const failed = checkHardTransition({ ...alone, disk: D.Diskless }, { ...alone, disk: D.Failed });
  assert.equal(failed, StateRc.IsDiskless);
});

test("change: a wish is refused, an event happens, nothing new is nothing to do", () => {
  const primary = { ...alone, role: Role.Primary, disk: D.Consistent };
  const wish = changeState({ ...alone, disk: D.Consistent }, primary, ctx);
  assert.deepEqual([wish.rc, wish.state.role], [StateRc.NoUpToDateDisk, Role.Secondary]);
  assert.equal(changeState({ ...alone, disk: D.Consistent }, primary, ctx, true).rc, StateRc.Success);
  assert.equal(changeState(connected, connected, ctx).rc, StateRc.NothingToDo);
  // a Primary that is already in trouble may still be disconnected
  const trouble = { ...connected, role: Role.Primary, disk: D.Diskless, pdsk: D.Inconsistent };
  assert.equal(changeState(trouble, { ...trouble, peer: Role.Unknown, peerIsp: true }, ctx).rc, StateRc.Success);
});

test("requests: a recorded refusal of a graceful disconnect, and its retry", () => {
  // scenario 22: the peer asks for Disconnecting, we are Primary with fencing
  const primary = { ...connected, role: Role.Primary, peer: Role.Secondary };
  const fencing: StateContext = { ...ctx, fencing: "resource-only" };
  const first = convertPeerRequest(0x1f0, 0x10);
  assert.deepEqual(first, { mask: 0x1f0, value: 0x70 });
  const refused = changeState(primary, applyRequest(primary, 0x1f0, 0x70), fencing);
  assert.equal(refused.rc, StateRc.PrimaryNop);
  assert.deepEqual(explainRefusal(refused.rc, primary, refused.wanted), [
    "State change failed: Refusing to be Primary while peer is not outdated",
    "  state = { cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate }",
    " wanted = { cs:TearDown ro:Primary/Unknown ds:UpToDate/DUnknown }",
  ]);
  const retry = convertPeerRequest(0x1ff0, 0xa10);
  assert.ok(retry);
  const done = changeState(primary, applyRequest(primary, retry.mask, retry.value), fencing);
  assert.equal(done.rc, StateRc.Success);
  assert.equal(formatState(done.state), "cs:TearDown ro:Primary/Unknown ds:UpToDate/Outdated");
});

test("requests: the peer's point of view becomes ours", () => {
  assert.deepEqual(convertPeerRequest(0x3, 0x1), { mask: 0xc, value: 0x4 });
  assert.deepEqual(convertPeerRequest(0x1e03, 0x1001), { mask: 0x1e00c, value: 0x10004 });
  assert.deepEqual(convertPeerRequest(0x1e00, 0x400), { mask: 0x1e000, value: 0x4000 });
  assert.deepEqual(convertPeerRequest(0x1f0, 0x120), { mask: 0x1f0, value: 0x130 });
  assert.deepEqual(convertPeerRequest(0x1f0, 0xc0), { mask: 0x1f0, value: 0xb0 });
  assert.equal(convertPeerRequest(0x1f0, C.SyncTarget << 4), undefined);
});

test("requests: which changes a connected peer must agree to", () => {
  const consent = (s: Partial<StateFields>, old: StateFields = connected): boolean =>
    needsPeerConsent(old, { ...old, ...s });
  assert.equal(consent({ role: Role.Primary }), true);
  assert.equal(consent({ role: Role.Secondary }, { ...connected, role: Role.Primary }), false);
  assert.equal(consent({ disk: D.Failed }), true);
  assert.equal(consent({ conn: C.StartingSyncT }), true);
  assert.equal(consent({ conn: C.VerifyS }), true);
  assert.equal(consent({ conn: C.Disconnecting }), true);
  assert.equal(consent({ userIsp: true }), false);
  assert.equal(consent({ role: Role.Primary }, alone), false);
});

test("peer's state: when the UUIDs decide, and when a sync is over", () => {
  const peer: StateFields = { ...connected, conn: C.WFReportParams };
  const fresh = readPeerState({ ...connected, conn: C.WFReportParams }, peer, D.UpToDate, true, false);
  assert.deepEqual([fresh.considerResync, fresh.wanted.conn], [true, C.Connected]);
  assert.equal(
    readPeerState({ ...connected, conn: C.WFReportParams }, peer, D.UpToDate, false, false).considerResync,
    false,
  );
  const quiet = readPeerState(connected, { ...connected, userIsp: true }, D.UpToDate, true, false);
  assert.deepEqual([quiet.considerResync, quiet.wanted.peerIsp], [false, true]);
  assert.equal(readPeerState(connected, connected, D.UpToDate, true, true).considerResync, true);
  const attaching = readPeerState(connected, { ...connected, disk: D.Negotiating }, D.Consistent, true, false);
  assert.equal(attaching.considerResync, true);
  assert.equal(
    readPeerState(connected, { ...connected, conn: C.StartingSyncT }, D.Outdated, true, false).considerResync,
    true,
  );
  const source = { ...connected, conn: C.SyncSource, pdsk: D.Inconsistent } as const;
  assert.equal(readPeerState(source, connected, D.UpToDate, true, false).finished, "resync");
  const preparing = readPeerState(source, { ...connected, conn: C.WFBitMapT }, D.UpToDate, true, false);
  assert.deepEqual([preparing.finished, preparing.wanted.pdsk], [undefined, D.Inconsistent]);
  const verify = { ...connected, conn: C.VerifyT } as const;
  assert.equal(readPeerState(verify, connected, D.UpToDate, true, false).finished, "verify");
  const late = readPeerState(connected, { ...connected, conn: C.SyncTarget }, D.Inconsistent, true, false);
  assert.equal(late.wanted.pdsk, D.UpToDate);
  assert.equal(
    readPeerState(connected, { ...connected, conn: C.Ahead }, D.UpToDate, true, false).wanted.conn,
    C.Behind,
  );
});

test("refusals: every code has DRBD's sentence", () => {
  for (const rc of Object.values(StateRc)) if (rc < 0) assert.doesNotMatch(stateRcText(rc), /result/, String(rc));
  assert.equal(stateRefusal(StateRc.NoUpToDateDisk), "State change failed: (-2) Need access to UpToDate data");
  assert.equal(stateRcText(1), "state change result 1");
});
