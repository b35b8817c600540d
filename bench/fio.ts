import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import type { Workload } from "./workloads.ts";

/** What one run of fio on one target gave. */
export interface RunResult {
  /** In the workload's unit. */
  readonly figure: number;
  /** Higher is better, whatever the unit. */
  readonly speed: number;
  readonly iops: number;
  readonly megabytesPerSecond: number;
  readonly p50us: number;
  readonly p99us: number;
  /** CPU time of all server processes, user and system, for one GiB moved. */
  readonly cpuPerGib: number;
  readonly error?: string;
}

const TICKS_PER_SECOND = 100; // USER_HZ, the same on every Linux

interface FioSide {
  readonly io_bytes: number;
  readonly iops: number;
  readonly clat_ns: { readonly mean: number; readonly percentile?: Readonly<Record<string, number>> };
}

interface FioJob {
  readonly read: FioSide;
  readonly write: FioSide;
  readonly job_runtime: number;
}

/** CPU seconds that these processes and their children have used. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids.flatMap((one) => withChildren(one))) {
    const fields = read(`/proc/${pid}/stat`);
    const rest = fields.slice(fields.lastIndexOf(")") + 2).split(" ");
    ticks += Number(rest[11] ?? 0) + Number(rest[12] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

function withChildren(pid: number): number[] {
  const found = [pid];
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      for (const child of read(`/proc/${pid}/task/${thread}/children`).split(" ")) {
        if (child.trim() !== "") found.push(...withChildren(Number(child)));
      }
    }
  } catch {
    // the process has ended
  }
  return found;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** Runs a workload against an NBD server. */
export async function runFio(
  workload: Workload,
  uri: string,
  pids: readonly number[],
  seconds: number,
  sizeMib: number,
): Promise<RunResult> {
  const args = [
    "--name=b",
    "--output-format=json",
    "--ioengine=nbd",
    `--uri=${uri}`,
    "--time_based",
    `--runtime=${Math.round(seconds * 1000)}ms`,
    `--size=${sizeMib}m`,
    "--randrepeat=0",
    "--norandommap",
    ...workload.fio,
  ];
  const before = cpuSeconds(pids);
  const { code, out } = await run("fio", args, (seconds + 30) * 1000);
  const used = cpuSeconds(pids) - before;
  const json = out.indexOf("{");
  if (code !== 0 || json < 0) return failed(out.trim().split("\n").at(-1) || `fio ended with ${code}`);
  const job = (JSON.parse(out.slice(json)) as { jobs: FioJob[] }).jobs[0];
  if (job === undefined) return failed("fio reported no job");
  const bytes = job.read.io_bytes + job.write.io_bytes;
  const iops = job.read.iops + job.write.iops;
  const side = workload.reads === true ? job.read : job.write;
  const percentile = (key: string): number => (side.clat_ns.percentile?.[key] ?? Number.NaN) / 1000;
  const megabytesPerSecond = bytes / 1000 / job.job_runtime;
  const p50us = percentile("50.000000");
  const microseconds = workload.withFlush === true ? 1e6 / iops : p50us;
  const figure = workload.unit === "us" ? microseconds : workload.unit === "iops" ? iops : megabytesPerSecond;
  return {
    figure,
    speed: workload.unit === "us" ? 1e6 / figure : figure,
    iops,
    megabytesPerSecond,
    p50us,
    p99us: percentile("99.000000"),
    cpuPerGib: (used * 2 ** 30) / bytes,
  };
}

function failed(error: string): RunResult {
  const nothing = Number.NaN;
  return {
    figure: nothing,
    speed: nothing,
    iops: nothing,
    megabytesPerSecond: nothing,
    p50us: nothing,
    p99us: nothing,
    cpuPerGib: nothing,
    error,
  };
}

/** Runs a program to its end. */
export function run(
  program: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<{ code: number; out: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], timeout: timeoutMs });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    let errors = "";
    child.stderr.on("data", (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.on("error", (error) => resolve({ code: 127, out: error.message }));
    child.on("close", (code) => resolve({ code: code ?? 137, out: code === 0 ? out : out + errors }));
  });
}
