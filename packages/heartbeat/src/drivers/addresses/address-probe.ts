import { runCommand } from "../run-command.ts";
import { ownHardwareAddresses } from "./local-addresses.ts";
import { NEIGHBOUR_DISCOVERY_SCRIPT } from "./neighbour-discovery.ts";

/** What one ARP request or neighbour solicitation brought to light. */
export type ProbeResult =
  | { readonly kind: "free" }
  /** `mac` in lower case, or "unknown" when the answer did not carry it. */
  | { readonly kind: "taken"; readonly mac: string }
  /** Nothing was asked: the interface is down or has no ARP, or the program is missing. */
  | { readonly kind: "unasked"; readonly reason: string };

/**
 * How long an answer is waited for once the question is on the wire. A neighbour on a LAN answers within 1 ms, its
 * kernel also when its programs are stuck.
 */
export const PROBE_WINDOW_MS = 40;

/**
 * How long the program may take besides: 10 ms, but 100 ms were measured while other programs held both processors. It
 * counts the window itself, from the question on; otherwise a busy machine would take every address for free.
 */
const PROGRAM_LIMIT_MS = 2000;
const NOT_FOUND = 127;

/**
 * Ask once whether another machine has an address, without using the address.
 * @param windowMs 1 or more; the result comes this long after the question, an answer at once
 */
export async function probeAddress(
  interfaceName: string,
  address: string,
  windowMs: number = PROBE_WINDOW_MS,
): Promise<ProbeResult> {
  const args = ["-e", NEIGHBOUR_DISCOVERY_SCRIPT, "probe", interfaceName, address, String(windowMs)];
  const result = await runCommand("perl", args, { timeLimitMs: windowMs + PROGRAM_LIMIT_MS });
  const said = result.stdout.trim();
  if (said === "free") return { kind: "free" };
  // a second interface of this machine on the same LAN answers for the first one: that is no conflict
  if (ownHardwareAddresses().has(said)) return { kind: "free" };
  if (isAnswer(said)) return { kind: "taken", mac: said };
  if (result.exitCode === NOT_FOUND) return { kind: "unasked", reason: "perl is missing (Debian package perl-base)" };
  return { kind: "unasked", reason: result.stderr.trim() || `the probe ended with exit code ${result.exitCode}` };
}

function isAnswer(text: string): boolean {
  return text === "unknown" || /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(text);
}
