// The benchmark's program; scripts/bench.mjs builds it and starts it.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type RunResult, runFio } from "./fio.ts";
import { machineFacts } from "./machine.ts";
import { type BenchOptions, parseOptions, USAGE, UsageError } from "./options.ts";
import { plot } from "./plot.ts";
import { figuresTable, goalsTable, own, type Results, type SpecialFigure, summary, verdicts } from "./report.ts";
import { measureResync } from "./resync.ts";
import { Missing, startTarget, stopEverything, type Target } from "./targets.ts";
import { type TargetName, WORKLOADS, type Workload } from "./workloads.ts";

const RESULTS = join(dirname(fileURLToPath(import.meta.url)), "../../bench/results");
/** The first of a block of TCP ports; parallel runs are told apart by their process numbers. */
const FIRST_PORT: number = 20_000 + (process.pid % 1000) * 10;
const WARM_UP_S = 0.6;
/** Our servers' code is compiled while they run; what is measured is how they work for hours, not their first second. */
const COMPILE_S = 2.5;
/** --quick begins no further run after this long, and says what it left out. */
const QUICK_MS = 140_000;

const running: Target[] = [];

async function stopAll(): Promise<void> {
  while (running.length > 0) await running.pop()?.stop();
}

export async function main(args: readonly string[]): Promise<number> {
  let options: BenchOptions;
  try {
    options = parseOptions(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`bench: ${error.message}\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  const work = options.work === "" ? mkdtempSync(join(tmpdir(), "hacluster-bench-")) : resolve(options.work);
  const cleanUp = async (): Promise<void> => {
    await stopAll();
    await stopEverything();
    if (options.work === "") rmSync(work, { recursive: true, force: true });
  };
  for (const [signal, code] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    process.on(signal, () => void cleanUp().finally(() => process.exit(code)));
  }
  try {
    return options.plot === undefined ? await compare(options, work) : await draw(options, work, options.plot);
  } finally {
    await cleanUp();
  }
}

/** Starts what the names say; what this machine lacks is left out with a note. */
async function start(names: readonly TargetName[], options: BenchOptions, work: string): Promise<void> {
  const profile = options.profile === undefined ? undefined : resolve(options.profile);
  if (profile !== undefined) mkdirSync(profile, { recursive: true });
  for (const name of names) {
    const own = { folder: work, sizeMib: options.sizeMib, firstPort: FIRST_PORT + running.length * 2, profile };
    try {
      running.push(await startTarget(name, own));
    } catch (error) {
      if (!(error instanceof Missing)) throw error;
      console.error(`note: ${name} is left out: ${error.message}`);
    }
  }
}

function wants(options: BenchOptions, name: TargetName): boolean {
  if (name.startsWith("blockrep") || options.peers.length === 0) return true;
  return options.peers.includes(name.replace("-wide", ""));
}

/** The targets of a workload that run, ours first. */
function targetsOf(workload: Workload): Target[] {
  const names = [...new Set(workload.peers.flatMap((peer) => [own(peer), peer]))];
  return names.flatMap((name) => running.filter((target) => target.name === name));
}

async function compare(options: BenchOptions, work: string): Promise<number> {
  const chosen = WORKLOADS.filter((w) => options.only.length === 0 || options.only.includes(w.name));
  const results: Results = new Map();
  const special: SpecialFigure[] = [];
  const startedMs = Date.now();
  const facts = machineFacts(tmpdir());
  // the wide device comes in a part of its own, so that not all images are in memory at once
  for (const wide of options.quick ? [false] : [false, true]) {
    const part = chosen.filter((w) => (w.wide === true) === wide);
    const names = new Set(part.flatMap((w) => w.peers.flatMap((peer) => [own(peer), peer])));
    if (!wide && options.resync) names.add("blockrep");
    if (names.size === 0) continue;
    await start(
      [...names].filter((name) => wants(options, name)),
      options,
      work,
    );
    await rounds(part, options, results);
    const pair = running.find((target) => target.name === "blockrep");
    if (!wide && options.resync && pair !== undefined) {
      special.push(
        ...(await measureResync(
          pair,
          options.quick ? 1 : Math.min(3, options.rounds),
          options.seconds,
          options.sizeMib,
        )),
      );
    }
    await stopAll();
  }
  const judged = verdicts(results, special);
  const seconds = Math.round((Date.now() - startedMs) / 1000);
  console.log(
    `${options.rounds} rounds of ${options.seconds} s, device ${options.sizeMib} MiB, ${seconds} s in all, ` +
      `load average ${(facts["loadAverage"] as number[]).map((load) => load.toFixed(1)).join(" ")} at the start\n`,
  );
  console.log(`${figuresTable(results)}\n`);
  console.log(`${goalsTable(judged)}\n`);
  if (options.save) save(options, facts, results, judged);
  console.log(summary(judged));
  return judged.every((one) => one.mustHolds) ? 0 : 1;
}

async function rounds(workloads: readonly Workload[], options: BenchOptions, results: Results): Promise<void> {
  await warmUp(options);
  for (let round = options.quick ? 0 : -1; round < options.rounds; round++) {
    for (const workload of workloads) {
      if (options.quick && performance.now() > QUICK_MS) {
        console.error(`note: out of time in round ${round + 1} before ${workload.name}; what follows is left out`);
        return;
      }
      const targets = targetsOf(workload);
      // the first may find the machine in another state than the last: the order changes from round to round
      if (round % 2 === 1) targets.reverse();
      progress(`${round < 0 ? "warm-up" : `round ${round + 1}/${options.rounds}`} ${workload.name}`);
      for (const target of targets) {
        const seconds = round < 0 ? Math.min(WARM_UP_S, options.seconds) : options.seconds;
        const result = await runFio(workload, target.uri, target.pids, seconds, target.sizeMib ?? options.sizeMib);
        if (result.error !== undefined) console.error(`\n${workload.name} on ${target.name}: ${result.error}`);
        if (round >= 0) keep(results, workload.name, target.name, result);
      }
    }
  }
  progress("");
}

/** Compiles our servers' hot code, and reads every page once: only what is known to be cached is read on the event loop. */
async function warmUp(options: BenchOptions): Promise<void> {
  const named = (name: string): Workload => WORKLOADS.find((w) => w.name === name) as Workload;
  const pass: Workload = { ...named("r1m-seq-q4"), fio: ["--rw=read", "--bs=64k", "--iodepth=8"] };
  for (const target of running.filter((t) => t.name === "single" || t.name.startsWith("blockrep"))) {
    progress(`warm-up ${target.name}`);
    const sizeMib = target.sizeMib ?? options.sizeMib;
    const seconds = options.quick ? COMPILE_S : 2 * COMPILE_S;
    await runFio(named("w4k-q32"), target.uri, target.pids, seconds, sizeMib);
    await runFio(pass, target.uri, target.pids, seconds / 2, sizeMib);
  }
}

function keep(results: Results, workload: string, target: TargetName, result: RunResult): void {
  const byTarget = results.get(workload) ?? new Map<TargetName, RunResult[]>();
  results.set(workload, byTarget);
  byTarget.set(target, [...(byTarget.get(target) ?? []), result]);
}

async function draw(options: BenchOptions, work: string, file: string): Promise<number> {
  const names: TargetName[] = ["blockrep", "single", "mirror", "quorum", "nbdkit"];
  await start(
    names.filter((name) => wants(options, name)),
    options,
    work,
  );
  writeFileSync(file, await plot(running, options.rounds, options.seconds, options.sizeMib, progress));
  progress("");
  console.log(`bench: wrote ${file}`);
  return 0;
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${text.padEnd(60)}\r`);
}

function save(
  options: BenchOptions,
  facts: Record<string, unknown>,
  results: Results,
  judged: readonly unknown[],
): void {
  mkdirSync(RESULTS, { recursive: true });
  const when = new Date().toISOString();
  const path = join(RESULTS, `${when.replace(/[:.]/g, "-")}.json`);
  const { rounds, seconds, sizeMib, label } = options;
  const runs = Object.fromEntries([...results].map(([name, targets]) => [name, Object.fromEntries(targets)]));
  const content = { when, label, rounds, seconds, sizeMib, machine: facts, goals: judged, runs };
  writeFileSync(path, `${JSON.stringify(content, null, 1)}\n`);
  console.log(`results: ${path}`);
}
