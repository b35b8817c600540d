import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { CommandFailure } from "../commands/context.ts";
import type { ControlFailure } from "../control/protocol.ts";

/** What a daemon tells whoever started it, once: it serves, or why it does not. */
type StartReport = { readonly ready: true } | { readonly failure: ControlFailure };

const BIN = fileURLToPath(new URL("../../bin/hacluster.js", import.meta.url));
/** A daemon that says nothing for so long hangs; its disk may need seconds to be found. */
const START_LIMIT_MS = 60_000;
/** One that reported a failure ends by itself, sooner than this. */
const END_LIMIT_MS = 3_000;

/**
 * Start `hacluster daemon …` in the background and wait until it serves.
 * @throws HaError with the daemon's own reason when it ends instead
 */
export function startDaemon(args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [BIN, "daemon", ...args], {
      detached: true,
      stdio: ["ignore", "ignore", "ignore", "ipc"],
      cwd: "/",
    });
    let settled = false;
    let failure: HaError | undefined;
    const settle = (action: () => void): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      if (child.connected) child.disconnect();
      child.unref();
      action();
    };
    const timer = setTimeout(() => {
      settle(() => reject(new HaError(ErrorCode.timeout, `hacluster daemon ${args.join(" ")} does not come up`)));
    }, START_LIMIT_MS);
    child.on("message", (report: StartReport) => {
      if ("ready" in report) {
        settle(() => resolve(child.pid as number));
        return;
      }
      const { code, message, details } = report.failure;
      const failed = new HaError(code as ErrorCode, message, details as HaError["details"]);
      failure = failed;
      // until it has ended it holds its disk: whoever reads the message may try again at once
      setTimeout(() => settle(() => reject(failed)), END_LIMIT_MS).unref();
    });
    child.on("error", (error) => settle(() => reject(error)));
    child.on("exit", (code, signal) => {
      settle(() =>
        reject(
          failure ??
            new HaError(
              ErrorCode.programFailed,
              `hacluster daemon ${args.join(" ")} ended at once (${signal ?? `exit code ${code}`})`,
            ),
        ),
      );
    });
  });
}

/** The daemon's side: it serves. Tells the starting command, or systemd. */
export function reportReady(): void {
  send({ ready: true });
  if (process.env["NOTIFY_SOCKET"] !== undefined) {
    // Node has no Unix datagram sockets: systemd's own tool sends the word
    spawn("systemd-notify", ["--ready", `--pid=${process.pid}`], { stdio: "ignore" }).on("error", () => {
      // without the tool systemd would wait in vain; nothing else can be done about it here
    });
  }
}

/** The daemon's side: it cannot serve. */
export function reportFailure(error: unknown): void {
  const failure: ControlFailure =
    error instanceof HaError
      ? { code: error.code, message: error.message, details: error.details }
      : {
          code: "HA_INTERNAL",
          message:
            error instanceof CommandFailure
              ? error.message.replace(/^hacluster: /, "")
              : error instanceof Error
                ? (error.stack ?? error.message)
                : String(error),
          details: {},
        };
  send({ failure });
}

function send(report: StartReport): void {
  if (process.send === undefined || !process.connected) return;
  process.send(report, () => {
    if (process.connected) process.disconnect();
  });
}

export function writePidFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${process.pid}\n`);
}

export function removePidFile(path: string): void {
  rmSync(path, { force: true });
}

/** The pid in a pid file when that process lives; stale and missing files are the same. */
export function livingPid(path: string): number | undefined {
  let pid: number;
  try {
    pid = Number(readFileSync(path, "utf8").trim());
    process.kill(pid, 0);
  } catch {
    return undefined;
  }
  return pid;
}
