import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, readlinkSync } from "node:fs";

/** How a finished command ended. `code` is null when a signal ended it. */
export interface Result {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  /** It was killed because `timeoutMs` had passed. */
  readonly timedOut: boolean;
}

export interface RunOptions {
  readonly input?: string;
  /** Default 60 s: nothing in a lab may hang for ever. */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export class CommandError extends Error {
  readonly result: Result;

  constructor(command: readonly string[], result: Result) {
    const how = result.timedOut
      ? "did not end in time"
      : result.code === null
        ? `was ended by ${result.signal}`
        : `ended with exit code ${result.code}`;
    const said = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-12).join("\n");
    super(`"${command.join(" ")}" ${how}${said === "" ? "" : `: ${said}`}`);
    this.name = "CommandError";
    this.result = result;
  }
}

/** Run a command to its end and return how it ended, whatever that is. */
export function run(command: readonly string[], options: RunOptions = {}): Promise<Result> {
  const [program, ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program as string, args, {
      detached: true, // Ctrl-C in a terminal goes to the program, which then still needs its commands to clean up
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      ...(options.env === undefined ? {} : { env: { ...process.env, ...options.env } }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    let stdout = "";
    let stderr = "";
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
      // a daemon that it left behind may hold the pipes: their end is not worth waiting for
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, options.timeoutMs ?? 60_000);
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
      clearTimeout(timer);
      clearTimeout(grace);
      resolve({ code, signal, stdout, stderr, timedOut });
    };
    let grace: NodeJS.Timeout | undefined;
    child.on("exit", (code, signal) => {
      // "close" follows when all output is read, unless a daemon that was left behind keeps the pipes open
      grace = setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
        finish(code, signal);
      }, 500);
    });
    child.on("close", finish);
    if (options.input !== undefined) {
      child.stdin?.on("error", () => {}); // it need not read its input
      child.stdin?.end(options.input);
    }
  });
}

/** Like `run`, for commands that must succeed: returns what they print. @throws CommandError */
export async function must(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, options);
  if (result.code !== 0) throw new CommandError(command, result);
  return result.stdout;
}

/** A process by its pid and start time, so that a pid that was given to another process is not taken for it. */
export interface ProcessId {
  readonly pid: number;
  readonly startTicks: string;
}

/** Undefined when there is no such process, or only its zombie. */
export function processId(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : { pid, startTicks: fields[19] as string };
  } catch {
    return undefined;
  }
}

export function isAlive(id: ProcessId): boolean {
  return processId(id.pid)?.startTicks === id.startTicks;
}

/** SIGKILL to this process only if it is still the same one; then wait until it is gone. */
export async function killProcess(id: ProcessId, timeoutMs = 10_000): Promise<boolean> {
  if (isAlive(id)) {
    try {
      process.kill(id.pid, "SIGKILL");
    } catch {
      // it has ended meanwhile
    }
  }
  return await waitFor(() => !isAlive(id), timeoutMs);
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Poll until `condition` holds; false when `timeoutMs` passes first. */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  pollMs = 10,
): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() >= end) return false;
    await delay(pollMs);
  }
  return true;
}

/** The pids of a process's children (one level). */
export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    return [];
  }
}

/** Resolves with the exit code (null after a signal) of a child, also when it has ended already. */
export function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once("exit", (code) => resolve(code)));
}

/** What identifies a process's namespace of a kind, or undefined when the process is gone. */
export function namespaceOf(pid: number, kind: "net" | "mnt" | "pid" | "uts" | "ipc"): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    return undefined;
  }
}
