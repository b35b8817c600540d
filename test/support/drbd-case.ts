import type { KernelPair, Side, SideName } from "./kernel-pair.ts";

export type Protocol = "A" | "B" | "C";

/**
 * The user's r0.res for a test: protocol, with or without the shared secret, and times that make an outage end within
 * seconds. A machine in User-Mode Linux answers in some 10 ms when idle, so the ping-timeout stays as it is.
 */
export function resourceFor(protocol: Protocol, secret: boolean): (text: string) => string {
  return (text) => {
    let edited = replaced(text, /^protocol C;/m, `protocol ${protocol};`);
    if (!secret) edited = replaced(edited, /^\s*(cram-hmac-alg|shared-secret) .*\n/gm, "");
    for (const [name, value] of Object.entries({ "connect-int": 2, "ping-int": 2, timeout: 20 }))
      edited = replaced(edited, new RegExp(`(^\\s*${name} )\\d+;`, "m"), `$1${value};`);
    return edited;
  };
}

export function replaced(text: string, pattern: RegExp, by: string): string {
  if (text.search(pattern) < 0) throw new Error(`the resource file has nothing like ${pattern}`);
  return text.replace(pattern, by);
}

/** Wait until both say: connected, both disks UpToDate, nothing out of sync, and this side Primary (or none). */
export async function settleUpToDate(
  pair: KernelPair,
  primary: SideName | "none",
  protocol: Protocol = "C",
  timeoutMs = 60_000,
): Promise<void> {
  const role = (side: SideName): string => (side === primary ? "Primary" : "Secondary");
  const kernel = `cs:Connected ro:${role("kernel")}/${role("ours")} ds:UpToDate/UpToDate ${protocol}.*\n.* oos:0\n`;
  await pair.settle(new RegExp(kernel), new RegExp(`^Connected ${role("ours")} UpToDate/UpToDate$`), timeoutMs);
}

/** Bring both up and make `source`'s data the data: the first full sync, after which it is Primary. */
export async function firstSync(pair: KernelPair, source: Side, protocol: Protocol = "C"): Promise<void> {
  await source.adm("up", "r0");
  await source.other.adm("up", "r0");
  await pair.settle(/cs:Connected .* ds:Inconsistent\/Inconsistent/, /^Connected /, 30_000);
  await source.adm("primary", "--force", "r0");
  await settleUpToDate(pair, source.name, protocol, 120_000);
}

/** Roles change hands: `to` is Primary afterwards. */
export async function handOver(pair: KernelPair, to: Side, protocol: Protocol = "C"): Promise<void> {
  await to.other.adm("secondary", "r0");
  await to.adm("primary", "r0");
  await settleUpToDate(pair, to.name, protocol);
}

/** Bytes that a resync copied while `body` ran, as our node counts them. */
export async function resyncedBy(pair: KernelPair, body: () => Promise<void>): Promise<number> {
  const before = (await pair.blockrep.resource()).resyncedBytes;
  await body();
  return (await pair.blockrep.resource()).resyncedBytes - before;
}
