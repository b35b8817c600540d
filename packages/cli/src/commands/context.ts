import type { Diagnostic } from "@hacluster/blockrep/base";
import { formatDiagnostic, HaError } from "@hacluster/blockrep/base";
import { ExitCode, exitCodeForDrbd } from "../exit-codes.ts";

/** A command's failure that is already worded; main prints it and exits with the code. */
export class CommandFailure extends Error {
  override readonly name: string = "CommandFailure";
  readonly exitCode: number;
  constructor(message: string, exitCode: number = ExitCode.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function complain(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Show findings on standard error: all errors, and the warnings unless `quiet`. */
export function showDiagnostics(items: readonly Diagnostic[], quiet = false): void {
  for (const item of items) {
    if (item.severity === "error" || !quiet) complain(formatDiagnostic(item));
  }
}

/** The exit code that an error stands for. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommandFailure) return error.exitCode;
  if (error instanceof HaError && error.code === "HA_STATE_REFUSED") {
    return exitCodeForDrbd(Number(error.details["code"] ?? 0));
  }
  if (error instanceof HaError && error.code === "HA_DEVICE_BUSY") return ExitCode.stateRefused;
  return ExitCode.failed;
}
