import { parseBoolean, parseTimeMs } from "./values.ts";

/** How resources are run; each has a default in the drivers. */
export interface RunnerSettings {
  readonly timeLimitsMs: Readonly<Partial<Record<"start" | "stop" | "status", number>>>;
  readonly addressProbeMs?: number;
  readonly addressCheckMs?: number;
  readonly endHolders?: boolean;
}

/** Longest wait for the answer to an address probe: beyond it a takeover would be felt. */
const PROBE_MAX_MS = 50;

/**
 * Settings of hacluster's own in ha.cf. They are `env` lines, `env HACLUSTER_STOP_TIMEOUT=120`, because a real Heartbeat
 * on the other node takes these as they are and does nothing with them. Times as everywhere in ha.cf: seconds, or `ms`.
 * @returns the settings, and one sentence for each that cannot be understood and has no effect
 */
export function readRunnerSettings(environment: readonly (readonly [name: string, value: string])[]): {
  readonly settings: RunnerSettings;
  readonly problems: readonly string[];
} {
  const timeLimitsMs: Partial<Record<"start" | "stop" | "status", number>> = {};
  let settings: RunnerSettings = { timeLimitsMs };
  const problems: string[] = [];
  for (const [name, value] of environment) {
    const timeMs = parseTimeMs(value);
    const yes = parseBoolean(value);
    const refuse = (what: string): void => void problems.push(`ha.cf: env ${name}=${value}: ${what}`);
    switch (name) {
      case "HACLUSTER_START_TIMEOUT":
      case "HACLUSTER_STOP_TIMEOUT":
      case "HACLUSTER_STATUS_TIMEOUT": {
        const action = name.split("_")[1]?.toLowerCase() as "start" | "stop" | "status";
        if (timeMs === undefined || timeMs === 0) refuse("write a time, for example 120 or 500ms");
        else timeLimitsMs[action] = timeMs;
        break;
      }
      case "HACLUSTER_ADDRESS_PROBE":
        if (yes === false) settings = { ...settings, addressProbeMs: 0 };
        else if (timeMs === undefined || timeMs > PROBE_MAX_MS) refuse(`write off, or a time up to ${PROBE_MAX_MS}ms`);
        else settings = { ...settings, addressProbeMs: timeMs };
        break;
      case "HACLUSTER_ADDRESS_CHECK":
        if (yes === false) settings = { ...settings, addressCheckMs: 0 };
        else if (timeMs === undefined || timeMs < 1000) refuse("write off, or a time of 1 second or more");
        else settings = { ...settings, addressCheckMs: timeMs };
        break;
      case "HACLUSTER_END_HOLDERS":
        if (yes === undefined) refuse("write yes or no");
        else settings = { ...settings, endHolders: yes };
        break;
      default:
        if (name.startsWith("HACLUSTER_")) refuse("no setting has that name");
    }
  }
  return { settings, problems };
}
