import { type Diagnostics, nearestWord } from "@hacluster/blockrep/base";
import type { HaclusterConf, Haresources, MonitorPolicy, MonitorRule } from "./model.ts";
import { RUNNER_DIRECTIVES, type RunnerSettings, readRunnerDirective } from "./runner-settings.ts";
import { parseSpan } from "./span.ts";
import { splitLines, stripComment, type Word, words } from "./text.ts";
import { parseInteger } from "./values.ts";

/** What a bare `monitor` line means. */
export const MONITOR_DEFAULTS: MonitorPolicy = {
  intervalMs: 10_000,
  timeoutMs: 60_000,
  failures: 3,
  windowMs: 600_000,
};
const FAILURES_MAX = 1000;
const INTERVAL_MIN_MS = 100;

/**
 * Read hacluster.conf. `monitor [RESOURCE] [interval=10s] [timeout=60s] [failures=3] [window=10m]` watches every resource, or
 * those with that text or script; `monitor RESOURCE off` excepts some. `fence timeout=120s` bounds a fencing program. The directives
 * `script`, `address` and `filesystem` are in runner-settings.ts.
 * @param haresources to find names that no resource has
 */
export function parseHaclusterConf(
  text: string,
  file: string,
  diagnostics: Diagnostics,
  haresources?: Haresources,
): HaclusterConf {
  const monitors: MonitorRule[] = [];
  let fenceTimeoutMs: number | undefined;
  let runner: RunnerSettings | undefined;
  splitLines(text).forEach((raw, index) => {
    const [first, ...args] = words(stripComment(raw), file, index + 1, " \t\r");
    if (first === undefined) return;
    if (first.text === "monitor") {
      const rule = monitorRule(first, args, diagnostics);
      if (rule === undefined) return;
      checkTarget(rule, haresources, diagnostics);
      monitors.push(rule);
    } else if (first.text === "fence") {
      for (const arg of args) {
        const ms = arg.text.startsWith("timeout=") ? parseSpan(arg.text.slice("timeout=".length)) : undefined;
        if (ms === undefined || ms === 0)
          diagnostics.error(arg.at, `fence: "${arg.text}" is not timeout=TIME`, EXAMPLE_FENCE);
        else fenceTimeoutMs = ms;
      }
    } else if (RUNNER_DIRECTIVES.includes(first.text)) {
      runner = readRunnerDirective(runner, first, args, diagnostics);
    } else {
      const near = nearestWord(first.text, ["monitor", "fence", ...RUNNER_DIRECTIVES]);
      diagnostics.error(
        first.at,
        `unknown directive "${first.text}"`,
        near === undefined ? EXAMPLE : `write "${near}"`,
      );
    }
  });
  return { file, monitors, fenceTimeoutMs, ...(runner === undefined ? {} : { runner }) };
}

const EXAMPLE = 'write for example "monitor interval=10s failures=3 window=10m"';
const EXAMPLE_FENCE = 'write for example "fence timeout=120s"';

function monitorRule(first: Word, args: readonly Word[], diagnostics: Diagnostics): MonitorRule | undefined {
  const policy: { -readonly [name in keyof MonitorPolicy]: number } = { ...MONITOR_DEFAULTS };
  let target: string | undefined;
  let off = false;
  let wrong = false;
  args.forEach((arg, index) => {
    const equals = arg.text.indexOf("=");
    const name = arg.text.slice(0, Math.max(0, equals));
    // the argument of a resource may hold an equals sign too: only the four names are settings
    if (!SETTINGS.has(name)) {
      if (arg.text === "off") off = true;
      else if (index === 0) target = arg.text;
      else {
        wrong = true;
        diagnostics.error(arg.at, `monitor: "${arg.text}" is neither a setting nor off`, EXAMPLE);
      }
      return;
    }
    const value = arg.text.slice(equals + 1);
    const number = name === "failures" ? parseInteger(value, 0, FAILURES_MAX) : parseSpan(value);
    const low = name === "failures" ? 0 : INTERVAL_MIN_MS;
    if (number === undefined || number < low) {
      wrong = true;
      const expected =
        name === "failures"
          ? `a number 0..${FAILURES_MAX}`
          : `a time of at least ${INTERVAL_MIN_MS}ms, such as 10s or 5m`;
      diagnostics.error(arg.at, `monitor: ${name} "${value}" is not ${expected}`, EXAMPLE);
      return;
    }
    policy[SETTINGS.get(name) as keyof MonitorPolicy] = number;
  });
  if (wrong) return undefined;
  return { target, policy: off ? undefined : policy, at: first.at };
}

const SETTINGS: ReadonlyMap<string, keyof MonitorPolicy> = new Map([
  ["interval", "intervalMs"],
  ["timeout", "timeoutMs"],
  ["failures", "failures"],
  ["window", "windowMs"],
]);

function checkTarget(rule: MonitorRule, haresources: Haresources | undefined, diagnostics: Diagnostics): void {
  if (rule.target === undefined || haresources === undefined) return;
  const resources = haresources.groups.flatMap((group) => group.resources);
  const known = resources.flatMap((resource) => [resource.text, resource.script]);
  if (known.includes(rule.target)) return;
  const near = nearestWord(rule.target, known);
  diagnostics.warning(
    rule.at,
    `monitor ${rule.target}: haresources has no such resource`,
    near === undefined ? "write a resource as it stands there, or the name of its script" : `write "${near}"`,
  );
}

/** How a resource is to be watched: a rule for its text counts before one for its script, and that before one for all. */
export function monitorPolicyOf(
  conf: HaclusterConf | undefined,
  resource: { readonly text: string; readonly script: string },
): MonitorPolicy | undefined {
  const rules = conf?.monitors ?? [];
  const last = (target: string | undefined): MonitorRule | undefined =>
    rules.filter((rule) => rule.target === target).at(-1);
  return (last(resource.text) ?? last(resource.script) ?? last(undefined))?.policy;
}
