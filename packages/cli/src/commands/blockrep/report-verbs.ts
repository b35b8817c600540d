import {
  absoluteConfigFile,
  dumpDrbdConf,
  PROTOCOL_VERSIONS,
  type ResourceStatus,
  readDiskState,
  type VolumeStatus,
} from "@hacluster/blockrep";
import type { Command } from "commander";
import { hostName, localAddresses, requireDrbdConfig } from "../../configuration.ts";
import { ExitCode } from "../../exit-codes.ts";
import { DEFAULT_WIDTH, formatStatus } from "../../formats/drbd-status.ts";
import { formatProc, isUnconfigured } from "../../formats/proc-drbd.ts";
import { CommandFailure, complain, print } from "../context.ts";
import { blockrepStatus, blockrepStatusIfUp } from "../control.ts";
import { programVersion } from "../version.ts";
import type { DefineVerb } from "./blockrep.ts";
import { followEvents } from "./events.ts";
import { forEachTarget } from "./run.ts";
import { type Target, targetsOf, volumesOf } from "./targets.ts";

/** The verbs that only tell. */
export function reportVerbs(verb: DefineVerb, command: Command, configFile: () => string | undefined): void {
  command
    .command("status")
    .description(
      'role, connection, disks and resync as drbdsetup prints them; the operator\'s screen is "hacluster status"',
    )
    .argument("[resource...]", "RES, RES/VOL or all", ["all"])
    .option("-v, --verbose", "also what is as usual")
    .option("-s, --statistics", "with counters, in KiB")
    .option("--json", "as JSON")
    .action((names: string[], options: { verbose?: boolean; statistics?: boolean; json?: boolean }) =>
      status(targetsOf(names, "volumes", "status", configFile()), names.includes("all"), options),
    );
  command
    .command("events2")
    .description("what there is, then each change, a line each")
    .argument("[resource...]", "RES or all", ["all"])
    .option("--timestamps", "begin each line with the time")
    .option("--statistics", "with counters")
    .option("--now", "end after what there is")
    .action((names: string[], options: { timestamps?: boolean; statistics?: boolean; now?: boolean }) => {
      const targets = targetsOf(names, "resource", "events2", configFile());
      return followEvents(
        targets.map(({ resource }) => resource.name),
        {
          timestamps: options.timestamps === true,
          statistics: options.statistics === true,
          now: options.now === true,
        },
      );
    });
  stateWords(verb);
  command
    .command("dump")
    .description("print the parsed configuration in drbd.conf syntax")
    .argument("[resource...]", "only these", ["all"])
    .action((names: string[]) => dump(names, configFile()));
  command
    .command("proc")
    .description("print what /proc/drbd would show")
    .action(() => proc(targetsOf(["all"], "resource", "proc", configFile())));
}

/** What is told of the volumes that the command line means. */
function ofVolumes(status: ResourceStatus, { volumes }: Target): VolumeStatus[] {
  return status.volumes.filter((v) => volumes.some((volume) => volume.vnr === v.volume));
}

function stateWords(verb: DefineVerb): void {
  const words = (name: string, description: string, of: (s: ResourceStatus, t: Target) => string[]): void => {
    verb(name, description, "volumes", async (target) => {
      for (const line of of(await blockrepStatus(target.resource.name), target)) print(line);
    });
  };
  words("role", "print Primary/Secondary for each volume", (s, t) =>
    ofVolumes(s, t).map((v) => `${v.role}/${v.peerRole}`),
  );
  words("cstate", "print the connection state for each volume", (s, t) => ofVolumes(s, t).map((v) => v.connection));
  verb(
    "dstate",
    "print the disk states for each volume; of a detached one what its metadata say",
    "volumes",
    async (target) => {
      const found = await blockrepStatusIfUp(target.resource.name);
      for (const one of volumesOf(target)) {
        const volume = found?.volumes.find((v) => v.volume === one.volume.vnr);
        if (volume === undefined || found === undefined) print(await readDiskState(one.metadata));
        else if (isUnconfigured(found, volume)) print("Unconfigured");
        else print(`${volume.disk}/${volume.peerDisk}`);
      }
    },
  );
}

async function status(
  targets: readonly Target[],
  all: boolean,
  options: { verbose?: boolean; statistics?: boolean; json?: boolean },
): Promise<void> {
  const found: unknown[] = [];
  await forEachTarget(targets, async ({ resource, volumes }) => {
    const whole = await blockrepStatusIfUp(resource.name);
    if (whole === undefined) {
      found.push({ name: resource.name, role: "Unconfigured" });
      if (options.json !== true) complain(`${resource.name}: No such resource`);
      throw new CommandFailure(
        options.json === true ? "" : `hacluster: ${resource.name} is not up: "hacluster blockrep up ${resource.name}"`,
        ExitCode.drbdConfiguration,
      );
    }
    const wanted = new Set(volumes.map((volume) => volume.vnr));
    const part = { ...whole, volumes: whole.volumes.filter((volume) => wanted.has(volume.volume)) };
    found.push(part);
    if (options.json === true) return;
    const width = process.stdout.columns ?? DEFAULT_WIDTH;
    process.stdout.write(
      formatStatus(part, { verbose: options.verbose === true, statistics: options.statistics === true, width }),
    );
  }).finally(() => {
    if (options.json === true) print(JSON.stringify(found.length === 1 && !all ? found[0] : found, null, 2));
  });
}

async function proc(targets: readonly Target[]): Promise<void> {
  const statuses: ResourceStatus[] = [];
  for (const { resource } of targets) {
    const found = await blockrepStatusIfUp(resource.name);
    if (found !== undefined) statuses.push(found);
  }
  process.stdout.write(formatProc(statuses, { version: programVersion(), ...PROTOCOL_VERSIONS }));
}

function dump(names: readonly string[], file: string | undefined): void {
  const config = requireDrbdConfig(file);
  const all = names.includes("all");
  const unknown = all ? undefined : names.find((name) => !config.resources.some((r) => r.name === name));
  if (unknown !== undefined) {
    const known = config.resources.map((r) => r.name).join(", ");
    throw new CommandFailure(`hacluster: there is no resource ${unknown}; the configuration has ${known}`);
  }
  const resources = config.resources.filter((r) => all || names.includes(r.name));
  process.stdout.write(
    dumpDrbdConf(all ? config : { ...config, global: undefined, common: undefined, resources }, {
      hostName: hostName(),
      localAddresses: localAddresses(),
      absolute: absoluteConfigFile,
    }),
  );
}
