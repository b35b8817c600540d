import {
  absoluteConfigFile,
  applyActivityLog,
  createMetadata,
  dumpDrbdConf,
  dumpMetadata,
  generationIdentifiers,
  type MetadataTarget,
  metadataTargets,
  type ResolvedResource,
  type ResourceStatus,
  wipeMetadata,
} from "@hacluster/blockrep";
import { Command } from "commander";
import { hostName, localAddresses, requireDrbdConfig, resolveNamed } from "../configuration.ts";
import { ExitCode } from "../exit-codes.ts";
import { CommandFailure, print } from "./context.ts";
import { blockrepStatusIfUp, callBlockrep } from "./control.ts";
import { bringUp, waitForPeer } from "./resources.ts";
import { renderResource } from "./status.ts";

/** An action on one resource of this host; `all` runs it for each. */
type Action = (resource: ResolvedResource, options: Options) => Promise<void>;

interface Options {
  readonly force?: boolean;
  readonly json?: boolean;
  readonly discardMyData?: boolean;
  readonly tentative?: boolean;
  readonly clearBitmap?: boolean;
  readonly timeout?: string;
  readonly attach?: string;
}

/** `hacluster blockrep VERB RES`: drbdadm's verbs for the replicated disks. */
export function blockrepCommand(): Command {
  const command = new Command("blockrep")
    .description("replicated disks: drbdadm's verbs, with its names, arguments and exit codes")
    .option("-c, --config <file>", "read this DRBD configuration instead of /etc/drbd.conf");
  const verb = (name: string, description: string, action: Action): Command =>
    command
      .command(name)
      .description(description)
      .argument("<resource>", 'name of a resource in the configuration, or "all"')
      .action(async (name: string, options: Options) => {
        for (const resource of resolveNamed(requireDrbdConfig(configFile(command)), name))
          await action(resource, options);
      });

  metadataVerbs(verb);
  roleVerbs(verb, command);
  reportVerbs(verb);
  command
    .command("dump")
    .description("print the parsed configuration in drbd.conf syntax")
    .argument("[resource]", "only this one", "all")
    .action((name: string) => dump(name, configFile(command)));
  return command;
}

function configFile(command: Command): string | undefined {
  return (command.opts() as { config?: string }).config;
}

type Verb = (name: string, description: string, action: Action) => Command;

function metadataVerbs(verb: Verb): void {
  verb(
    "create-md",
    "write fresh metadata; the data stay, the first connect decides about a sync",
    async (r, options) => {
      await requireDown(r);
      for (const target of metadataTargets(r)) {
        const { usableBytes } = await createMetadata(target, options.force === true ? { force: true } : {});
        print(`${r.name}: new metadata on ${target.metaDisk ?? target.disk}, ${usableBytes} bytes usable`);
      }
    },
  ).option("-f, --force", "overwrite metadata that are there");
  verb("wipe-md", "make the metadata unrecognisable", async (r) => {
    await requireDown(r);
    for (const target of metadataTargets(r)) await wipeMetadata(target);
  });
  verb("apply-al", "after a crash: mark what was being written as out of sync (up does it by itself)", async (r) => {
    await requireDown(r);
    for (const target of metadataTargets(r)) {
      const { extents, wasClean } = await applyActivityLog(target);
      if (!wasClean) print(`${r.name}: ${extents} extents (${extents * 4} MiB) marked out of sync`);
    }
  });
  verb("dump-md", "print the metadata as drbdmeta does", async (r, options) => {
    await requireDown(r);
    for (const target of metadataTargets(r)) {
      const command = `hacluster blockrep dump-md ${r.name}`;
      print((await dumpMetadata(target, { command, ...(options.force === true ? { force: true } : {}) })).trimEnd());
    }
  }).option("-f, --force", "also of metadata that were not closed");
  verb("get-gi", "print the generation identifiers in one line", async (r) =>
    print((await identifiers(r)).get.trimEnd()),
  );
  verb("show-gi", "print the generation identifiers, explained", async (r) =>
    print((await identifiers(r)).show.trimEnd()),
  );
}

/** Of a resource that is up the disk is in use: its process tells the identifiers only when it is down. */
async function identifiers(resource: ResolvedResource): Promise<{ get: string; show: string }> {
  await requireDown(resource);
  return generationIdentifiers(metadataTargets(resource)[0] as MetadataTarget);
}

async function requireDown(resource: ResolvedResource): Promise<void> {
  if ((await blockrepStatusIfUp(resource.name)) === undefined) return;
  throw new CommandFailure(
    `hacluster: ${resource.name} is up and uses its metadata: run "hacluster blockrep down ${resource.name}" first`,
    ExitCode.drbdConfiguration,
  );
}

