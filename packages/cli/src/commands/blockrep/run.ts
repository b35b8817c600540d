import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { ExitCode, exitCodeForDrbd } from "../../exit-codes.ts";
import { CommandFailure, complain, exitCodeOf } from "../context.ts";
import { adviceFor } from "./drbd-codes.ts";
import type { Target } from "./targets.ts";

/**
 * Run an action on one target after the other. A refusal is printed as drbdsetup words it and does not keep the others
 * from their turn; the exit code is the highest of all.
 * @throws CommandFailure when one of them failed
 */
export async function forEachTarget(
  targets: readonly Target[],
  action: (target: Target) => Promise<void>,
): Promise<void> {
  let exitCode = 0;
  for (const target of targets) {
    try {
      await action(target);
    } catch (error) {
      exitCode = Math.max(exitCode, reportRefusal(target, error));
    }
  }
  if (exitCode !== 0) throw new CommandFailure("", exitCode);
}

/** Print a refusal and return its exit code. @throws what is no refusal */
export function reportRefusal(target: Target, error: unknown): number {
  const { resource } = target;
  if (error instanceof CommandFailure) {
    if (error.message !== "") complain(error.message);
    return error.exitCode;
  }
  if (!(error instanceof HaError)) throw error;
  // drbdsetup talks of a resource by its name and of a volume by its minor
  const volume = resource.volumes.find((v) => v.vnr === error.details["volume"]) ?? target.volumes[0];
  const what = target.scope === "resource" || volume === undefined ? resource.name : volume.minor;
  if (error.code === ErrorCode.stateRefused) {
    const code = Number(error.details["code"] ?? 0);
    complain(refusal(what, code, String(error.details["text"] ?? error.message)));
    advise(code, resource.name);
    return exitCodeForDrbd(code);
  }
  if (error.code === ErrorCode.deviceBusy) {
    complain(refusal(what, -12, "State change failed: (-12) Device is held open by someone"));
    complain(`hacluster: ${resource.name}: ${error.message}`);
    return ExitCode.stateRefused;
  }
  if (error.code === ErrorCode.daemonNotRunning) {
    const whole = target.scope === "resource";
    complain(refusal(what, 158, whole ? "(158) Unknown resource" : "(127) Device minor not allocated"));
    advise(158, resource.name);
    return ExitCode.drbdConfiguration;
  }
  complain(`hacluster: ${resource.name}: ${error.message}`);
  return exitCodeOf(error);
}

function advise(code: number, resource: string): void {
  const advice = adviceFor(code, resource);
  if (advice !== undefined) complain(`hacluster: ${resource}: ${advice}`);
}

/** `0: Failure: (124) Device is attached to a disk ...` and `0: State change failed: (-2) ...`, as drbdsetup prints them. */
export function refusal(what: string | number, code: number, text: string): string {
  return `${what}: ${code >= 100 ? "Failure: " : ""}${text}`;
}

/** A failure that drbdsetup would report with this number, found here and not by the resource's process. */
export function drbdFailure(code: number, text: string): HaError {
  return new HaError(ErrorCode.stateRefused, text, { code, text: `(${code}) ${text}` });
}
