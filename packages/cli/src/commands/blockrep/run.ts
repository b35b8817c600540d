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
  const volume = resource.volumes.find((v) => v.vnr === error.details["volume"]) ?? target.volumes[0];
  const minor = volume?.minor ?? resource.name;
  if (error.code === ErrorCode.stateRefused) {
    const code = Number(error.details["code"] ?? 0);
    complain(
      refusal(
        error.details["volume"] === undefined ? resource.name : minor,
        code,
        String(error.details["text"] ?? error.message),
      ),
    );
    advise(code, resource.name);
    return exitCodeForDrbd(code);
  }
  if (error.code === ErrorCode.deviceBusy) {
    complain(refusal(minor, -12, "State change failed: (-12) Device is held open by someone"));
    complain(`hacluster: ${resource.name}: ${error.message}`);
    return ExitCode.stateRefused;
  }
  if (error.code === ErrorCode.daemonNotRunning) {
    complain(refusal(resource.name, 158, "(158) Unknown resource"));
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
