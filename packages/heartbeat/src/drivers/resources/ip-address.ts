import { spawn } from "node:child_process";
import { networkInterfaces } from "node:os";
import { runCommand } from "../run-command.ts";
import { type ActionResult, type BuiltinResource, failed, reported, succeeded } from "./resource.ts";

/** `ip[/netmaskbits[/interface[:label][/broadcast]]]`; a third part that starts with a digit is the broadcast address. */
export interface AddressArgument {
  readonly address: string;
  readonly family: 4 | 6;
  readonly prefixBits: number | undefined;
  readonly interfaceName: string | undefined;
  readonly label: string | undefined;
  readonly broadcast: string | undefined;
}

/** Gratuitous ARP is repeated because a switch or neighbour may miss one; a second apart as RFC 5227 advises. */
const ANNOUNCEMENTS = 5;
const COMMAND_LIMIT_MS = 10_000;

/** @throws Error with the reason when the text is not of that form. */
export function parseAddressArgument(text: string): AddressArgument {
  const parts = text.split("/");
  const address = parts[0] ?? "";
  const family = address.includes(":") ? 6 : 4;
  if (family === 4 && !isIpv4(address)) throw new Error(`"${address}" is not an IP address`);
  let prefixBits: number | undefined;
  if (parts[1] !== undefined && parts[1] !== "") {
    prefixBits = isIpv4(parts[1]) ? maskBits(parts[1]) : Number(parts[1]);
    if (!Number.isInteger(prefixBits) || prefixBits < 0 || prefixBits > (family === 4 ? 32 : 128)) {
      throw new Error(`"${parts[1]}" is not a netmask of an IPv${family} address`);
    }
  }
  let device: string | undefined;
  let broadcast: string | undefined;
  if (parts[2] !== undefined && /^\d/.test(parts[2])) broadcast = parts[2];
  else {
    device = parts[2];
    broadcast = parts[3];
  }
  const [interfaceName, label] = (device ?? "").split(":", 2);
  return {
    address,
    family,
    prefixBits,
    interfaceName: interfaceName === "" ? undefined : interfaceName,
    label: label === undefined ? undefined : `${interfaceName}:${label}`,
    broadcast: broadcast === "" ? undefined : broadcast,
  };
}

function isIpv4(text: string): boolean {
  const octets = text.split(".");
  return octets.length === 4 && octets.every((o) => /^\d{1,3}$/.test(o) && Number(o) <= 255);
}

function maskBits(mask: string): number {
  const bits = mask
    .split(".")
    .map((octet) => Number(octet).toString(2).padStart(8, "0"))
    .join("");
  return /^1*0*$/.test(bits) ? (bits.indexOf("0") === -1 ? 32 : bits.indexOf("0")) : Number.NaN;
}

/** Interface and prefix of an address that this machine has, as the kernel tells at this moment. */
export function findAddress(address: string): { interfaceName: string; prefixBits: number } | undefined {
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    for (const entry of entries ?? []) {
      if (entry.address !== address) continue;
      return { interfaceName: name, prefixBits: Number(entry.cidr?.split("/")[1] ?? 32) };
    }
  }
  return undefined;
}

/** The interface with an address in the same subnet, as Heartbeat's findif chooses one when the line names none. */
function interfaceOfSubnet(argument: AddressArgument): { interfaceName: string; prefixBits: number } | undefined {
  if (argument.family === 6) return undefined;
  const wanted = ipv4Number(argument.address);
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    for (const entry of entries ?? []) {
      if (entry.family !== "IPv4" || entry.internal) continue;
      const bits = Number(entry.cidr?.split("/")[1] ?? 32);
      const mask = bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
      if (((ipv4Number(entry.address) ^ wanted) & mask) === 0) return { interfaceName: name, prefixBits: bits };
    }
  }
  return undefined;
}

function ipv4Number(address: string): number {
  return address.split(".").reduce((value, octet) => (value * 256 + Number(octet)) >>> 0, 0);
}

/**
 * IPaddr and IPaddr2: one address on one interface. `start` takes it and tells the neighbours; `stop` gives it up.
 * Both succeed when there is nothing to do.
 */
export class IpAddressResource implements BuiltinResource {
  async start(args: readonly string[]): Promise<ActionResult> {
    let argument: AddressArgument;
    try {
      argument = parseAddressArgument(args[0] ?? "");
    } catch (error) {
      return failed(`IPaddr2: ${(error as Error).message}`, 2);
    }
    const here = findAddress(argument.address);
    if (here !== undefined) {
      announce(argument, here.interfaceName);
      return succeeded(`${argument.address} is already on ${here.interfaceName}`);
    }
    const subnet = interfaceOfSubnet(argument);
    const device = argument.interfaceName ?? subnet?.interfaceName;
    if (device === undefined) {
      return failed(
        `IPaddr2: no interface is in the subnet of ${argument.address}; name one: ${argument.address}/24/eth0`,
      );
    }
    const bits = argument.prefixBits ?? subnet?.prefixBits ?? (argument.family === 4 ? 32 : 128);
    const command = ["address", "add", `${argument.address}/${bits}`, "dev", device];
    if (argument.family === 4) command.push("broadcast", argument.broadcast ?? "+");
    else command.push("nodad"); // the takeover must not wait for duplicate address detection
    if (argument.label !== undefined && argument.family === 4) command.push("label", argument.label);
    const added = await runCommand("ip", command, { timeLimitMs: COMMAND_LIMIT_MS });
    if (added.exitCode !== 0 && findAddress(argument.address) === undefined) {
      return failed(`IPaddr2: ip ${command.join(" ")}: ${added.stderr.trim()}`);
    }
    announce(argument, device);
    return succeeded(`${argument.address}/${bits} is on ${device} now`);
  }

  async stop(args: readonly string[]): Promise<ActionResult> {
    let argument: AddressArgument;
    try {
      argument = parseAddressArgument(args[0] ?? "");
    } catch (error) {
      return failed(`IPaddr2: ${(error as Error).message}`, 2);
    }
    const here = findAddress(argument.address);
    if (here === undefined) return succeeded(`${argument.address} is not on this node`);
    const command = ["address", "delete", `${argument.address}/${here.prefixBits}`, "dev", here.interfaceName];
    const removed = await runCommand("ip", command, { timeLimitMs: COMMAND_LIMIT_MS });
    if (findAddress(argument.address) !== undefined) {
      return failed(`IPaddr2: ip ${command.join(" ")}: ${removed.stderr.trim()}`);
    }
    return succeeded(`${argument.address} is gone from ${here.interfaceName}`);
  }

  status(args: readonly string[]): Promise<ActionResult> {
    let argument: AddressArgument;
    try {
      argument = parseAddressArgument(args[0] ?? "");
    } catch (error) {
      return Promise.resolve(failed(`IPaddr2: ${(error as Error).message}`, 2));
    }
    const here = findAddress(argument.address);
    return Promise.resolve(
      here === undefined
        ? reported(false, `${argument.address} is stopped`)
        : reported(true, `${argument.address} is running on ${here.interfaceName}`),
    );
  }
}

/** Tell the neighbours where the address is now. Runs on beside the takeover, which does not wait for it. */
function announce(argument: AddressArgument, device: string): void {
  if (argument.family !== 4) return; // the kernel itself sends neighbour advertisements for IPv6
  const child = spawn("arping", ["-q", "-U", "-c", String(ANNOUNCEMENTS), "-I", device, argument.address], {
    stdio: "ignore",
    detached: true,
  });
  child.on("error", () => {
    // arping is missing: set-up reports it by name; the address works, neighbours only learn later
  });
  child.unref();
}
