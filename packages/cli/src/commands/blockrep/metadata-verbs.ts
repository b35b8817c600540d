import {
  applyActivityLog,
  createMetadata,
  dumpMetadata,
  generationIdentifiers,
  hasMetadata,
  type ResourceStatus,
  wipeMetadata,
} from "@hacluster/blockrep";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { ExitCode } from "../../exit-codes.ts";
import { CommandFailure, print } from "../context.ts";
import { blockrepStatusIfUp, callBlockrep } from "../control.ts";
import type { DefineVerb } from "./blockrep.ts";
import { type TargetVolume, volumesOf } from "./targets.ts";

/** The verbs that drbdadm hands to drbdmeta: they work on metadata that nobody uses. */
export function metadataVerbs(verb: DefineVerb): void {
  verb(
    "create-md",
    "write fresh metadata; the data stay, the first connect decides about a sync",
    "volumes",
    async (target, options) => {
      for (const volume of await detached(volumesOf(target))) {
        const { usableBytes } = await createMetadata(volume.metadata, options["force"] === true ? { force: true } : {});
        print(`${volume.label}: new metadata on ${placeOf(volume)}, ${usableBytes} bytes usable`);
      }
    },
  ).option("-f, --force", "overwrite metadata that are there");
  verb("wipe-md", "make the metadata unrecognisable", "volumes", async (target) => {
    for (const volume of await detached(volumesOf(target))) {
      if (await hasMetadata(volume.metadata)) await wipeMetadata(volume.metadata);
      else print(`${volume.label}: there are no metadata on ${placeOf(volume)}`);
    }
  }).option("-f, --force", "accepted as drbdadm does; nothing is asked anyway");
  verb(
    "apply-al",
    "after a crash: mark what was being written as out of sync (up does it by itself)",
    "volumes",
    async (target) => {
      for (const volume of await detached(volumesOf(target))) {
        const { extents, wasClean } = await applyActivityLog(volume.metadata);
        if (!wasClean) print(`${volume.label}: ${extents} extents (${extents * 4} MiB) marked out of sync`);
      }
    },
  );
  verb("dump-md", "print the metadata as drbdmeta does", "volumes", async (target, options) => {
    for (const volume of await detached(volumesOf(target))) {
      const command = `hacluster blockrep dump-md ${volume.label}`;
      const force = options["force"] === true ? { force: true } : {};
      print((await dumpMetadata(volume.metadata, { command, ...force })).trimEnd());
    }
  }).option("-f, --force", "also of metadata that were not closed");
  verb("get-gi", "print the generation identifiers in one line", "volumes", async (target) => {
    for (const volume of volumesOf(target)) print((await generations(volume)).get);
  });
  verb("show-gi", "print the generation identifiers, explained", "volumes", async (target) => {
    for (const volume of volumesOf(target)) print((await generations(volume)).show.trimEnd());
  });
}

/** Of an attached volume the process knows them; else they are in the metadata. */
async function generations(volume: TargetVolume): Promise<{ get: string; show: string }> {
  if (isAttached(await blockrepStatusIfUp(volume.resource.name), volume)) {
    const params = { volumes: [volume.volume.vnr] };
    return (await callBlockrep(volume.resource.name, "generations", params)) as { get: string; show: string };
  }
  return generationIdentifiers(volume.metadata);
}

export function isAttached(status: ResourceStatus | undefined, { volume }: Pick<TargetVolume, "volume">): boolean {
  const found = status?.volumes.find((v) => v.volume === volume.vnr);
  return found !== undefined && found.disk !== "Diskless";
}

/** The same volumes. @throws CommandFailure (20) when one of them is attached */
async function detached(volumes: readonly TargetVolume[]): Promise<readonly TargetVolume[]> {
  for (const volume of volumes) {
    let status: ResourceStatus | undefined;
    try {
      status = await blockrepStatusIfUp(volume.resource.name);
    } catch (error) {
      if (!(error instanceof HaError) || error.code !== ErrorCode.daemonNotRunning) throw error;
    }
    if (!isAttached(status, volume)) continue;
    throw new CommandFailure(
      `hacluster: ${volume.label} is attached and uses its metadata: run "hacluster blockrep down ${volume.resource.name}" (or detach) first`,
      ExitCode.inUse,
    );
  }
  return volumes;
}

function placeOf({ metadata }: TargetVolume): string {
  return metadata.metaDisk ?? metadata.disk;
}
