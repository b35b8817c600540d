import type { Diagnostics, SourcePosition } from "@hacluster/blockrep/base";
import type { Medium } from "./model.ts";
import type { Word } from "./text.ts";
import { isIpv4, looksLikeIpv6, parseInteger } from "./values.ts";

/** `ucast IF ADDR` and `ucast6 IF ADDR`; undefined after a reported error. */
export function parseUcast(
  kind: "ucast" | "ucast6",
  at: SourcePosition,
  args: readonly Word[],
  port: number,
  diagnostics: Diagnostics,
): Medium | undefined {
  const [network, address, extra] = args;
  const example = kind === "ucast" ? "ucast eth0 192.168.0.28" : "ucast6 eth0 fe80::1";
  if (network === undefined || address === undefined) {
    const what = network === undefined ? "interface and address" : `address of the other node for ${network.text}`;
    diagnostics.error((network ?? { at }).at, `${kind} lacks the ${what}`, `write for example "${example}"`);
    return undefined;
  }
  if (extra !== undefined) {
    diagnostics.warning(extra.at, `"${extra.text}" is ignored: ${kind} names one peer`, `give each peer its own line`);
  }
  if (/^[0-9.]+$/.test(address.text) && !isIpv4(address.text)) {
    diagnostics.error(address.at, `"${address.text}" is not an IPv4 address`, `write for example "${example}"`);
    return undefined;
  }
  return { kind, interface: network.text, address: address.text, port, at };
}

const MCAST_PARTS = ["interface", "multicast group", "port", "ttl", "loop"] as const;

/** `mcast IF GROUP PORT TTL LOOP` and `mcast6`: all five are required; undefined after a reported error. */
export function parseMcast(
  kind: "mcast" | "mcast6",
  at: SourcePosition,
  args: readonly Word[],
  diagnostics: Diagnostics,
): Medium | undefined {
  const example = `write for example "${kind === "mcast" ? "mcast eth0 239.0.0.1 694 1 0" : "mcast6 eth0 ff02::1 694 1 0"}"`;
  const [network, group, port, ttl, loop] = args;
  if (!network || !group || !port || !ttl || !loop) {
    diagnostics.error(args.at(-1)?.at ?? at, `${kind} lacks the ${MCAST_PARTS[args.length]}`, example);
    return undefined;
  }
  const portNumber = parseInteger(port.text, 1, 65535);
  const ttlNumber = parseInteger(ttl.text, 0, 4);
  const loopNumber = parseInteger(loop.text, 0, 1);
  const first = Number.parseInt(group.text, 10);
  const goodGroup = kind === "mcast" ? isIpv4(group.text) && first >= 224 && first <= 239 : looksLikeIpv6(group.text);
  if (!goodGroup) diagnostics.error(group.at, `"${group.text}" is not a multicast address`, example);
  if (portNumber === undefined) diagnostics.error(port.at, `"${port.text}" is not a port 1..65535`, example);
  if (ttlNumber === undefined) diagnostics.error(ttl.at, `"${ttl.text}" is not a ttl 0..4`, example);
  if (loopNumber === undefined) diagnostics.error(loop.at, `loop is 0 or 1, not "${loop.text}"`, example);
  if (!goodGroup || portNumber === undefined || ttlNumber === undefined || loopNumber === undefined) return undefined;
  return {
    kind,
    interface: network.text,
    group: group.text,
    port: portNumber,
    ttl: ttlNumber,
    loop: loopNumber === 1,
    at,
  };
}
