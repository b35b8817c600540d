import { writeFileSync } from "node:fs";
import { isIPv6 } from "node:net";
import { addressText, readAddressArgument } from "../../config/address-argument.ts";
import type { AddressArgument } from "../../config/model.ts";
import { PROBE_WINDOW_MS, type ProbeResult, probeAddress } from "../addresses/address-probe.ts";
import { Announcements } from "../addresses/announcement.ts";
import {
  allAddresses,
  canonicalAddress,
  findAddress,
  interfaceOfSubnet,
  type LocalAddress,
  lookUpAddress,
} from "../addresses/local-addresses.ts";
import { runCommand } from "../run-command.ts";
import {
  type ActionResult,
  type BuiltinResource,
  failed,
  type ResourceAlarm,
  type ResourceSpec,
  reported,
  succeeded,
} from "./resource.ts";

export interface IpAddressOptions {
  /** Wait for the answer to the probe before an address is taken, in milliseconds; 0: do not probe. */
  readonly probeMs?: number;
  readonly onAlarm?: (alarm: ResourceAlarm) => void;
}

const COMMAND_LIMIT_MS = 10_000;
/** A look for conflicts is in no hurry: a busy other owner gets time to answer. */
const CHECK_WINDOW_MS = 500;

/**
 * IPaddr and IPaddr2: one address on one interface. `start` asks the network whether another machine has it, takes it
 * and tells the neighbours; `stop` gives it up. Both succeed when there is nothing to do.
 */
export class IpAddressResource implements BuiltinResource {
  readonly #options: IpAddressOptions;
  readonly #announcements = new Announcements();
  /** What this daemon took and did not give up since. */
  readonly #held = new Map<string, LocalAddress>();
  /** What it only found here: checked like the others, but not announced, for it may be a leftover that the peer owns. */
  readonly #seen = new Map<string, LocalAddress>();
  /** Addresses that another machine has, with its hardware address and the interface on which it answered. */
  readonly #conflicts = new Map<string, { readonly device: string; readonly mac: string }>();
  #checking = false;

  constructor(options: IpAddressOptions = {}) {
    this.#options = options;
  }

  async start(args: readonly string[]): Promise<ActionResult> {
    const argument = parse(args);
    if ("refusal" in argument) return failed(argument.refusal, 2);
    const { address } = argument;
    const shown = findAddress(address);
    if (shown !== undefined) return this.#alreadyHere(shown);

    const subnet = interfaceOfSubnet(address);
    const device = argument.interface ?? subnet?.interfaceName;
    const [present, probe] = await Promise.all([
      lookUpAddress(address),
      device === undefined ? undefined : this.#probe(device, address),
    ]);
    if (present !== undefined) return this.#alreadyHere(present);
    if (device === undefined || probe === undefined) {
      return failed(
        `IPaddr2: no interface is in the subnet of ${address}; name one: ${address}/${isIPv6(address) ? 64 : 24}/eth0`,
      );
    }
    if (probe.kind === "taken") return this.#refuse(address, device, probe.mac);

    const bits = argument.prefixBits ?? subnet?.prefixBits ?? (isIPv6(address) ? 128 : 32);
    const command = ["address", "add", `${address}/${bits}`, "dev", device];
    if (isIPv6(address)) {
      command.push("nodad"); // we have asked already, and the takeover must not wait a second for the kernel to ask again
    } else {
      command.push("broadcast", argument.broadcast ?? "+");
      if (argument.label !== undefined) command.push("label", `${device}:${argument.label}`);
    }
    const added = await runCommand("ip", command, { timeLimitMs: COMMAND_LIMIT_MS });
    if (added.exitCode !== 0 && (await lookUpAddress(address)) === undefined) {
      return failed(`IPaddr2: ip ${command.join(" ")}: ${added.stderr.trim()}`);
    }
    this.#hold({ address, interfaceName: device, prefixBits: bits });
    this.#announcements.announce(device, address);
    const unasked = probe.kind === "unasked" ? `\nnobody was asked whether ${address} is free: ${probe.reason}` : "";
    return succeeded(`${address}/${bits} is on ${device} now${unasked}`);
  }

