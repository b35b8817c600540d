/** Exit codes of every command; status commands add those of the program they stand for. */
export const ExitCode = {
  done: 0,
  failed: 1,
  usage: 2,
  /** drbdsetup wait-connect: the time is over. */
  timedOut: 5,
  /** drbdsetup and drbdmeta outdate: the disk is inconsistent already. */
  lowerThanOutdated: 5,
  /** drbdsetup: configuration error ("Failure: (code) text"). */
  drbdConfiguration: 10,
  /** drbdsetup: state change refused ("State change failed: (-n) text"). */
  stateRefused: 11,
  /** drbdsetup: no local disk. */
  noLocalDisk: 16,
  /** drbdsetup: needs access to UpToDate data. */
  needUpToDate: 17,
  /** drbdmeta: the volume is attached, so its metadata are in use. */
  inUse: 20,
  /** drbdsetup wait-connect: the resource is not there. */
  unusable: 20,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** The exit code that a number of DRBD's stands for: a refused state change (below 0) or a failure (100 and above). */
export function exitCodeForDrbd(code: number): ExitCode {
  if (code >= 100) return ExitCode.drbdConfiguration;
  if (code === -2) return ExitCode.needUpToDate;
  if (code === -4) return ExitCode.noLocalDisk;
  if (code === -16) return ExitCode.lowerThanOutdated;
  return ExitCode.stateRefused;
}
