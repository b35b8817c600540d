import { parseArgs } from "node:util";
import { WORKLOADS } from "./workloads.ts";

export interface BenchOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly seconds: number;
  readonly sizeMib: number;
  readonly only: readonly string[];
  readonly peers: readonly string[];
  readonly work: string;
  readonly profile: string | undefined;
  readonly plot: string | undefined;
  readonly resync: boolean;
  readonly label: string;
  readonly save: boolean;
  readonly help: boolean;
}

export class UsageError extends Error {}

export const USAGE = `usage: npm run bench -- [OPTION]...
Measures a replicated pair and its peers over NBD on this machine, side by side. Needs no root.
  --quick            2 rounds of 0.7 s, no warm-up round, no wide working set: 3 minutes at most
  --rounds N         rounds that count (5); one more comes first and is thrown away
  --seconds S        seconds of each run (2)
  --only A,B         these workloads only: ${WORKLOADS.map((w) => w.name).join(", ")}, resync
  --peers A,B        these peers only: nbdkit, mirror, quorum, single
  --size-mib N       device size (256); it has to fit the page cache several times
  --work DIR         folder for backing files and sockets (a fresh one in the temporary folder)
  --profile DIR      write CPU profiles of both sides and of the unreplicated server into DIR
  --plot FILE        measure against queue depth and block size instead, and draw FILE (SVG)
  --label TEXT       kept with the results
  --no-save          write no bench/results/*.json
  --help`;

export function parseOptions(args: readonly string[]): BenchOptions {
  let values: Record<string, string | boolean | undefined>;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        quick: { type: "boolean" },
        rounds: { type: "string" },
        seconds: { type: "string" },
        only: { type: "string" },
        peers: { type: "string" },
        "size-mib": { type: "string" },
        work: { type: "string" },
        profile: { type: "string" },
        plot: { type: "string" },
        label: { type: "string" },
        "no-save": { type: "boolean" },
        help: { type: "boolean" },
      },
    }));
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  const text = (name: string): string | undefined => values[name] as string | undefined;
  const number = (name: string, fallback: number): number => {
    const value = Number(text(name) ?? fallback);
    if (!(value > 0)) throw new UsageError(`--${name} takes a number above 0, not "${text(name)}"`);
    return value;
  };
  const quick = values["quick"] === true;
  const only = (text("only") ?? "").split(",").filter((name) => name !== "");
  for (const name of only) {
    if (name !== "resync" && !WORKLOADS.some((w) => w.name === name)) {
      throw new UsageError(`there is no workload "${name}"`);
    }
  }
  return {
    quick,
    rounds: Math.round(number("rounds", quick ? 2 : 5)),
    seconds: number("seconds", quick ? 0.7 : 2),
    sizeMib: Math.round(number("size-mib", 256)),
    only,
    peers: (text("peers") ?? "").split(",").filter((name) => name !== ""),
    work: text("work") ?? "",
    profile: text("profile"),
    plot: text("plot"),
    resync: only.length === 0 || only.includes("resync"),
    label: text("label") ?? "",
    save: values["no-save"] !== true,
    help: values["help"] === true,
  };
}
