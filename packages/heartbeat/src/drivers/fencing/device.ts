import type { FenceResult } from "../../core/ports.ts";
import type { CommandResult } from "../run-command.ts";

export interface FenceOutcome {
  readonly result: FenceResult;
  /** What was done, or why not. Holds no parameter of the device. */
  readonly text: string;
}

/** A device that can reset the other node. Its methods never reject. */
export interface FenceDevice {
  /** Its type, as in ha.cf. */
  readonly name: string;
  /** Reset a node; `OK` means that it surely does not run any more. Does not return while a person is waited for. */
  reset(node: string): Promise<FenceOutcome>;
  /** Is the device itself well? Undefined: yes; else why not. */
  check(): Promise<string | undefined>;
}

/** Time limits of one call of a device's program, ms. */
export interface FenceLimits {
  /** Power switches of machines take their time. */
  readonly resetMs: number;
  readonly queryMs: number;
}

export const FENCE_LIMITS: FenceLimits = { resetMs: 120_000, queryMs: 20_000 };
/** One line about a program that failed: its last words, or its exit code. */
export function failureText(what: string, result: CommandResult, limitMs: number): string {
  if (result.timedOut) return `${what} did not end within ${limitMs / 1000} s`;
  const said = [result.stderr, result.stdout].flatMap((text) => text.trim().split("\n")).filter((line) => line !== "");
  const last = said.at(-1);
  return `${what} failed with exit code ${result.exitCode}${last === undefined ? "" : `: ${last.slice(0, 300)}`}`;
}

/** Whether a device's host list has the node; lists are separated by blanks, commas or lines, in any case. */
export function listsHost(list: string, node: string): boolean {
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .includes(node.toLowerCase());
}

/** Calls one after the other: a device is not asked for two things at a time. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