function roleVerbs(verb: Verb, parent: Command): void {
  verb("up", "apply-al, attach, connect: start the resource's process", async (r, options) => {
    await bringUp(r, { config: configFile(parent), attach: options.attach });
  }).option("--attach <method>", "how the device comes under /dev: auto, nbd, fuse or none", "auto");
  verb("down", "secondary, disconnect, detach: end the resource's process, leaving clean metadata", async (r) => {
    if ((await blockrepStatusIfUp(r.name)) !== undefined) await callBlockrep(r.name, "down");
  });
  verb("primary", "become Primary and attach the device", async (r, options) => {
    await callBlockrep(r.name, "primary", { force: options.force === true });
  }).option("-f, --force", "although the data here are not known to be the newest");
  verb("secondary", "detach the device and become Secondary", async (r) => {
    await callBlockrep(r.name, "secondary");
  });
  const plain: readonly (readonly [string, string])[] = [
    ["attach", "attach the backing disk"],
    ["detach", "detach the backing disk; I/O goes to the peer"],
    ["disconnect", "leave the peer and stay StandAlone"],
    ["invalidate", "throw the local data away: full sync from the peer"],
    ["invalidate-remote", "throw the peer's data away: full sync to the peer"],
    ["outdate", "mark the local data as outdated"],
    ["pause-sync", "pause a resync"],
    ["resume-sync", "let a paused resync go on"],
    ["suspend-io", "hold application I/O"],
    ["resume-io", "let application I/O go on"],
  ];
  for (const [name, description] of plain) {
    verb(name, description, async (r, options) => {
      await callBlockrep(r.name, name, { force: options.force === true });
    }).option("-f, --force", "override a refusal");
  }
  verb("connect", "connect to the peer", async (r, options) => {
    await callBlockrep(r.name, "connect", {
      discardMyData: options.discardMyData === true,
      dryRun: options.tentative === true,
    });
  })
    .option("--discard-my-data", "after a split brain: this node's changes are thrown away")
    .option("--tentative", "compare and report, then disconnect");
  verb("new-current-uuid", "start a new generation", async (r, options) => {
    await callBlockrep(r.name, "new-current-uuid", { clearBitmap: options.clearBitmap === true });
  }).option("--clear-bitmap", "both disks are known to be equal: skip the initial sync");
  verb("wait-connect", "wait for the peer, as long as startup {} says", (r, options) =>
    waitForPeer(r, "connected", options.timeout),
  ).option("-t, --timeout <seconds>", "wait so long instead; 0 is for ever");
  verb("wait-sync", "wait until both disks are UpToDate", (r, options) =>
    waitForPeer(r, "synced", options.timeout ?? "0"),
  ).option("-t, --timeout <seconds>", "wait so long; 0 is for ever");
}

function reportVerbs(verb: Verb): void {
  verb("status", "role, connection, disks, resync", async (r, options) => {
    const status = await blockrepStatusIfUp(r.name);
    if (options.json === true) print(JSON.stringify(status ?? { name: r.name, role: "Unconfigured" }, null, 2));
    else print(renderResource(status ?? { name: r.name, role: "Unconfigured" }).join("\n"));
    if (status === undefined) throw new CommandFailure("", ExitCode.drbdConfiguration);
  }).option("--json", "as JSON");
  const line = (name: string, description: string, of: (status: ResourceStatus) => string[], down: string): void => {
    verb(name, description, async (r) => {
      const status = await blockrepStatusIfUp(r.name);
      for (const text of status === undefined ? [down] : of(status)) print(text);
    });
  };
  line("role", "print Primary/Secondary", (s) => [`${s.role}/${s.peerRole}`], "Unconfigured");
  line("cstate", "print the connection state", (s) => [s.connection], "Unconfigured");
  line("dstate", "print the disk states", (s) => s.volumes.map((v) => `${v.disk}/${v.peerDisk}`), "Unconfigured");
}

function dump(name: string, file: string | undefined): void {
  const config = requireDrbdConfig(file);
  const resources = name === "all" ? config.resources : config.resources.filter((r) => r.name === name);
  if (resources.length === 0 && name !== "all") {
    const known = config.resources.map((r) => r.name).join(", ");
    throw new CommandFailure(
      `hacluster: there is no resource ${name}; the configuration has ${known}`,
      ExitCode.failed,
    );
  }
  process.stdout.write(
    dumpDrbdConf(name === "all" ? config : { ...config, global: undefined, common: undefined, resources }, {
      hostName: hostName(),
      localAddresses: localAddresses(),
      absolute: absoluteConfigFile,
    }),
  );
}
