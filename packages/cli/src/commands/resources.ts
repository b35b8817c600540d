import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { ResolvedResource } from "@hacluster/blockrep";
import { HaError } from "@hacluster/blockrep/base";
import { startDaemon } from "../daemon/start-up.ts";
import { CommandFailure, complain } from "./context.ts";
import { blockrepStatusIfUp, callBlockrep } from "./control.ts";

/** What the resource's process remembers of how the node went down. */
interface StartFacts {
  readonly degraded?: boolean;
  readonly peerOutdated?: boolean;
}

/** Start the resource's process unless it runs, attach and connect. */
export async function bringUp(
  resource: ResolvedResource,
  options: { config?: string | undefined; attach?: string | undefined },
): Promise<void> {
  if ((await blockrepStatusIfUp(resource.name)) !== undefined) {
    await callBlockrep(resource.name, "up");
    return;
  }
  refuseBesideKernel(resource);
  await startDaemon([
    "blockrep",
    resource.name,
    ...(options.config === undefined ? [] : ["--config", resolve(options.config)]),
    "--attach",
    options.attach ?? "auto",
  ]);
}

/** A loaded drbd.ko that serves the same minor would write to the same disk. */
function refuseBesideKernel(resource: ResolvedResource): void {
  const proc = readIfThere("/proc/drbd");
  for (const volume of resource.volumes) {
    const line = proc.split("\n").find((text) => text.trimStart().startsWith(`${volume.minor}: cs:`));
    if (line !== undefined && !line.includes("cs:Unconfigured")) {
      throw new CommandFailure(
        `hacluster: the kernel's DRBD serves minor ${volume.minor} (${line.trim()}): run "drbdadm down ${resource.name}" first`,
      );
    }
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** How often somebody who watches the start is told what it waits for. */
const REPORT_EVERY_MS = 10_000;

/**
 * Wait for the peer, or for both disks to be UpToDate. Without `seconds` as startup {} says: degr-wfc-timeout after a
 * crash as a lonely Primary, outdated-wfc-timeout when the peer is known to be outdated, else wfc-timeout; 0: for ever.
 */
export async function waitForPeer(
  resource: ResolvedResource,
  what: "connected" | "synced",
  seconds: string | undefined,
): Promise<void> {
  const { timeoutMs, reason } = await chosenTimeout(resource, seconds);
  const limit = timeoutMs === 0 ? "for ever" : `up to ${timeoutMs / 1000} s`;
  const started = performance.now();
  const say = (): void => {
    const waited = Math.round((performance.now() - started) / 1000);
    complain(
      `${resource.name}: waiting for ${what === "connected" ? "the peer" : "both disks to be UpToDate"}, ${limit}${reason}${waited > 0 ? `, ${waited} s so far` : ""}`,
    );
  };
  const first = setTimeout(say, 300); // a peer that is there answers sooner, and nobody need read of it
  const timer = setInterval(say, REPORT_EVERY_MS);
  try {
    await callBlockrep(resource.name, "wait", { for: what, ...(timeoutMs === 0 ? {} : { timeoutMs }) });
  } catch (error) {
    if (!(error instanceof HaError) || error.code !== "HA_TIMEOUT") throw error;
    // drbdadm wait-connect: 5 when the time is over
    throw new CommandFailure(`${resource.name}: not ${what} within ${timeoutMs / 1000} s${reason}`, 5);
  } finally {
    clearTimeout(first);
    clearInterval(timer);
  }
}

async function chosenTimeout(
  resource: ResolvedResource,
  seconds: string | undefined,
): Promise<{ timeoutMs: number; reason: string }> {
  if (seconds !== undefined) {
    const value = Number(seconds);
    if (!Number.isFinite(value) || value < 0)
      throw new CommandFailure(`hacluster: --timeout ${seconds}: write seconds`, 2);
    return { timeoutMs: value * 1000, reason: "" };
  }
  const status = (await callBlockrep(resource.name, "status")) as { start?: StartFacts };
  const { startup } = resource;
  if (status.start?.peerOutdated === true) {
    return { timeoutMs: startup.outdatedWfcTimeoutMs, reason: " (outdated-wfc-timeout)" };
  }
  if (status.start?.degraded === true) return { timeoutMs: startup.degrWfcTimeoutMs, reason: " (degr-wfc-timeout)" };
  return { timeoutMs: startup.wfcTimeoutMs, reason: " (wfc-timeout)" };
}
