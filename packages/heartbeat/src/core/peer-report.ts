import { formatHex, parseDecimal, parseHex } from "../wire/message.ts";
import { ALL, NONE, setBits, setName } from "./group-set.ts";

/**
 * What one hacluster node tells another in each numbered message, beyond what Heartbeat has words for. A real Heartbeat
 * ignores the two extra fields. Each report is complete, so the newest one is enough, whatever was lost before.
 */
export interface Report {
  /** Sets of which anything may run on the sender: it shrinks only after the last stop. Named as the sender sees them. */
  readonly hold: number;
  /** Nothing of the sender is in motion. */
  readonly stable: boolean;
  /** Its part in a standby conversation, with the set as the giver names it. */
  readonly move: MovePhase;
  readonly moveSet: number;
  /** Newest generation of the receiver that the sender has heard; 0 for none. */
  readonly saw: number;
  /** Sets with a group that failed to start on the sender. */
  readonly failed: number;
  /** The sender has declared the receiver dead. */
  readonly considersDead: boolean;
  /** The sender has released everything and is about to end. */
  readonly leaving: boolean;
  /** Ping nodes that answer the sender; absent where ipfail is not configured. */
  readonly pings?: number | undefined;
}

export type MovePhase = "none" | "me" | "other" | "give" | "done" | "take";
const PHASES: readonly string[] = ["none", "me", "other", "give", "done", "take"];

/** `hacluster=1` marks a node of this kind; `hcstate` carries its report once it knows what runs on it. */
export const KIND_FIELD = "hacluster";
export const REPORT_FIELD = "hcstate";

export function formatReport(report: Report): string {
  return [
    `hold:${setName(report.hold)}`,
    `stable:${report.stable ? 1 : 0}`,
    `move:${report.move}/${setName(report.moveSet)}`,
    `saw:${formatHex(report.saw)}`,
    `failed:${setName(report.failed)}`,
    `peer:${report.considersDead ? "dead" : "alive"}`,
    `leaving:${report.leaving ? 1 : 0}`,
    ...(report.pings === undefined ? [] : [`pings:${report.pings}`]),
  ].join(",");
}

/** Undefined when a part is missing or wrong. Unknown parts are left to newer versions. */
export function parseReport(text: string | undefined): Report | undefined {
  if (text === undefined || text.length > 512) return undefined;
  const parts = new Map<string, string>();
  for (const part of text.split(",")) {
    const at = part.indexOf(":");
    if (at > 0) parts.set(part.slice(0, at), part.slice(at + 1));
  }
  const [move, moveSetName] = (parts.get("move") ?? "").split("/");
  const hold = setBits(parts.get("hold"));
  const moveSet = setBits(moveSetName);
  const saw = parseHex(parts.get("saw") ?? "");
  const failed = setBits(parts.get("failed"));
  if (hold === undefined || moveSet === undefined || saw === undefined || failed === undefined) return undefined;
  if (!PHASES.includes(move ?? "")) return undefined;
  return {
    hold,
    stable: parts.get("stable") === "1",
    move: move as MovePhase,
    moveSet,
    saw,
    failed,
    considersDead: parts.get("peer") === "dead",
    leaving: parts.get("leaving") === "1",
    pings: parseDecimal(parts.get("pings") ?? ""),
  };
}

/** What may be assumed of a peer that has not reported: that it holds everything. */
export const UNREPORTED: Report = {
  hold: ALL,
  stable: false,
  move: "none",
  moveSet: NONE,
  saw: 0,
  failed: NONE,
  considersDead: false,
  leaving: false,
};
