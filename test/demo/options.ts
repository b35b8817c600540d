/** How the demo runs, from its command line. */
export interface DemoOptions {
  /** The user's files byte for byte, with their own timing. */
  readonly classic: boolean;
  /** Leave the cluster up at the end. */
  readonly keep: boolean;
  /** Power losses in a row; more than one: each at a random moment. */
  readonly runs: number;
  readonly json: boolean;
  readonly help: boolean;
  /** Take away what --keep left, and end. */
  readonly remove: boolean;
}

export const USAGE = `npm run demo [-- OPTIONS]   two nodes, one replicated disk, a power loss, a takeover, a return (as root, on Debian)
  --classic    the user's files byte for byte: deadtime 30, initdead 120 (some minutes)
  --runs N     N power losses, each at a random moment; a line per run, then the maxima
  --keep       leave the cluster up and say how to enter each node
  --remove     take away what --keep left
  --json       events as JSON lines; the last line is the same
Files: examples/file-server/etc. Nothing outside the nodes changes but Debian packages, which are listed before they are installed.`;

export class UsageError extends Error {}

export function parseOptions(args: readonly string[]): DemoOptions {
  const flags = new Map<string, boolean>(
    ["--classic", "--keep", "--json", "--help", "--remove"].map((flag) => [flag, false]),
  );
  let runs = 1;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (arg === "--runs" || arg.startsWith("--runs=")) {
      const value = arg === "--runs" ? (args[++i] ?? "") : arg.slice("--runs=".length);
      runs = /^\d+$/.test(value) ? Number(value) : 0;
      if (runs < 1 || runs > 1000) throw new UsageError(`--runs: "${value}" is no number from 1 to 1000`);
    } else if (flags.has(arg)) flags.set(arg, true);
    else throw new UsageError(`unknown option "${arg}"`);
  }
  const flag = (name: string): boolean => flags.get(name) === true;
  return {
    classic: flag("--classic"),
    keep: flag("--keep"),
    runs,
    json: flag("--json"),
    help: flag("--help"),
    remove: flag("--remove"),
  };
}

/** Time limits and paces that depend on the timing of the configuration; all in milliseconds. */
export interface Pace {
  /** Start of both nodes to the first page: at most initdead and the scripts. */
  readonly startLimitMs: number;
  /** Power loss to the page from the other node: deadtime, promotion, scripts. */
  readonly takeoverLimitMs: number;
  /** Power on to the page from home: start, reconnect, resync, failback. */
  readonly returnLimitMs: number;
  readonly commandLimitMs: number;
  readonly firstSyncLimitMs: number;
}

export function paceOf(options: DemoOptions): Pace {
  return options.classic
    ? {
        startLimitMs: 240_000,
        takeoverLimitMs: 150_000,
        returnLimitMs: 360_000,
        commandLimitMs: 300_000,
        firstSyncLimitMs: 120_000,
      }
    : {
        startLimitMs: 45_000,
        takeoverLimitMs: 30_000,
        returnLimitMs: 60_000,
        commandLimitMs: 45_000,
        firstSyncLimitMs: 60_000,
      };
}
