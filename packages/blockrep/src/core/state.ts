import {
  ConnState,
  DiskState,
  formatState,
  packState,
  Role,
  type StateFields,
  StateMask,
  unpackState,
} from "../wire/state-word.ts";

/**
 * Results of a state change, as the reply packets carry them. Positive: done or nothing to do.
 * @see DRBD 8.4 drbd.h enum drbd_state_rv
 */
export const StateRc = {
  CwNoNeed: 4,
  CwSuccess: 3,
  NothingToDo: 2,
  Success: 1,
  Unknown: 0,
  TwoPrimaries: -1,
  NoUpToDateDisk: -2,
  NoLocalDisk: -4,
  NoRemoteDisk: -5,
  ConnectedOutdates: -6,
  PrimaryNop: -7,
  ResyncRunning: -8,
  AlreadyStandAlone: -9,
  CwFailedByPeer: -10,
  IsDiskless: -11,
  DeviceInUse: -12,
  NoNetConfig: -13,
  NoVerifyAlg: -14,
  NeedConnection: -15,
  LowerThanOutdated: -16,
  NotSupported: -17,
  InTransientState: -18,
  ConcurrentStateChange: -19,
  OtherVolumePeerPrimary: -20,
  OutdateWithoutConnection: -21,
} as const;
export type StateRc = (typeof StateRc)[keyof typeof StateRc];

const REFUSALS: Readonly<Record<number, string>> = {
  [StateRc.TwoPrimaries]: "Multiple primaries not allowed by config",
  [StateRc.NoUpToDateDisk]: "Need access to UpToDate data",
  [StateRc.NoLocalDisk]: "Can not resync without local disk",
  [StateRc.NoRemoteDisk]: "Can not resync without remote disk",
  [StateRc.ConnectedOutdates]: "Refusing to be Outdated while Connected",
  [StateRc.PrimaryNop]: "Refusing to be Primary while peer is not outdated",
  [StateRc.ResyncRunning]: "Can not start OV/resync since it is already active",
  [StateRc.AlreadyStandAlone]: "Can not disconnect a StandAlone device",
  [StateRc.CwFailedByPeer]: "State change was refused by peer node",
  [StateRc.IsDiskless]: "Device is diskless, the requested operation requires a disk",
  [StateRc.DeviceInUse]: "Device is held open by someone",
  [StateRc.NoNetConfig]: "Have no net/connection configuration",
  [StateRc.NoVerifyAlg]: "Need a verify algorithm to start online verify",
  [StateRc.NeedConnection]: "Need a connection to start verify or resync",
  [StateRc.LowerThanOutdated]: "Disk state is lower than outdated",
  [StateRc.NotSupported]: "Peer does not support protocol",
  [StateRc.InTransientState]: "In transient state, retry after next state change",
  [StateRc.ConcurrentStateChange]: "Concurrent state changes detected and aborted",
  [StateRc.OtherVolumePeerPrimary]: "Other vol primary on peer not allowed by config",
  [StateRc.OutdateWithoutConnection]: "Need a connection for a graceful disconnect/outdate peer",
};

/** The sentence that DRBD's tools print for a refusal; a positive or unknown code gives `state change result N`. */
export function stateRcText(rc: number): string {
  return REFUSALS[rc] ?? `state change result ${rc}`;
}

/** `State change failed: (-2) Need access to UpToDate data`, as drbdsetup prints it after `MINOR: `. */
export function stateRefusal(rc: number): string {
  return `State change failed: (${rc}) ${stateRcText(rc)}`;
}

/** Configuration and circumstances that the rules look at besides the state itself. */
export interface StateContext {
  readonly fencing: "dont-care" | "resource-only" | "resource-and-stonith";
  readonly onNoData: "io-error" | "suspend-io";
  readonly allowTwoPrimaries: boolean;
  /** A connection is configured at all. */
  readonly hasNetConfig: boolean;
  /** The peer is Primary on another volume of this connection. */
  readonly otherVolumePeerPrimary: boolean;
  /** Someone has the device open for writing. */
  readonly deviceOpen: boolean;
  readonly hasVerifyAlg: boolean;
  /** Agreed version; only asked while connected. */
  readonly protocolVersion: number;
  /** My P_STATE of this connection is sent and the handshake is not over: only the connection may change. */
  readonly handshaking: boolean;
  /**
   * What the metadata alone would give for a Negotiating disk; undefined when the exposed data UUID is another one
   * than that of the disk, so that it must not be used.
   */
  readonly negotiated: { readonly disk: DiskState; readonly pdsk: DiskState } | undefined;
}

