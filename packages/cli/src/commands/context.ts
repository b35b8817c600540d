import type { Diagnostic } from "@hacluster/blockrep/base";
import { formatDiagnostic, HaError } from "@hacluster/blockrep/base";
import { ExitCode } from "../exit-codes.ts";

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
  if (error instanceof HaError && error.code === "HA_STATE_REFUSED") return drbdExitCode(error);
  if (error instanceof HaError && error.code === "HA_DEVICE_BUSY") return ExitCode.stateRefused;
  return ExitCode.failed;
}

/** drbdsetup's: 11 for a refused state change, 17 and 16 for two of its reasons, 10 for the configuration. */
function drbdExitCode(error: HaError): number {
  const code = Number(error.details["code"] ?? 0);
  if (code === -2) return ExitCode.needUpToDate;
  if (code === -4) return ExitCode.noLocalDisk;
  return code > 101 ? ExitCode.drbdConfiguration : ExitCode.stateRefused;
}
