import { runSeed as runBlockrepSeed } from "./blockrep/run.ts";
import { runSeed as runHeartbeatSeed } from "./heartbeat/run.ts";

interface SeedResult {
  readonly events: number;
  readonly violations: readonly string[];
  readonly traceHash: string;
  readonly covered?: ReadonlyMap<string, number>;
}

type Simulator = (seed: number, options: { readonly trace?: (line: string) => void }) => SeedResult;

/** Each simulator runs each seed. */
export const SIMULATORS: Readonly<Record<string, Simulator>> = {
  blockrep: runBlockrepSeed,
  heartbeat: runHeartbeatSeed,
};

const SEED_MAX = 4_000_000_000;

interface Arguments {
  seeds: number;
  from: number;
  trace: boolean;
  coverage: boolean;
  only: string | undefined;
}

function parse(args: readonly string[]): Arguments {
  const out: Arguments = { seeds: 100, from: 0, trace: false, coverage: false, only: undefined };
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as string;
    if (arg === "--trace") out.trace = true;
    else if (arg === "--coverage") out.coverage = true;
    else if (arg === "--only") out.only = args[++i];
    else if (arg === "--seeds" || arg === "--from" || arg === "--seed") {
      const value = Number(args[++i]);
      if (!Number.isSafeInteger(value) || value < 0 || value > SEED_MAX)
        throw new Error(`${arg} wants a whole number 0..${SEED_MAX}`);
      if (arg === "--seeds") out.seeds = value;
      else out.from = value;
      if (arg === "--seed") out.seeds = 1;
    } else
      throw new Error(
        `unknown argument ${arg}; known: --seeds N, --from S, --seed X, --trace, --coverage, --only NAME`,
      );
  }
  if (out.only !== undefined && SIMULATORS[out.only] === undefined)
    throw new Error(`no simulator ${out.only}; known: ${Object.keys(SIMULATORS).join(", ")}`);
  return out;
}

/** Run seeds through every simulator; prints what fails with the command that replays it, and a summary line last. */
export function main(args: readonly string[]): number {
  const wanted = parse(args);
  let events = 0;
  let violations = 0;
  const covered = new Map<string, number>();
  for (const [name, run] of Object.entries(SIMULATORS)) {
    if (wanted.only !== undefined && wanted.only !== name) continue;
    for (let seed = wanted.from; seed < wanted.from + wanted.seeds; seed++) {
      const result = run(seed, wanted.trace ? { trace: (line) => console.log(line) } : {});
      events += result.events;
      violations += result.violations.length;
      for (const [what, times] of result.covered ?? []) covered.set(what, (covered.get(what) ?? 0) + times);
      if (result.violations.length === 0) continue;
      for (const line of result.violations) console.log(`${name} seed ${seed}: ${line}`);
      console.log(`replay: npm run sim -- --only ${name} --seed ${seed} --trace`);
    }
  }
  if (wanted.coverage) for (const what of [...covered.keys()].sort()) console.log(`${covered.get(what)} × ${what}`);
  console.log(`sim: seeds=${wanted.seeds} events=${events} violations=${violations}`);
  return violations === 0 ? 0 : 1;
}
