import { readFileSync } from "node:fs";
import { BlockList, isIPv4, isIPv6, SocketAddress } from "node:net";
import { networkInterfaces } from "node:os";
import { runCommand } from "../run-command.ts";

/** An address of this machine. `prefixBits` as configured, needed to remove it. */
export interface LocalAddress {
  readonly address: string;
  readonly interfaceName: string;
  readonly prefixBits: number;
}

const COMMAND_LIMIT_MS = 10_000;

/** The kernel's spelling: lower case, zeros compressed. Anything that is no address stays as it is. */
export function canonicalAddress(text: string): string {
  const plain = text.split("%")[0] as string;
  return isIPv6(plain) ? new SocketAddress({ address: plain, family: "ipv6" }).address : plain;
}

/** The interface without a label: `eth0:1` is an address of eth0. */
function interfaceOf(name: string): string {
  return name.split(":")[0] as string;
}

/** Where this machine has an address, among its interfaces that are up and have carrier. Costs no process. */
export function findAddress(address: string): LocalAddress | undefined {
  const wanted = canonicalAddress(address);
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    for (const entry of entries ?? []) {
      if (entry.address !== wanted) continue;
      const prefixBits = Number(entry.cidr?.split("/")[1] ?? (isIPv4(wanted) ? 32 : 128));
      return { address: wanted, interfaceName: interfaceOf(name), prefixBits };
    }
  }
  return undefined;
}

/**
 * Where this machine has an address, also on an interface that is down or whose cable is out: Node does not list those,
 * yet the kernel keeps the address and uses it when the cable is back. A process is started only when such an interface
 * exists and the address was not found elsewhere.
 * @throws Error when the kernel cannot be asked
 */
export async function lookUpAddress(address: string): Promise<LocalAddress | undefined> {
  const shown = findAddress(address);
  if (shown !== undefined || allInterfacesShown()) return shown;
  const wanted = canonicalAddress(address);
  return (await allAddresses()).find((entry) => entry.address === wanted);
}

/** Whether networkInterfaces() shows every interface of this network namespace. */
function allInterfacesShown(): boolean {
  const shown = new Set(Object.keys(networkInterfaces()).map(interfaceOf));
  try {
    return readFileSync("/proc/net/dev", "utf8")
      .split("\n")
      .slice(2)
      .every((line) => line.trim() === "" || shown.has(line.split(":")[0]?.trim() ?? ""));
  } catch {
    return false;
  }
}

/** Every address of this machine. @throws Error when `ip` cannot tell */
export async function allAddresses(): Promise<LocalAddress[]> {
  const result = await runCommand("ip", ["-json", "address", "show"], { timeLimitMs: COMMAND_LIMIT_MS });
  if (result.exitCode !== 0) throw new Error(`ip -json address show: ${result.stderr.trim()}`);
  return parseAddressList(result.stdout);
}

/** Output of `ip -json address show`. */
export function parseAddressList(json: string): LocalAddress[] {
  const links = JSON.parse(json) as { ifname?: string; addr_info?: { local?: string; prefixlen?: number }[] }[];
  return links.flatMap((link) =>
    (link.addr_info ?? []).flatMap((info) =>
      link.ifname === undefined || info.local === undefined || info.prefixlen === undefined
        ? []
        : [{ address: info.local, interfaceName: link.ifname, prefixBits: info.prefixlen }],
    ),
  );
}

/**
 * The interface whose own address shares the smallest subnet with this one, as Heartbeat's findif chooses where the line
 * names none.
 */
export function interfaceOfSubnet(address: string): LocalAddress | undefined {
  const family = isIPv4(address) ? "ipv4" : "ipv6";
  let best: LocalAddress | undefined;
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    for (const entry of entries ?? []) {
      if (entry.family.toLowerCase() !== family || entry.internal || entry.cidr === null) continue;
      const prefixBits = Number(entry.cidr.split("/")[1]);
      if (entry.address.startsWith("fe80:") || prefixBits <= (best?.prefixBits ?? 0)) continue;
      const subnet = new BlockList();
      subnet.addSubnet(entry.address, prefixBits, family);
      if (subnet.check(address, family))
        best = { address: entry.address, interfaceName: interfaceOf(name), prefixBits };
    }
  }
  return best;
}

/** Hardware addresses of this machine, lower case: an answer from one of them is our own. */
export function ownHardwareAddresses(): ReadonlySet<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((entries) => (entries ?? []).map((entry) => entry.mac)));
}
