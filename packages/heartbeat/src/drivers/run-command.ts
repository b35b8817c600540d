import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import type { Readable } from "node:stream";

export interface CommandResult {
  /** Exit status; 128 + signal number's conventional 143/137 when a signal ended it, 127 when it could not be started. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
}

export interface CommandOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly timeLimitMs?: number;
  readonly cwd?: string;
  /** Every piece of output as it comes, also beyond what the result keeps. */
  readonly onOutput?: (stream: "stdout" | "stderr", text: string) => void;
  /** Ends the command as its time limit does. */
  readonly signal?: AbortSignal;
  /**
   * The command starts a service: it gets the priority and the standing with the out-of-memory killer of any other
   * process, not those of the daemon.
   */
  readonly service?: boolean;
  /** Written to its standard input, which then ends; without it the program has none. */
  readonly input?: string;
}

/** Output kept per stream: enough for any message, too little to hurt when a script prints for ever. */
const OUTPUT_MAX = 64 * 1024;
/** Between SIGTERM and SIGKILL for a script that outstayed its time limit. */
const KILL_GRACE_MS = 2000;
/** A process that waits for a dead disk or file server does not even end on SIGKILL; we do not wait with it. */
const GIVE_UP_MS = 2000;

/**
 * Run one program and collect what it says. It gets a process group of its own, so that a script that hangs ends with
 * everything it started, while a service that it started properly (setsid) lives on.
 * The result comes when the program exits, not when its output closes: daemons inherit the pipes and keep them open.
 */
export function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      detached: true,
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      cwd: options.cwd ?? "/",
      env: options.env ?? process.env,
    });
    if (options.service === true && child.pid !== undefined) makeOrdinary(child.pid);
    // a program that does not read what it is given is its own affair
    child.stdin?.on("error", () => undefined).end(options.input);
    const stdout = child.stdout as Readable;
    const stderr = child.stderr as Readable;
    const out = collect(stdout, (text) => options.onOutput?.("stdout", text));
    const err = collect(stderr, (text) => options.onOutput?.("stderr", text));
    let timedOut = false;
    let settled = false;
    const timers: NodeJS.Timeout[] = [];
    const finish = (exitCode: number, note = ""): void => {
      if (settled) return;
      settled = true;
      for (const timer of timers) clearTimeout(timer);
      options.signal?.removeEventListener("abort", end);
      resolve({ exitCode, stdout: out.text(), stderr: err.text() + note, timedOut });
      stdout.destroy();
      stderr.destroy();
    };
    const end = (): void => {
      timedOut = true;
      killGroup(child.pid, "SIGTERM");
      timers.push(
        setTimeout(() => killGroup(child.pid, "SIGKILL"), KILL_GRACE_MS),
        setTimeout(
          () =>
            finish(137, `${program}[${child.pid}] does not end on SIGKILL: it waits for a device that does not answer`),
          KILL_GRACE_MS + GIVE_UP_MS,
        ),
      );
    };
    if (options.timeLimitMs !== undefined) timers.push(setTimeout(end, options.timeLimitMs));
    options.signal?.addEventListener("abort", end, { once: true });
    child.on("error", (error) => finish(127, error.message));
    child.on("exit", (code, signal) => {
      // what was written before the exit is in the pipes already: one turn of the loop reads it
      setImmediate(() => setImmediate(() => finish(code ?? (signal === "SIGKILL" ? 137 : 143))));
    });
  });
}

function makeOrdinary(pid: number): void {
  try {
    if (getPriority() < 0) setPriority(pid, 0);
    writeFileSync(`/proc/${pid}/oom_score_adj`, "0");
  } catch {
    // it ended already, or this is not Linux: nothing to make ordinary
  }
}

function killGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // it ended in the meantime
  }
}

function collect(stream: NodeJS.ReadableStream, tell: (text: string) => void): { text(): string } {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    if (size < OUTPUT_MAX) chunks.push(chunk.subarray(0, OUTPUT_MAX - size));
    size += chunk.length;
    tell(chunk.toString("utf8"));
  });
  return { text: () => Buffer.concat(chunks).toString("utf8") };
}