export const DEFAULT_STATE_CONTEXT: StateContext = {
  fencing: "dont-care",
  onNoData: "io-error",
  allowTwoPrimaries: false,
  hasNetConfig: true,
  otherVolumePeerPrimary: false,
  deviceOpen: false,
  hasVerifyAlg: false,
  protocolVersion: 101,
  handshaking: false,
  negotiated: undefined,
};

/** The state of a volume that is configured but neither attached nor connected. */
export const INITIAL_STATE: StateFields = {
  role: Role.Secondary,
  peer: Role.Unknown,
  conn: ConnState.StandAlone,
  disk: DiskState.Diskless,
  pdsk: DiskState.DUnknown,
  susp: false,
  aftrIsp: false,
  peerIsp: false,
  userIsp: false,
  suspNod: false,
  suspFen: false,
};

export type SanitizeWarning =
  | "aborted-online-verify"
  | "aborted-resync"
  | "connection-lost-negotiating"
  | "implicitly-upgraded-disk"
  | "implicitly-upgraded-pdsk";

export interface SanitizedState {
  readonly state: StateFields;
  readonly warnings: readonly SanitizeWarning[];
}

interface DiskRange {
  readonly disk: readonly [min: DiskState, max: DiskState];
  readonly pdsk: readonly [min: DiskState, max: DiskState];
}

const D = DiskState;
const TARGET_WAITING: DiskRange = { disk: [D.Inconsistent, D.Outdated], pdsk: [D.UpToDate, D.UpToDate] };
const SOURCE_WAITING: DiskRange = { disk: [D.UpToDate, D.UpToDate], pdsk: [D.Inconsistent, D.Consistent] };
const BOTH_GOOD: DiskRange = { disk: [D.UpToDate, D.UpToDate], pdsk: [D.UpToDate, D.UpToDate] };
const NOT_CONNECTED: DiskRange = { disk: [D.Diskless, D.UpToDate], pdsk: [D.Inconsistent, D.DUnknown] };

