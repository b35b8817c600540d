import type { Diagnostics } from "@hacluster/blockrep/base";
import { parseSpan } from "./span.ts";
import type { Word } from "./text.ts";
import { parseBoolean } from "./values.ts";

/** How resources are run; what is absent has its default in the drivers. */
export interface RunnerSettings {
  /** Longest run of a script, by action. */
  readonly timeLimitsMs?: Readonly<Partial<Record<"start" | "stop" | "status", number>>>;
  /** Wait for the answer to the probe before an address is taken; 0: no probe. */
  readonly addressProbeMs?: number;
  /** How often the network is asked whether another machine has our addresses too; 0: never. */
  readonly addressCheckMs?: number;
  /** Whether processes that keep a filesystem busy may be ended. */
  readonly endHolders?: boolean;
}

/** Longest wait for the answer to an address probe: beyond it a takeover would be felt. */
const PROBE_MAX_MS = 50;
const CHECK_MIN_MS = 1000;

const EXAMPLES: Readonly<Record<string, string>> = {
  script: 'write for example "script start=10m stop=10m status=60s"',
  address: `write for example "address probe=40ms check=60s"; either may be off, a probe waits ${PROBE_MAX_MS}ms at most`,
  filesystem: 'write "filesystem end-holders=yes" or "filesystem end-holders=no"',
};

/** Directives of hacluster.conf that are read here. */
export const RUNNER_DIRECTIVES: readonly string[] = Object.keys(EXAMPLES);

/**
 * `script start=TIME stop=TIME status=TIME`, `address probe=TIME|off check=TIME|off`, `filesystem end-holders=yes|no`.
 * @returns the settings with those of this line; words that are not understood are reported and change nothing
 */
export function readRunnerDirective(
  before: RunnerSettings | undefined,
  first: Word,
  args: readonly Word[],
  diagnostics: Diagnostics,
): RunnerSettings {
  let settings: RunnerSettings = before ?? {};
  for (const arg of args) {
    const equals = arg.text.indexOf("=");
    const value = arg.text.slice(equals + 1);
    const found = setting(settings, `${first.text} ${arg.text.slice(0, Math.max(0, equals))}`, value);
    if (found !== undefined) settings = found;
    else diagnostics.error(arg.at, `${first.text}: "${arg.text}" is not a setting`, EXAMPLES[first.text] ?? "");
  }
  if (args.length === 0) diagnostics.error(first.at, `${first.text} says nothing`, EXAMPLES[first.text] ?? "");
  return settings;
}

function setting(settings: RunnerSettings, name: string, value: string): RunnerSettings | undefined {
  const span = parseSpan(value);
  const timeMs = parseBoolean(value) === false && span === undefined ? 0 : span;
  switch (name) {
    case "script start":
    case "script stop":
    case "script status":
      if (span === undefined || span === 0) return undefined;
      return { ...settings, timeLimitsMs: { ...settings.timeLimitsMs, [name.slice("script ".length)]: span } };
    case "address probe":
      return timeMs === undefined || timeMs > PROBE_MAX_MS ? undefined : { ...settings, addressProbeMs: timeMs };
    case "address check":
      return timeMs === undefined || (timeMs > 0 && timeMs < CHECK_MIN_MS)
        ? undefined
        : { ...settings, addressCheckMs: timeMs };
    case "filesystem end-holders": {
      const endHolders = parseBoolean(value);
      return endHolders === undefined ? undefined : { ...settings, endHolders };
    }
    default:
      return undefined;
  }
}
