/** Exit codes of every command; status commands add those of the program they stand for. */
export const ExitCode = {
  done: 0,
  failed: 1,
  usage: 2,
  /** drbdsetup: configuration error ("Failure: (code) text"). */
  drbdConfiguration: 10,
  /** drbdsetup: state change refused ("State change failed: (-n) text"). */
  stateRefused: 11,
  /** drbdsetup: no local disk. */
  noLocalDisk: 16,
  /** drbdsetup: needs access to UpToDate data. */
  needUpToDate: 17,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];