  #alreadyHere(here: LocalAddress): ActionResult {
    this.#hold(here);
    this.#announcements.announce(here.interfaceName, here.address);
    return succeeded(`${here.address} is already on ${here.interfaceName}`);
  }

  #probe(device: string, address: string): Promise<ProbeResult> {
    const windowMs = this.#options.probeMs ?? PROBE_WINDOW_MS;
    if (windowMs === 0) return Promise.resolve({ kind: "free" });
    return probeAddress(device, address, windowMs);
  }

  #refuse(address: string, device: string, mac: string): ActionResult {
    const text = `${address} is in use on ${device} by another machine, hardware address ${mac}: it is not taken, two machines must not have it. Find the machine (the other node, still running?), take the address from it or switch it off; then "hacluster start" tries again`;
    this.#raise(address, device, mac, text);
    return failed(`IPaddr2: ${text}`);
  }

  #raise(address: string, device: string, mac: string, text: string): void {
    if (this.#conflicts.get(address)?.mac === mac) return;
    this.#conflicts.set(address, { device, mac });
    this.#options.onAlarm?.({ name: "address.conflict", key: address, text, details: { address, device, mac } });
  }

  #clear(address: string, text: string): void {
    if (!this.#conflicts.delete(address)) return;
    this.#options.onAlarm?.({ name: "address.conflict.over", key: address, text, details: { address } });
  }

  #hold(here: LocalAddress): void {
    this.#held.set(here.address, here);
    this.#seen.delete(here.address);
    this.#clear(here.address, `${here.address} was taken without an answer from another machine`);
  }

  async stop(args: readonly string[]): Promise<ActionResult> {
    const argument = parse(args);
    if ("refusal" in argument) return failed(argument.refusal, 2);
    const { address } = argument;
    this.#announcements.cease(address);
    const here = await lookUpAddress(address);
    const reason = here === undefined ? undefined : await remove(here);
    if (here !== undefined && reason !== undefined) return failed(`IPaddr2: ${reason}`);
    const owned = this.#held.delete(address) || here !== undefined;
    this.#seen.delete(address);
    // what was refused at the start stays refused until the other machine has left it
    if (owned) this.#clear(address, `${address} was given up here`);
    return succeeded(here === undefined ? `${address} is not on this node` : `${address} left ${here.interfaceName}`);
  }

  async status(args: readonly string[]): Promise<ActionResult> {
    const argument = parse(args);
    if ("refusal" in argument) return failed(argument.refusal, 2);
    const here = await lookUpAddress(argument.address);
    if (here === undefined) {
      this.#held.delete(argument.address);
      this.#seen.delete(argument.address);
      return reported(false, `${argument.address} is stopped`);
    }
    if (!this.#held.has(here.address)) this.#seen.set(here.address, here);
    return reported(true, `${here.address} is running on ${here.interfaceName}`);
  }

  /** Tell the neighbours again where the held addresses are: a partition healed, a link came back. */
  announceAll(): void {
    for (const { interfaceName, address } of this.#held.values()) this.#announcements.announce(interfaceName, address);
  }

  /** Ask once for every address here whether another machine has it too; a conflict is an alarm, once per machine. */
  async checkConflicts(): Promise<void> {
    if (this.#checking) return;
    this.#checking = true;
    try {
      await this.#checkRefused();
      for (const { address, interfaceName } of [...this.#held.values(), ...this.#seen.values()]) {
        const probe = await probeAddress(interfaceName, address, CHECK_WINDOW_MS);
        if (!this.#held.has(address) && !this.#seen.has(address)) continue; // given up meanwhile: its new owner has answered
        if (probe.kind === "free") this.#clear(address, `${address} is on this node alone again`);
        if (probe.kind !== "taken") continue;
        const text = `${address} is on this node and on another machine with hardware address ${probe.mac}: connections break. Take the address from one of them`;
        this.#raise(address, interfaceName, probe.mac, text);
      }
    } finally {
      this.#checking = false;
    }
  }

  async #checkRefused(): Promise<void> {
    for (const [address, { device }] of [...this.#conflicts]) {
      if (this.#held.has(address) || this.#seen.has(address)) continue;
      const probe = await probeAddress(device, address, CHECK_WINDOW_MS);
      if (probe.kind === "free" && !this.#held.has(address)) this.#clear(address, `${address} answers no more`);
    }
  }

  /**
   * Remove those of the named addresses that are on an interface though no service group of this node runs: left by a
   * daemon that was killed, by another program, or by hand.
   * @returns one sentence for each address removed, or not removed
   */
  async removeLeftovers(resources: readonly ResourceSpec[]): Promise<string[]> {
    const wanted = new Set<string>();
    for (const { args } of resources) {
      const argument = parse(args);
      if (!("refusal" in argument) && !this.#held.has(argument.address)) wanted.add(argument.address);
    }
    if (wanted.size === 0) return [];
    const said: string[] = [];
    for (const here of (await allAddresses()).filter((entry) => wanted.has(entry.address))) {
      const reason = await remove(here);
      said.push(
        reason === undefined
          ? `${here.address} was left on ${here.interfaceName} by an earlier run and is removed`
          : `${here.address} was left on ${here.interfaceName} by an earlier run and cannot be removed: ${reason}`,
      );
    }
    return said;
  }

  close(): void {
    this.#announcements.ceaseAll();
  }
}

type Parsed = (AddressArgument & { readonly address: string }) | { readonly refusal: string };

function parse(args: readonly string[]): Parsed {
  const text = addressText(args);
  const argument = readAddressArgument(text);
  if ("refusal" in argument) return { refusal: `IPaddr2: "${text}": ${argument.refusal}` };
  return { ...argument, address: canonicalAddress(argument.ip) };
}

/** @returns why the address is still there, or undefined */
async function remove(here: LocalAddress): Promise<string | undefined> {
  try {
    // otherwise the kernel removes every further address of the subnet along with its first one
    if (!isIPv6(here.address)) writeFileSync(`/proc/sys/net/ipv4/conf/${here.interfaceName}/promote_secondaries`, "1");
  } catch {
    // read-only in some containers: the way it is configured there
  }
  const command = ["address", "delete", `${here.address}/${here.prefixBits}`, "dev", here.interfaceName];
  const removed = await runCommand("ip", command, { timeLimitMs: COMMAND_LIMIT_MS });
  if ((await lookUpAddress(here.address)) === undefined) return undefined;
  return `ip ${command.join(" ")}: ${removed.stderr.trim()}`;
}
