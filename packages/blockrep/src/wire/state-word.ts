/**
 * The state of a volume as one 32-bit word, the form in which P_STATE and the state change requests carry it.
 *
 * ```text
 *  31     23 22  21  20   19   18   17 16  13 12   9 8    4 3  2 1  0
 * +---------+---+---+----+----+----+--+------+------+------+----+----+
 * |    0    |fen|nod|user|peer|aftr|su| pdsk | disk | conn |peer|role|
 * +---------+---+---+----+----+----+--+------+------+------+----+----+
 * ```
 *
 * @see DRBD 8.4 drbd.h, union drbd_state
 */

/** Role of a node. `Unknown` only for a peer that is not connected. */
export const Role = { Unknown: 0, Primary: 1, Secondary: 2 } as const;
export type Role = (typeof Role)[keyof typeof Role];

/** State of the connection; the order matters, rules compare with `<`. */
export const ConnState = {
  StandAlone: 0,
  Disconnecting: 1,
  Unconnected: 2,
  Timeout: 3,
  BrokenPipe: 4,
  NetworkFailure: 5,
  ProtocolError: 6,
  TearDown: 7,
  WFConnection: 8,
  WFReportParams: 9,
  Connected: 10,
  StartingSyncS: 11,
  StartingSyncT: 12,
  WFBitMapS: 13,
  WFBitMapT: 14,
  WFSyncUUID: 15,
  SyncSource: 16,
  SyncTarget: 17,
  VerifyS: 18,
  VerifyT: 19,
  PausedSyncS: 20,
  PausedSyncT: 21,
  Ahead: 22,
  Behind: 23,
} as const;
export type ConnState = (typeof ConnState)[keyof typeof ConnState];

/** State of a disk; the order matters, rules compare with `<`. `DUnknown` only for the peer's disk. */
export const DiskState = {
  Diskless: 0,
  Attaching: 1,
  Failed: 2,
  Negotiating: 3,
  Inconsistent: 4,
  Outdated: 5,
  DUnknown: 6,
  Consistent: 7,
  UpToDate: 8,
} as const;
export type DiskState = (typeof DiskState)[keyof typeof DiskState];

/** The fields of a state word. `conn`, `disk` and the like may hold values outside their lists in a mask only. */
export interface StateFields {
  readonly role: Role;
  /** Role of the peer. */
  readonly peer: Role;
  readonly conn: ConnState;
  readonly disk: DiskState;
  /** Disk of the peer. */
  readonly pdsk: DiskState;
  /** I/O suspended by the administrator. */
  readonly susp: boolean;
  /** Resync paused here, because one it depends on has not finished. */
  readonly aftrIsp: boolean;
  /** Resync paused by the peer. */
  readonly peerIsp: boolean;
  /** Resync paused by the administrator of this node. */
  readonly userIsp: boolean;
  /** I/O suspended: no data accessible. */
  readonly suspNod: boolean;
  /** I/O suspended: the fence-peer handler runs. */
  readonly suspFen: boolean;
}

export const STATE_SHIFT_PEER = 2;
export const STATE_SHIFT_CONN = 4;
export const STATE_SHIFT_DISK = 9;
export const STATE_SHIFT_PDSK = 13;

/** Masks of the fields, as a state change request uses them. */
export const StateMask = {
  role: 0x3,
  peer: 0xc,
  conn: 0x1f0,
  disk: 0x1e00,
  pdsk: 0x1e000,
  susp: 0x2_0000,
  aftrIsp: 0x4_0000,
  peerIsp: 0x8_0000,
  userIsp: 0x10_0000,
  suspNod: 0x20_0000,
  suspFen: 0x40_0000,
} as const;

const ROLE_NAMES: readonly string[] = Object.keys(Role);
const CONN_NAMES: readonly string[] = Object.keys(ConnState);
const DISK_NAMES: readonly string[] = Object.keys(DiskState);

/** The name as DRBD prints it, e.g. `Secondary`; a number outside the list gives `Role(3)`. */
export function roleName(role: number): string {
  return ROLE_NAMES[role] ?? `Role(${role})`;
}

/** The name as DRBD prints it, e.g. `WFBitMapS`. */
export function connName(conn: number): string {
  return CONN_NAMES[conn] ?? `Conn(${conn})`;
}

/** The name as DRBD prints it, e.g. `UpToDate`. */
export function diskName(disk: number): string {
  return DISK_NAMES[disk] ?? `Disk(${disk})`;
}

/** Fields to word, 0..2^23-1. */
export function packState(s: StateFields): number {
  return (
    s.role |
    (s.peer << STATE_SHIFT_PEER) |
    (s.conn << STATE_SHIFT_CONN) |
    (s.disk << STATE_SHIFT_DISK) |
    (s.pdsk << STATE_SHIFT_PDSK) |
    (s.susp ? StateMask.susp : 0) |
    (s.aftrIsp ? StateMask.aftrIsp : 0) |
    (s.peerIsp ? StateMask.peerIsp : 0) |
    (s.userIsp ? StateMask.userIsp : 0) |
    (s.suspNod ? StateMask.suspNod : 0) |
    (s.suspFen ? StateMask.suspFen : 0)
  );
}

/** Word to fields. Does not judge the values: `isKnownState` does. */
export function unpackState(word: number): StateFields {
  return {
    role: (word & 0x3) as Role,
    peer: ((word >>> STATE_SHIFT_PEER) & 0x3) as Role,
    conn: ((word >>> STATE_SHIFT_CONN) & 0x1f) as ConnState,
    disk: ((word >>> STATE_SHIFT_DISK) & 0xf) as DiskState,
    pdsk: ((word >>> STATE_SHIFT_PDSK) & 0xf) as DiskState,
    susp: (word & StateMask.susp) !== 0,
    aftrIsp: (word & StateMask.aftrIsp) !== 0,
    peerIsp: (word & StateMask.peerIsp) !== 0,
    userIsp: (word & StateMask.userIsp) !== 0,
    suspNod: (word & StateMask.suspNod) !== 0,
    suspFen: (word & StateMask.suspFen) !== 0,
  };
}

/** Whether every field of a received word holds a value of its list; a word of which this is false must be refused. */
export function isKnownState(s: StateFields): boolean {
  return (
    s.role < ROLE_NAMES.length &&
    s.peer < ROLE_NAMES.length &&
    s.conn < CONN_NAMES.length &&
    s.disk < DISK_NAMES.length &&
    s.pdsk < DISK_NAMES.length
  );
}

/** `cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate`, as in DRBD's kernel messages. */
export function formatState(s: StateFields): string {
  return `cs:${connName(s.conn)} ro:${roleName(s.role)}/${roleName(s.peer)} ds:${diskName(s.disk)}/${diskName(s.pdsk)}`;
}

/** Mask and value of a requested change, both as the sender sees the state. */
export interface StateChange {
  readonly mask: number;
  readonly value: number;
}

/** The change that sets exactly the given fields: `packStateChange({ role: Role.Primary })` is mask 3, value 1. */
export function packStateChange(fields: Partial<StateFields>): StateChange {
  let mask = 0;
  for (const name of Object.keys(fields) as (keyof StateFields)[]) {
    if (fields[name] !== undefined) mask |= StateMask[name];
  }
  return { mask, value: packState({ ...unpackState(0), ...fields }) };
}

/** The word after a change: masked bits from `value`, all others kept. Does not judge the result. */
export function applyStateChange(word: number, change: StateChange): number {
  return ((word & ~change.mask) | (change.value & change.mask)) >>> 0;
}
