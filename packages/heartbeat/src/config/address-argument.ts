import type { AddressArgument } from "./model.ts";
import { isIpv4, looksLikeIpv6, parseInteger, prefixBitsOfNetmask } from "./values.ts";

/**
 * `ip[/netmask[/interface[:label]][/broadcast]]`; a third part that begins with a digit is the broadcast address.
 * The one parser of this form: the configuration check and the resource itself go by it.
 * @returns the reason when the text is not of that form
 * @see Heartbeat 3.0.6, arguments of IPaddr and IPaddr2
 */
export function readAddressArgument(text: string): AddressArgument | { readonly refusal: string } {
  const [ip = "", mask, third, fourth, ...more] = text.split("/");
  const v6 = looksLikeIpv6(ip);
  if (!isIpv4(ip) && !v6) return { refusal: `"${ip}" is not an IP address` };
  if (more.length > 0) return { refusal: "has more than address, netmask, interface and broadcast" };
  let prefixBits: number | undefined;
  if (mask !== undefined && mask !== "") {
    prefixBits = parseInteger(mask, 0, v6 ? 128 : 32) ?? (v6 ? undefined : prefixBitsOfNetmask(mask));
    if (prefixBits === undefined) return { refusal: `"${mask}" is not a netmask of 0..${v6 ? 128 : 32} bits` };
  }
  const thirdIsBroadcast = third !== undefined && /^[0-9]/.test(third);
  if (thirdIsBroadcast && fourth !== undefined) return { refusal: "has two broadcast addresses" };
  const broadcast = thirdIsBroadcast ? third : fourth;
  if (broadcast !== undefined && broadcast !== "" && !isIpv4(broadcast)) {
    return { refusal: `"${broadcast}" is not a broadcast address` };
  }
  const [network, label] = thirdIsBroadcast || third === undefined ? [] : third.split(":");
  return {
    ip,
    prefixBits,
    interface: network === "" ? undefined : network,
    label: label === "" ? undefined : label,
    broadcast: broadcast === "" ? undefined : broadcast,
  };
}

/**
 * The address among the arguments of IPaddr or IPaddr2. `::` separates arguments and is also part of an IPv6 address;
 * these scripts take one argument only, so what was cut at `::` belongs together: `IPaddr2::fd00::5/64/eth0`.
 */
export function addressText(args: readonly string[]): string {
  const text = args.join("::");
  return args.length > 1 && looksLikeIpv6(text.split("/")[0] ?? "") ? text : (args[0] ?? "");
}
