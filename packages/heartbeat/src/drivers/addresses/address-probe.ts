import { spawn } from "node:child_process";
import { isIPv4 } from "node:net";
import { ownHardwareAddresses } from "./local-addresses.ts";
import { NEIGHBOUR_DISCOVERY_SCRIPT } from "./neighbour-discovery.ts";

/** What one ARP request or neighbour solicitation brought to light. */
export type ProbeResult =
  | { readonly kind: "free" }
  /** `mac` in lower case, or "unknown" when the answer did not carry it. */
  | { readonly kind: "taken"; readonly mac: string }
  /** Nothing was asked: the interface has no ARP, or the program is missing. */
  | { readonly kind: "unasked"; readonly reason: string };

/**
 * How long an answer is waited for once the question is on the wire. A neighbour on a LAN answers within 1 ms, its
 * kernel also when its programs are stuck.
 */
export const PROBE_WINDOW_MS = 40;

/**
 * How long the program may take until it asks: 5 ms to 15 ms, but 100 ms were measured while other programs held both
 * processors. Silence counts from the question on, or a busy machine would take every address for free.
 */
const ASK_LIMIT_MS = 1000;

/** Exit codes of arping that mean that it could not ask (no such interface, down, no ARP). */
const ARPING_UNUSABLE = 2;
/** Of stdbuf: there is no such program. */
const NOT_FOUND = 127;

/**
 * Ask once whether another machine has an address, without using the address. arping counts its time limit in whole
 * seconds, so it is not waited for: an answer ends it at once, silence is what there is when the window closes.
 * `stdbuf` makes it say at once that it asks; into a pipe it would say so at its end only.
 * @param windowMs 1 or more; the result comes at most this long after the question
 * @see RFC 5227 section 2.1.1 (ARP probe)
 */
export function probeAddress(
  interfaceName: string,
  address: string,
  windowMs: number = PROBE_WINDOW_MS,
): Promise<ProbeResult> {
  const [program, args] = isIPv4(address)
    ? ["stdbuf", ["-oL", "arping", "-D", "-f", "-c", "1", "-w", "1", "-I", interfaceName, address]]
    : ["perl", ["-e", NEIGHBOUR_DISCOVERY_SCRIPT, "probe", interfaceName, address]];
  return new Promise((resolve) => {
    let said = "";
    let complained = "";
    let asked = false;
    let settled = false;
    const child = spawn(program as string, args as string[], { stdio: ["ignore", "pipe", "pipe"] });
    const finish = (result: ProbeResult): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      child.kill("SIGKILL");
      child.stdout.destroy();
      child.stderr.destroy();
      resolve(result);
    };
    const late = `${program} did not ask within ${ASK_LIMIT_MS} ms`;
    let timer = setTimeout(() => finish({ kind: "unasked", reason: late }), ASK_LIMIT_MS);
    const missing = isIPv4(address)
      ? "arping or stdbuf is missing (Debian packages iputils-arping, coreutils)"
      : "perl is missing (Debian package perl-base)";
    child.on("error", () => finish({ kind: "unasked", reason: missing }));
    child.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
      const mac = macIn(said);
      if (mac !== undefined) return finish(judge(mac));
      if (asked || settled) return;
      asked = true;
      clearTimeout(timer);
      timer = setTimeout(() => finish({ kind: "free" }), windowMs);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      complained += chunk.toString("latin1");
    });
    child.on("close", (code) => {
      const mac = macIn(said);
      if (mac !== undefined) finish(judge(mac));
      else if (code === 0) finish({ kind: "free" });
      else if (code === NOT_FOUND) finish({ kind: "unasked", reason: missing });
      else if (isIPv4(address) && code !== ARPING_UNUSABLE && complained === "") finish(judge("unknown"));
      else finish({ kind: "unasked", reason: complained.trim() || `${program} ended with exit code ${code}` });
    });
  });
}

/** The hardware address in what arping (`[02:00:00:00:00:1C]`) or the script above (the whole line) printed. */
export function macIn(text: string): string | undefined {
  const found = /(?:^|\[)((?:[0-9a-f]{2}:){5,}[0-9a-f]{2}|unknown)(?:\]|$)/im.exec(text)?.[1];
  return found?.toLowerCase();
}

/** A second interface of this machine on the same LAN answers for the first one: that is no conflict. */
function judge(mac: string): ProbeResult {
  return ownHardwareAddresses().has(mac) ? { kind: "free" } : { kind: "taken", mac };
}
