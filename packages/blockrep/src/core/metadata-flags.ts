import { MdFlag } from "../meta/superblock.ts";
import { ConnState, DiskState, Role, type StateFields } from "../wire/state-word.ts";

const FROM_STATE: number =
  MdFlag.consistent |
  MdFlag.primaryIndicator |
  MdFlag.connectedIndicator |
  MdFlag.wasUpToDate |
  MdFlag.peerOutdated |
  MdFlag.crashedPrimary;

/**
 * The superblock's flags that follow from the state of a volume whose disk is Inconsistent or better; below that the
 * flags on disk stay as they are, because they still describe the data there.
 * @see DRBD 8.4 drbd_state.c
 */
export function metadataFlags(flags: number, s: StateFields, crashedPrimary: boolean): number {
  let out = flags & ~(FROM_STATE | MdFlag.alClean);
  if (s.disk > DiskState.Inconsistent) out |= MdFlag.consistent;
  if (s.disk > DiskState.Outdated) out |= MdFlag.wasUpToDate;
  // writes of a Primary whose disk does not take part, or not yet: this node keeps the record of them
  const recordsHere = s.pdsk < DiskState.Inconsistent || s.conn === ConnState.WFBitMapS;
  const writesFromPeer = recordsHere && s.peer === Role.Primary;
  if (s.role === Role.Primary || writesFromPeer) out |= MdFlag.primaryIndicator;
  if (s.conn > ConnState.WFReportParams) out |= MdFlag.connectedIndicator;
  if (s.pdsk >= DiskState.Inconsistent && s.pdsk <= DiskState.Outdated) out |= MdFlag.peerOutdated;
  if (crashedPrimary) out |= MdFlag.crashedPrimary;
  return out;
}

/** What the metadata alone says about the two disks at attach. */
export function disksFromFlags(flags: number, fencing: string): { readonly disk: DiskState; readonly pdsk: DiskState } {
  const peerOutdated = (flags & MdFlag.peerOutdated) !== 0;
  let disk: DiskState = DiskState.Consistent;
  if ((flags & MdFlag.consistent) === 0) disk = DiskState.Inconsistent;
  else if ((flags & MdFlag.wasUpToDate) === 0) disk = DiskState.Outdated;
  else if (peerOutdated || fencing === "dont-care") disk = DiskState.UpToDate;
  return { disk, pdsk: peerOutdated ? DiskState.Outdated : DiskState.DUnknown };
}
