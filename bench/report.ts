import type { RunResult } from "./fio.ts";
import { ratios, show, spread } from "./statistics.ts";
import { GOALS, type Goal, type TargetName, WORKLOADS, type Workload } from "./workloads.ts";

/** Runs by workload and target, one per round. */
export type Results = Map<string, Map<TargetName, RunResult[]>>;

/** A goal that is not a ratio of two targets' runs. */
export interface SpecialFigure {
  readonly name: string;
  readonly values: readonly number[];
  readonly unit: string;
  readonly must: number;
  readonly aim: number;
  /** Below the limit is good. */
  readonly atMost: boolean;
}

export interface Verdict {
  readonly text: string;
  readonly values: readonly number[];
  readonly must: number;
  readonly aim: number | undefined;
  readonly atMost: boolean;
  readonly mustHolds: boolean;
  readonly aimHolds: boolean;
}

/** Which target of ours stands against a peer. */
export function own(peer: TargetName): TargetName {
  return peer === "quorum-wide" ? "blockrep-small-al" : "blockrep";
}

function judge(goal: Goal, results: Results): Verdict | undefined {
  const runs = results.get(goal.workload);
  const mine = runs?.get(own(goal.peer));
  const theirs = runs?.get(goal.peer);
  if (mine === undefined || theirs === undefined) return undefined;
  const key = goal.figure === "cpu" ? "cpuPerGib" : "speed";
  const values = ratios(
    mine.map((run) => run[key]),
    theirs.map((run) => run[key]),
  );
  if (values.length === 0) return undefined;
  const what = goal.figure === "cpu" ? "server CPU per GiB" : "speed";
  return verdict(`${goal.workload}: ${what} against ${goal.peer}`, values, goal.must, goal.aim, goal.figure === "cpu");
}

function verdict(
  text: string,
  values: readonly number[],
  must: number,
  aim: number | undefined,
  atMost: boolean,
): Verdict {
  const middle = spread(values).median;
  const holds = (limit: number): boolean => (atMost ? middle <= limit : middle >= limit);
  return { text, values, must, aim, atMost, mustHolds: holds(must), aimHolds: aim !== undefined && holds(aim) };
}

export function verdicts(results: Results, special: readonly SpecialFigure[]): Verdict[] {
  const out: Verdict[] = [];
  for (const goal of GOALS) {
    const one = judge(goal, results);
    if (one !== undefined) out.push(one);
  }
  for (const one of special) out.push(verdict(`${one.name} [${one.unit}]`, one.values, one.must, one.aim, one.atMost));
  return out;
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => (row[i] ?? "").length)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(rows[0] ?? []), rule, ...rows.slice(1).map(line)].join("\n");
}

/** Every target's own figures. */
export function figuresTable(results: Results): string {
  const rows = [["workload", "target", "unit", "median", "min", "max", "p50 us", "p99 us", "server CPU s/GiB"]];
  for (const workload of WORKLOADS) {
    for (const [target, runs] of results.get(workload.name) ?? []) rows.push(figuresRow(workload, target, runs));
  }
  return table(rows);
}

function figuresRow(workload: Workload, target: TargetName, runs: readonly RunResult[]): string[] {
  const of = (key: "figure" | "p50us" | "p99us" | "cpuPerGib") => spread(runs.map((run) => run[key]));
  const { median, min, max } = of("figure");
  const middle = (key: "p50us" | "p99us" | "cpuPerGib", digits: number): string => show(of(key).median, digits);
  return [
    workload.name,
    target,
    workload.unit,
    ...[median, min, max].map((value) => show(value)),
    middle("p50us", 0),
    middle("p99us", 0),
    middle("cpuPerGib", 2),
  ];
}

/** The goals, each a ratio of pairs of runs. */
export function goalsTable(all: readonly Verdict[]): string {
  const rows = [["ratio", "median", "min", "max", "must", "aim", "holds"]];
  for (const one of all) {
    const { median, min, max } = spread(one.values);
    const limit = (value: number | undefined): string =>
      value === undefined ? "" : `${one.atMost ? "<=" : ">="} ${value}`;
    const holds = one.mustHolds ? (one.aim === undefined ? "must" : one.aimHolds ? "aim" : "must") : "NO";
    rows.push([one.text, show(median, 2), show(min, 2), show(max, 2), limit(one.must), limit(one.aim), holds]);
  }
  return table(rows);
}

export function summary(all: readonly Verdict[]): string {
  const aims = all.filter((one) => one.aim !== undefined);
  const held = (list: readonly Verdict[], key: "mustHolds" | "aimHolds"): number => list.filter((v) => v[key]).length;
  return `bench: must ${held(all, "mustHolds")}/${all.length} aim ${held(aims, "aimHolds")}/${aims.length}`;
}
