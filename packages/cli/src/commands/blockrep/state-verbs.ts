import { type Adjustment, invalidateMetadata, outdateMetadata } from "@hacluster/blockrep";
import type { ControlValue } from "../../control/protocol.ts";
import { ExitCode } from "../../exit-codes.ts";
import { CommandFailure, complain, print } from "../context.ts";
import { blockrepStatusIfUp, callBlockrep } from "../control.ts";
import { attachOption } from "../options.ts";
import { bringUp } from "../resources.ts";
import type { DefineVerb, VerbOptions } from "./blockrep.ts";
import { isAttached } from "./metadata-verbs.ts";
import { drbdFailure } from "./run.ts";
import { type Target, type TargetVolume, volumeNumbers, volumesOf } from "./targets.ts";

/** The verbs that change what a resource does. Most of them are requests to its process. */
export function stateVerbs(verb: DefineVerb, configFile: () => string | undefined): void {
  verb("up", "apply-al, attach, connect: start the resource's process", "resource", async ({ resource }, options) => {
    const attach = options["attach"];
    await bringUp(resource, { config: configFile(), attach: typeof attach === "string" ? attach : undefined });
  }).addOption(attachOption());
  verb(
    "down",
    "secondary, disconnect, detach: end the resource's process, leaving clean metadata",
    "resource",
    async ({ resource }) => {
      if ((await blockrepStatusIfUp(resource.name)) !== undefined) await callBlockrep(resource.name, "down");
    },
  );
  verb("adjust", "read the configuration again and apply what has changed; up where it is down", "resource", (target) =>
    adjust(target, configFile()),
  );
  verb("primary", "become Primary and attach the device", "volumes", request("primary", ["force"]))
    .option("-f, --force", "although the data here are not known to be the newest")
    .option("-o, --overwrite-data-of-peer", "the old name of --force");
  verb("secondary", "detach the device and become Secondary", "volumes", request("secondary"));
  verb("attach", "attach the backing disk", "volumes", request("attach"));
  verb("detach", "detach the backing disk; I/O goes to the peer", "volumes", request("detach", ["force"])).option(
    "-f, --force",
    "do not wait for the disk",
  );
  verb("connect", "connect to the peer", "resource", connect)
    .option("--discard-my-data", "after a split brain: this node's changes are thrown away")
    .option("--tentative", "compare and report, then disconnect");
  verb("disconnect", "leave the peer and stay StandAlone", "resource", async ({ resource }, options) => {
    const connection = (await blockrepStatusIfUp(resource.name))?.connection ?? "StandAlone";
    if (connection === "StandAlone") throw drbdFailure(162, "Invalid configuration request");
    await callBlockrep(resource.name, "disconnect", { force: options["force"] === true });
  }).option("-f, --force", "without asking the peer");
  verb("invalidate", "throw the local data away: full sync from the peer", "volumes", onDiskOrMetadata("invalidate"));
  verb(
    "invalidate-remote",
    "throw the peer's data away: full sync to the peer",
    "volumes",
    request("invalidate-remote"),
  );
  verb("outdate", "mark the local data as outdated", "volumes", onDiskOrMetadata("outdate"));
  verb("verify", "compare the disks online; what differs is copied at the next connect", "volumes", verify)
    .option(
      "-s, --start <position>",
      "begin here: sectors, or with K, M, G; default: where the last one was broken off",
    )
    .option("-S, --stop <position>", "do not go beyond");
  verb("pause-sync", "pause a resync", "volumes", request("pause-sync"));
  verb("resume-sync", "let a paused resync go on", "volumes", request("resume-sync"));
  verb("suspend-io", "hold application I/O", "volumes", request("suspend-io"));
  verb("resume-io", "let application I/O go on", "volumes", request("resume-io"));
  verb("new-current-uuid", "start a new generation", "one-volume", async (target, options) => {
    const clearBitmap = options["clearBitmap"] === true;
    await callBlockrep(target.resource.name, "new-current-uuid", { volumes: volumeNumbers(target), clearBitmap });
  }).option("--clear-bitmap", "both disks are known to be equal: skip the initial sync");
}