/** Which disk states each connection state allows; a value outside is moved to the nearer end. */
const DISK_RANGES: Readonly<Partial<Record<ConnState, DiskRange>>> = {
  [ConnState.Connected]: { disk: [D.Diskless, D.UpToDate], pdsk: [D.Diskless, D.UpToDate] },
  [ConnState.StartingSyncS]: SOURCE_WAITING,
  [ConnState.StartingSyncT]: TARGET_WAITING,
  [ConnState.WFBitMapS]: SOURCE_WAITING,
  [ConnState.WFBitMapT]: TARGET_WAITING,
  [ConnState.WFSyncUUID]: TARGET_WAITING,
  [ConnState.SyncSource]: { disk: [D.UpToDate, D.UpToDate], pdsk: [D.Inconsistent, D.Inconsistent] },
  [ConnState.SyncTarget]: { disk: [D.Inconsistent, D.Inconsistent], pdsk: [D.UpToDate, D.UpToDate] },
  [ConnState.VerifyS]: BOTH_GOOD,
  [ConnState.VerifyT]: BOTH_GOOD,
  [ConnState.PausedSyncS]: SOURCE_WAITING,
  [ConnState.PausedSyncT]: TARGET_WAITING,
  [ConnState.Ahead]: SOURCE_WAITING,
  [ConnState.Behind]: TARGET_WAITING,
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function isVerify(conn: ConnState): boolean {
  return conn === ConnState.VerifyS || conn === ConnState.VerifyT;
}

function isStartingSync(conn: ConnState): boolean {
  return conn === ConnState.StartingSyncS || conn === ConnState.StartingSyncT;
}

/** A Primary that lost a peer which may still be used by others. */
function primaryLostPeer(s: StateFields): boolean {
  return s.role === Role.Primary && s.conn < ConnState.Connected && s.pdsk > DiskState.Outdated;
}

function primaryWithoutData(s: StateFields): boolean {
  return s.role === Role.Primary && s.disk < DiskState.UpToDate && s.pdsk < DiskState.UpToDate;
}

/**
 * Completes a wanted state by what follows from it: a lost connection makes the peer unknown, a failed disk ends the
 * resync, a connection state limits the disk states. Applied to every transition, also forced ones.
 * @see DRBD 8.4 drbd_state.c sanitize_state
 */
export function sanitizeState(old: StateFields, wanted: StateFields, context: StateContext): SanitizedState {
  const s: Mutable<StateFields> = { ...wanted };
  const warnings: SanitizeWarning[] = [];

  if (s.conn < ConnState.Connected) {
    s.peerIsp = false;
    s.peer = Role.Unknown;
    if (s.pdsk !== DiskState.Inconsistent && s.pdsk !== DiskState.Outdated) s.pdsk = DiskState.DUnknown;
  }
  if (s.conn === ConnState.StandAlone && s.disk === DiskState.Diskless && s.role === Role.Secondary) s.aftrIsp = false;

  if (s.conn > ConnState.Connected && (s.disk <= DiskState.Failed || s.pdsk <= DiskState.Failed)) {
    warnings.push(isVerify(old.conn) ? "aborted-online-verify" : "aborted-resync");
    s.conn = ConnState.Connected;
  }

  if (s.conn < ConnState.Connected && s.disk === DiskState.Negotiating) {
    if (context.negotiated === undefined) {
      warnings.push("connection-lost-negotiating");
      s.disk = DiskState.Diskless;
      s.pdsk = DiskState.DUnknown;
    } else {
      s.disk = context.negotiated.disk;
      s.pdsk = context.negotiated.pdsk;
    }
  }

  if (s.conn >= ConnState.Connected && s.conn < ConnState.Ahead) {
    if (s.disk === DiskState.Consistent || s.disk === DiskState.Outdated) s.disk = DiskState.UpToDate;
    if (s.pdsk === DiskState.Consistent || s.pdsk === DiskState.Outdated) s.pdsk = DiskState.UpToDate;
  }

  const range = DISK_RANGES[s.conn] ?? NOT_CONNECTED;
  if (s.disk > range.disk[1]) s.disk = range.disk[1];
  if (s.disk < range.disk[0]) {
    warnings.push("implicitly-upgraded-disk");
    s.disk = range.disk[0];
  }
  if (s.pdsk > range.pdsk[1]) s.pdsk = range.pdsk[1];
  if (s.pdsk < range.pdsk[0]) {
    warnings.push("implicitly-upgraded-pdsk");
    s.pdsk = range.pdsk[0];
  }

  if (context.fencing === "resource-and-stonith" && primaryLostPeer(s) && !primaryLostPeer(old)) s.suspFen = true;
  if (context.onNoData === "suspend-io" && primaryWithoutData(s) && !primaryWithoutData(old)) s.suspNod = true;

  if (s.aftrIsp || s.peerIsp || s.userIsp) {
    if (s.conn === ConnState.SyncSource) s.conn = ConnState.PausedSyncS;
    if (s.conn === ConnState.SyncTarget) s.conn = ConnState.PausedSyncT;
  } else {
    if (s.conn === ConnState.PausedSyncS) s.conn = ConnState.SyncSource;
    if (s.conn === ConnState.PausedSyncT) s.conn = ConnState.SyncTarget;
  }
  return { state: s, warnings };
}

/**
 * Whether a state may be *requested*. Events (a lost link, a failed disk) lead to such states all the same.
 * @returns `StateRc.Success` or the refusal; where several apply, the one that DRBD reports
 * @see DRBD 8.4 drbd_state.c is_valid_state
 */
export function checkState(s: StateFields, context: StateContext): StateRc {
  const primary = s.role === Role.Primary;
  const { conn, disk, pdsk } = s;
  const above = conn > ConnState.Connected;
  const below = conn < ConnState.Connected;

  if (primary && context.hasNetConfig && !context.allowTwoPrimaries) {
    if (s.peer === Role.Primary) return StateRc.TwoPrimaries;
    if (context.otherVolumePeerPrimary) return StateRc.OtherVolumePeerPrimary;
  }
  if (s.role === Role.Secondary && context.deviceOpen) return StateRc.DeviceInUse;
  if (primary && below && disk < DiskState.UpToDate) return StateRc.NoUpToDateDisk;
  if (context.fencing !== "dont-care" && primary && below && pdsk >= DiskState.DUnknown) return StateRc.PrimaryNop;
  if (primary && disk <= DiskState.Inconsistent && pdsk <= DiskState.Inconsistent) return StateRc.NoUpToDateDisk;
  if (above && disk < DiskState.Inconsistent) return StateRc.NoLocalDisk;
  if (above && pdsk < DiskState.Inconsistent) return StateRc.NoRemoteDisk;
  if (above && disk < DiskState.UpToDate && pdsk < DiskState.UpToDate) return StateRc.NoUpToDateDisk;
  if (disk === DiskState.Outdated && CANNOT_BE_OUTDATED.has(conn)) return StateRc.ConnectedOutdates;
  if (isVerify(conn) && !context.hasVerifyAlg) return StateRc.NoVerifyAlg;
  if (isVerify(conn) && context.protocolVersion < 88) return StateRc.NotSupported;
  if (primary && disk < DiskState.UpToDate && pdsk < DiskState.UpToDate) return StateRc.NoUpToDateDisk;
  if (isStartingSync(conn) && pdsk === DiskState.DUnknown) return StateRc.NeedConnection;
  if (conn >= ConnState.Connected && pdsk === DiskState.DUnknown) return StateRc.ConnectedOutdates;
  return StateRc.Success;
}

const CANNOT_BE_OUTDATED: ReadonlySet<ConnState> = new Set<ConnState>([
  ConnState.Connected,
  ConnState.WFBitMapS,
  ConnState.SyncSource,
  ConnState.PausedSyncS,
]);

/**
 * Whether a *requested* step is allowed from where we are. Both states are sanitized.
 * Where several refusals apply, the last rule wins, as in DRBD.
 * @see DRBD 8.4 drbd_state.c is_valid_soft_transition
 */
export function checkTransition(old: StateFields, s: StateFields, context: StateContext): StateRc {
  const C = ConnState;
  let rc: StateRc = StateRc.Success;
  if (isStartingSync(s.conn) && old.conn > C.Connected) rc = StateRc.ResyncRunning;
  if (s.conn === C.Disconnecting && old.conn === C.StandAlone) rc = StateRc.AlreadyStandAlone;
  if (s.disk > D.Attaching && old.disk === D.Diskless) rc = StateRc.IsDiskless;
  if (s.conn === C.WFConnection && old.conn < C.Unconnected) rc = StateRc.NoNetConfig;
  if (s.disk === D.Outdated && old.disk < D.Outdated && old.disk !== D.Attaching) rc = StateRc.LowerThanOutdated;
  if (s.conn === C.Disconnecting && old.conn === C.Unconnected) rc = StateRc.InTransientState;
  const connects =
    (s.conn === C.WFReportParams && old.conn === C.WFConnection) ||
    (s.conn >= C.Connected && old.conn === C.WFReportParams);
  if (context.handshaking && !connects) rc = StateRc.InTransientState;
  // the resync handshake that a forced promotion of the peer started is not over
  const promotes = old.role !== Role.Primary && s.role === Role.Primary;
  const behindPeer = s.pdsk === D.UpToDate && s.disk !== D.UpToDate && s.disk !== D.Diskless;
  if (promotes && behindPeer && (s.conn <= C.WFSyncUUID || s.conn !== old.conn)) rc = StateRc.InTransientState;
  if (isVerify(s.conn) && old.conn < C.Connected) rc = StateRc.NeedConnection;
  if (isVerify(s.conn) && s.conn !== old.conn && old.conn > C.Connected) rc = StateRc.ResyncRunning;
  if (isStartingSync(s.conn) && old.conn < C.Connected) rc = StateRc.NeedConnection;
  const syncs = s.conn === C.SyncSource || s.conn === C.SyncTarget;
  if (syncs && old.conn < C.WFReportParams) rc = StateRc.NeedConnection;
  if (s.conn === C.Disconnecting && s.pdsk === D.Outdated && old.conn < C.Connected && old.pdsk > D.Outdated) {
    rc = StateRc.OutdateWithoutConnection;
  }
  return rc;
}

/**
 * Steps that are impossible for events, too: an error state of the connection is only left towards Unconnected.
 * @see DRBD 8.4 drbd_state.c is_valid_transition
 */
export function checkHardTransition(old: StateFields, s: StateFields): StateRc {
  if (s.disk === DiskState.Failed && old.disk === DiskState.Diskless) return StateRc.IsDiskless;
  const [from, to] = [old.conn, s.conn];
  const C = ConnState;
  if (from === to) return StateRc.Success;
  if (from === C.StandAlone && to === C.Disconnecting) return StateRc.AlreadyStandAlone;
  if (from === C.StandAlone && to !== C.Unconnected) return StateRc.NeedConnection;
  if (from < C.WFReportParams && to >= C.Connected) return StateRc.NeedConnection;
  if (from >= C.Timeout && from <= C.TearDown && to !== C.Unconnected && to !== C.Disconnecting) {
    return StateRc.InTransientState;
  }
  if (from === C.Disconnecting && to !== C.StandAlone) return StateRc.InTransientState;
  return StateRc.Success;
}

export interface StateChange {
  /** `Success`, `NothingToDo`, or the refusal. */
  readonly rc: StateRc;
  /** The sanitized new state; the old one when refused. */
  readonly state: StateFields;
  /** What was wanted, completed; for the log of a refusal. */
  readonly wanted: StateFields;
  readonly warnings: readonly SanitizeWarning[];
}

/**
 * The whole judgement of a change: sanitize, then hard rules, then (unless `hard`) permissions.
 * A state that was refused before it began (the old one breaks the same rule) only has to be a legal step.
 * @param hard the change is an event that has happened, not a wish
 */
export function changeState(
  old: StateFields,
  wanted: StateFields,
  context: StateContext,
  hard: boolean = false,
): StateChange {
  const { state, warnings } = sanitizeState(old, wanted, context);
  if (packState(state) === packState(old)) return { rc: StateRc.NothingToDo, state: old, wanted: state, warnings };
  let rc = checkHardTransition(old, state);
  if (rc === StateRc.Success && !hard) {
    rc = checkState(state, context);
    if (rc === StateRc.Success || checkState(old, context) === rc) rc = checkTransition(old, state, context);
  }
  return { rc, state: rc === StateRc.Success ? state : old, wanted: state, warnings };
}

/** A state with the masked fields of a request put in. */
export function applyRequest(old: StateFields, mask: number, value: number): StateFields {
  return unpackState((packState(old) & ~mask) | (value & mask));
}

/**
 * Whether a connected peer must agree first; all other changes are applied and then announced by P_STATE.
 * @see DRBD 8.4 drbd_state.c cl_wide_st_chg
 */
export function needsPeerConsent(old: StateFields, s: StateFields): boolean {
  const C = ConnState;
  if (old.conn < C.Connected) return false;
  if (s.conn === C.Disconnecting) return true;
  if (old.conn === C.Connected && (s.conn === C.VerifyS || s.conn === C.WFReportParams)) return true;
  if (s.conn < C.Connected) return false;
  return (
    (old.role !== Role.Primary && s.role === Role.Primary) ||
    (isStartingSync(s.conn) && old.conn !== s.conn) ||
    (old.disk !== DiskState.Failed && s.disk === DiskState.Failed)
  );
}

export interface StateRequest {
  readonly mask: number;
  readonly value: number;
}

const CONN_OF_PEER: ReadonlyMap<number, number> = new Map<number, number>([
  [ConnState.WFReportParams, ConnState.WFReportParams],
  [ConnState.Connected, ConnState.Connected],
  [ConnState.StartingSyncS, ConnState.StartingSyncT],
  [ConnState.StartingSyncT, ConnState.StartingSyncS],
  [ConnState.Disconnecting, ConnState.TearDown],
  [ConnState.VerifyS, ConnState.VerifyT],
]);

/**
 * A peer's state change request from our point of view: what it calls its role is our `peer`, its disk our `pdsk`.
 * @returns undefined for a connection state that has no meaning in a request; refuse with `NotSupported`
 * @see DRBD 8.4 drbd_receiver.c convert_state
 */
export function convertPeerRequest(mask: number, value: number): StateRequest | undefined {
  let conn = 0;
  if ((mask & StateMask.conn) !== 0) {
    const mine = CONN_OF_PEER.get((value & StateMask.conn) >>> 4);
    if (mine === undefined) return undefined;
    conn = mine << 4;
  }
  return { mask: swapSides(mask) | (mask & StateMask.conn), value: swapSides(value & mask) | conn };
}

/** Swaps role and peer, disk and pdsk; the peer's pause flags become `peerIsp`. */
function swapSides(word: number): number {
  const role = (word & StateMask.role) << 2;
  const peer = (word & StateMask.peer) >>> 2;
  const disk = (word & StateMask.disk) << 4;
  const pdsk = (word & StateMask.pdsk) >>> 4;
  const paused = (word & (StateMask.aftrIsp | StateMask.userIsp)) === 0 ? 0 : StateMask.peerIsp;
  return role | peer | disk | pdsk | paused;
}

/** What a P_STATE of the peer says about our view of it, before sanitizing. */
export interface PeerReport {
  /** Our state with `peer`, `pdsk`, `peerIsp` (and Behind) taken over; `conn` is Connected after the handshake. */
  readonly wanted: StateFields;
  /** The comparison of UUIDs must decide `conn`. */
  readonly considerResync: boolean;
  /** The peer finished the resync or verify that still runs here; finish it instead of applying `wanted`. */
  readonly finished: "resync" | "verify" | undefined;
}

/**
 * Reads the peer's state word.
 * @param peerDisk its disk with Negotiating mapped (`mapPeerNegotiating`)
 * @param peerUuidsKnown its P_UUIDS has arrived on this connection
 * @param forcedPeer both were Inconsistent and the peer has just been forced to UpToDate
 * @see DRBD 8.4 drbd_receiver.c receive_state
 */
export function readPeerState(
  old: StateFields,
  peer: StateFields,
  peerDisk: DiskState,
  peerUuidsKnown: boolean,
  forcedPeer: boolean,
): PeerReport {
  const C = ConnState;
  let pdsk = peerDisk;
  let finished: PeerReport["finished"];
  const wasBehind = old.pdsk === D.Inconsistent || old.pdsk === D.Consistent;
  if (wasBehind && pdsk === D.UpToDate && old.conn > C.Connected && old.disk === D.UpToDate) {
    if (peer.conn > C.Connected && peer.conn < C.SyncSource)
      pdsk = D.Inconsistent; // it only prepares to sync
    else if (old.conn >= C.SyncSource && peer.conn === C.Connected) finished = "resync";
  }
  if (old.conn === C.VerifyT && old.disk === D.UpToDate && peer.conn === C.Connected && pdsk === D.UpToDate) {
    finished = "verify";
  }
  // it has not noticed yet that the resync is over
  const late = old.conn === C.Connected && peer.conn > C.SyncSource;
  if (old.pdsk === D.UpToDate && pdsk === D.Inconsistent && late) pdsk = D.UpToDate;

  let conn: ConnState = old.conn === C.WFReportParams ? C.Connected : old.conn;
  if (peer.conn === C.Ahead) conn = C.Behind;

  const comparable = peerUuidsKnown && peer.disk >= D.Negotiating && old.disk >= D.Negotiating;
  const lateAttach = old.conn === C.Connected && (peer.disk === D.Negotiating || old.disk === D.Negotiating);
  const invalidated = old.conn === C.Connected && peer.conn >= C.StartingSyncS && peer.conn <= C.WFBitMapT;
  return {
    wanted: { ...old, conn, peer: peer.role, pdsk, peerIsp: peer.aftrIsp || peer.userIsp },
    considerResync: comparable && (old.conn < C.Connected || lateAttach || forcedPeer || invalidated),
    finished,
  };
}

/** Why a change was refused, with both states, for the log: as DRBD's kernel prints it. */
export function explainRefusal(rc: number, old: StateFields, wanted: StateFields): string[] {
  return [
    `State change failed: ${stateRcText(rc)}`,
    `  state = { ${formatState(old)} }`,
    ` wanted = { ${formatState(wanted)} }`,
  ];
}
