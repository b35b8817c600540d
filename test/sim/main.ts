import { once } from "node:events";
import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
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

/** What some seeds of one simulator gave. */
interface Share {
  readonly events: number;
  readonly violations: number;
  readonly lines: readonly string[];
  readonly covered: ReadonlyMap<string, number>;
}

function runShare(name: string, seeds: readonly number[], trace: boolean): Share {
  const run = SIMULATORS[name] as Simulator;
  const lines: string[] = [];
  const covered = new Map<string, number>();
  let events = 0;
  let violations = 0;
  for (const seed of seeds) {
    const result = run(seed, trace ? { trace: (line) => console.log(line) } : {});
    events += result.events;
    violations += result.violations.length;
    for (const [what, times] of result.covered ?? []) covered.set(what, (covered.get(what) ?? 0) + times);
    if (result.violations.length === 0) continue;
    for (const line of result.violations) lines.push(`${name} seed ${seed}: ${line}`);
    lines.push(`replay: npm run sim -- --only ${name} --seed ${seed} --trace`);
  }
  return { events, violations, lines, covered };
}

/** Seeds that one thread takes at a time: enough to be worth a message, few enough that the threads end together. */
const SHARE_SEEDS = 10;
const THREADS_MAX = 8;

/** All shares, side by side where there are cores for it, in the order in which they were asked for. */
async function runShares(shares: readonly (readonly [string, readonly number[]])[]): Promise<Share[]> {
  const results: Share[] = [];
  let next = 0;
  const thread = async (): Promise<void> => {
    const worker = new Worker(new URL(import.meta.url));
    for (let mine = next++; mine < shares.length; mine = next++) {
      const answer = once(worker, "message");
      worker.postMessage(shares[mine]);
      results[mine] = ((await answer) as [Share])[0];
    }
    await worker.terminate();
  };
  const threads = Math.min(availableParallelism(), THREADS_MAX, shares.length);
  await Promise.all(Array.from({ length: threads }, thread));
  return results;
}

if (!isMainThread) {
  parentPort?.on("message", ([name, seeds]: [string, readonly number[]]) => {
    parentPort?.postMessage(runShare(name, seeds, false));
  });
}

/** Run seeds through every simulator; prints what fails with the command that replays it, and a summary line last. */
export async function main(args: readonly string[]): Promise<number> {
  const wanted = parse(args);
  const shares: [string, number[]][] = [];
  for (const name of Object.keys(SIMULATORS)) {
    if (wanted.only !== undefined && wanted.only !== name) continue;
    for (let from = wanted.from; from < wanted.from + wanted.seeds; from += SHARE_SEEDS) {
      const count = Math.min(SHARE_SEEDS, wanted.from + wanted.seeds - from);
      shares.push([name, Array.from({ length: count }, (_, i) => from + i)]);
    }
  }
  const alone = wanted.trace || shares.length <= 2;
  const results = alone ? shares.map(([name, seeds]) => runShare(name, seeds, wanted.trace)) : await runShares(shares);
  let events = 0;
  let violations = 0;
  const covered = new Map<string, number>();
  for (const share of results) {
    events += share.events;
    violations += share.violations;
    for (const line of share.lines) console.log(line);
    for (const [what, times] of share.covered) covered.set(what, (covered.get(what) ?? 0) + times);
  }
  if (wanted.coverage) for (const what of [...covered.keys()].sort()) console.log(`${covered.get(what)} × ${what}`);
  console.log(`sim: seeds=${wanted.seeds} events=${events} violations=${violations}`);
  return violations === 0 ? 0 : 1;
}
