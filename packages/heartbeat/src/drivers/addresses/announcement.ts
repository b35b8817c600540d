import { type ChildProcess, spawn } from "node:child_process";
import { isIPv4 } from "node:net";
import { NEIGHBOUR_DISCOVERY_SCRIPT } from "./neighbour-discovery.ts";

/** Repeated, a second apart, because a switch or neighbour may miss one (RFC 5227 says two at least). */
const TIMES = 5;

/**
 * Tells the neighbours, again and again for some seconds, that an address is here. IPv4: gratuitous ARP requests, and
 * replies for devices that learn from those only. IPv6: unsolicited neighbour advertisements with the override flag.
 * Runs beside the takeover, which does not wait for it, and ends when the address leaves.
 */
export class Announcements {
  readonly #running = new Map<string, ChildProcess[]>();

  announce(interfaceName: string, address: string): void {
    this.cease(address);
    const times = String(TIMES);
    const commands: [string, string[]][] = isIPv4(address)
      ? [
          ["arping", ["-q", "-U", "-c", times, "-I", interfaceName, address]],
          ["arping", ["-q", "-A", "-c", times, "-I", interfaceName, address]],
        ]
      : [["perl", ["-e", NEIGHBOUR_DISCOVERY_SCRIPT, "advertise", interfaceName, address, times]]];
    const children = commands.map(([program, args]) => {
      const child = spawn(program, args, { stdio: "ignore" });
      child.on("error", () => {
        // missing: start says so by name; the address works, neighbours only learn later
      });
      child.unref();
      return child;
    });
    this.#running.set(address, children);
  }

  /** No more announcements of this address: another machine may have it next. */
  cease(address: string): void {
    for (const child of this.#running.get(address) ?? []) child.kill("SIGKILL");
    this.#running.delete(address);
  }

  ceaseAll(): void {
    for (const address of [...this.#running.keys()]) this.cease(address);
  }
}