/** Says what counts from when. @throws CommandFailure (1) when something needs down and up */
async function adjust({ resource }: Target, configFile: string | undefined): Promise<void> {
  const { name } = resource;
  if ((await blockrepStatusIfUp(name)) === undefined) {
    await bringUp(resource, { config: configFile });
    return;
  }
  const { now, nextConnection, nextAttach, restart } = (await callBlockrep(name, "adjust")) as unknown as Adjustment;
  const say = (names: readonly string[], what: string): void => {
    if (names.length > 0) print(`${name}: ${what}: ${names.join(", ")}`);
  };
  say(now, "applied");
  say(nextConnection, "applied, counts from the next connection");
  say(nextAttach, "applied, counts from the next attach");
  if (restart.length === 0) return;
  throw new CommandFailure(
    `hacluster: ${name}: not applied: ${restart.join(", ")}; run "hacluster blockrep down ${name}" and "up ${name}" for it`,
  );
}

type Action = (target: Target, options: VerbOptions) => Promise<void>;

/** A request to the resource's process for the target's volumes, with some of the options as they are. */
function request(method: string, flags: readonly "force"[] = []): Action {
  return async (target, options) => {
    const params: Record<string, ControlValue> = { volumes: volumeNumbers(target) };
    for (const flag of flags) params[flag] = options[flag] === true || options["overwriteDataOfPeer"] === true;
    await callBlockrep(target.resource.name, method, params);
  };
}

const verify: Action = async (target, options) => {
  const start = options["start"];
  const stop = options["stop"];
  await callBlockrep(target.resource.name, "verify", {
    volumes: volumeNumbers(target),
    ...(typeof start === "string" ? { startSector: sectorsOf(start) } : {}),
    ...(typeof stop === "string" ? { stopSector: sectorsOf(stop) } : {}),
  });
};

const SECTORS_PER: Readonly<Record<string, number>> = { s: 1, K: 2, M: 2048, G: 2 ** 21 };

/** A position of drbdsetup: sectors, unless a unit says otherwise. @throws CommandFailure (2) */
function sectorsOf(text: string): number {
  const match = /^(\d{1,12})([sKMG]?)$/.exec(text);
  if (match === null) {
    throw new CommandFailure(`"${text}" is no position: write sectors, or a number with K, M or G`, ExitCode.usage);
  }
  return Number(match[1]) * (SECTORS_PER[match[2] === "" ? "s" : (match[2] as string)] as number);
}

const connect: Action = async ({ resource }, options) => {
  await callBlockrep(resource.name, "connect", {
    discardMyData: options["discardMyData"] === true,
    dryRun: options["tentative"] === true,
  });
};

/** Volumes that are not attached are changed on disk: a fence-peer handler must be able to outdate a node that is down. */
function onDiskOrMetadata(method: "outdate" | "invalidate"): Action {
  return async (target) => {
    const { resource } = target;
    const status = await blockrepStatusIfUp(resource.name);
    for (const volume of volumesOf(target)) {
      if (isAttached(status, volume)) await callBlockrep(resource.name, method, { volumes: [volume.volume.vnr] });
      else await changeMetadata(method, volume);
    }
  };
}

async function changeMetadata(method: "outdate" | "invalidate", { metadata, label }: TargetVolume): Promise<void> {
  if (method === "invalidate") await invalidateMetadata(metadata);
  else if (!(await outdateMetadata(metadata))) {
    complain("Device is inconsistent.");
    throw new CommandFailure(
      `hacluster: ${label}: the data are inconsistent, which is worse than outdated; nothing was changed`,
      ExitCode.lowerThanOutdated,
    );
  }
  print(`${label} is not attached: its metadata say so from now on`);
}
