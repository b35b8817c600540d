import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { ResolvedResource } from "@hacluster/blockrep";
import { HaError } from "@hacluster/blockrep/base";
import { startDaemon } from "../daemon/start-up.ts";
import { ExitCode } from "../exit-codes.ts";
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

/** Seconds as text of the command line; what is left out is as startup {} says. */
export interface WaitTimes {
  /** Instead of wfc-timeout, and of the other two unless they are given as well. */
  readonly seconds?: string;
  readonly degraded?: string;
  readonly outdated?: string;
  /** Go on waiting when the resource is StandAlone. */
  readonly afterSplitBrain?: boolean;
}

/**
 * Wait for the peer, or for both disks to be UpToDate. Without times as startup {} says: degr-wfc-timeout after a
 * crash as a lonely Primary, outdated-wfc-timeout when the peer is known to be outdated, else wfc-timeout; 0: for ever.
 * @throws CommandFailure (5) when the time is over, or when after a split brain there is nothing to wait for
 */
export async function waitForPeer(
  resource: ResolvedResource,
  what: "connected" | "synced",
  times: WaitTimes = {},
): Promise<void> {
  const { timeoutMs, reason } = await chosenTimeout(resource, times);
  const limit = timeoutMs === 0 ? "for ever" : `up to ${timeoutMs / 1000} s`;
  const endStandAlone = times.afterSplitBrain !== true && !resource.startup.waitAfterSb;
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
    const limits = timeoutMs === 0 ? {} : { timeoutMs };
    const reached = await callBlockrep(resource.name, "wait", { for: what, endStandAlone, ...limits });
    if ((reached as { connection?: string }).connection !== "StandAlone") return;
  } catch (error) {
    if (!(error instanceof HaError) || error.code !== "HA_TIMEOUT") throw error;
    throw new CommandFailure(`${resource.name}: not ${what} within ${timeoutMs / 1000} s${reason}`, ExitCode.timedOut);
  } finally {
    clearTimeout(first);
    clearInterval(timer);
  }
  throw new CommandFailure(
    `${resource.name}: is StandAlone and does not look for its peer: disconnected, or split brain ("hacluster status" says what to do)`,
    ExitCode.timedOut,
  );
}

async function chosenTimeout(
  resource: ResolvedResource,
  times: WaitTimes,
): Promise<{ timeoutMs: number; reason: string }> {
  const status = (await callBlockrep(resource.name, "status")) as { start?: StartFacts };
  const { startup } = resource;
  const given = (text: string | undefined): number | undefined => (text === undefined ? undefined : secondsOf(text));
  const normal = given(times.seconds);
  if (status.start?.peerOutdated === true) {
    const timeoutMs = given(times.outdated) ?? normal ?? startup.outdatedWfcTimeoutMs;
    return { timeoutMs, reason: " (outdated-wfc-timeout)" };
  }
  if (status.start?.degraded === true) {
    return { timeoutMs: given(times.degraded) ?? normal ?? startup.degrWfcTimeoutMs, reason: " (degr-wfc-timeout)" };
  }
  if (normal !== undefined) return { timeoutMs: normal, reason: "" };
  return { timeoutMs: startup.wfcTimeoutMs, reason: " (wfc-timeout)" };
}

function secondsOf(text: string): number {
  const value = Number(text);
  if (Number.isFinite(value) && value >= 0) return value * 1000;
  throw new CommandFailure(`hacluster: "${text}" is no number of seconds; 0 is for ever`, ExitCode.usage);
}
