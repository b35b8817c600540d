import { type Diagnostics, nearestWord, type SourcePosition } from "@hacluster/blockrep/base";
import type { HaCf } from "./model.ts";

/** Where things stand in the file. */
export interface Places {
  /** The value of a directive, where it was set. */
  of(directive: string): SourcePosition | undefined;
  /** A medium was named, and refused already. */
  readonly mediaBroken: boolean;
}

/** @see Heartbeat 3.0.6, timers and their constraints */
export function checkTimes(haCf: HaCf, places: Places, diagnostics: Diagnostics): void {
  const at = (...names: string[]): SourcePosition => {
    for (const name of names) {
      const set = places.of(name);
      if (set !== undefined) return set;
    }
    return { file: haCf.file, line: 1, column: 1 };
  };
  const { keepaliveMs, deadtimeMs, warntimeMs, initdeadMs, deadpingMs } = haCf;
  if (deadtimeMs <= 2 * keepaliveMs) {
    diagnostics.error(
      at("deadtime", "keepalive"),
      `deadtime (${deadtimeMs}ms) is not more than twice keepalive (${keepaliveMs}ms): one late packet would be a death`,
      `write "deadtime ${4 * keepaliveMs}ms" or more`,
    );
  }
  if (initdeadMs < deadtimeMs) {
    diagnostics.error(
      at("initdead", "deadtime"),
      `initdead (${initdeadMs}ms) is smaller than deadtime (${deadtimeMs}ms)`,
      `write "initdead ${2 * deadtimeMs}ms"`,
    );
  } else if (initdeadMs < 10_000) {
    diagnostics.warning(
      at("initdead"),
      `initdead (${initdeadMs}ms) is under 10 s, which a network may need after boot`,
    );
  }
  if (deadpingMs <= 2 * keepaliveMs && deadtimeMs > 2 * keepaliveMs) {
    diagnostics.error(
      at("deadping", "keepalive"),
      `deadping (${deadpingMs}ms) is not more than twice keepalive (${keepaliveMs}ms)`,
      `write "deadping ${4 * keepaliveMs}ms" or more`,
    );
  }
  if (warntimeMs >= deadtimeMs) {
    diagnostics.warning(
      at("warntime"),
      `warntime (${warntimeMs}ms) is not below deadtime (${deadtimeMs}ms), so nothing warns before a node is declared dead`,
    );
  }
}

/** What a file must have as a whole, and what is odd about it. */
export function checkCompleteness(haCf: HaCf, places: Places, diagnostics: Diagnostics): void {
  const top = { file: haCf.file, line: 1, column: 1 };
  if (haCf.media.length === 0 && !places.mediaBroken) {
    diagnostics.error(top, "no medium: nothing says how to reach the other node", 'write for example "bcast eth0"');
  }
  if (haCf.nodes.length === 0) {
    diagnostics.error(top, "no node", 'write "node NAME" for each machine, NAME as "uname -n" prints it');
  }
  if (haCf.nodes.length === 1) {
    diagnostics.warning(haCf.nodes[0]!.at, "only one node: there is nobody to take over");
  }
  if (haCf.nodes.length > 2) {
    diagnostics.warning(haCf.nodes[2]!.at, "haresources serves two nodes, further ones hold nothing");
  }
  for (const device of haCf.stonith) {
    if (device.host === undefined || device.host === "*") continue;
    if (haCf.nodes.some((n) => n.name === device.host)) continue;
    const near = nearestWord(
      device.host,
      haCf.nodes.map((n) => n.name),
    );
    diagnostics.warning(
      device.at,
      `stonith_host ${device.host} names no node, so no machine uses this device`,
      near === undefined ? 'write the name of a node or "*"' : `write "${near}"`,
    );
  }
  if (haCf.autoFailback === "legacy") {
    const at = places.of("auto_failback");
    diagnostics.warning(
      at ?? top,
      at === undefined ? "auto_failback is not set and means legacy" : "auto_failback legacy is an old protocol",
      'write "auto_failback on" (groups return by themselves) or "auto_failback off" on both nodes',
    );
  }
}
