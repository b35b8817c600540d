import type { Command } from "commander";
import { ExitCode } from "../../exit-codes.ts";
import { CommandFailure } from "../context.ts";

/** Verbs of drbdadm that are named with the reason why they do nothing here. */
const MISSING: readonly (readonly [verb: string, why: string])[] = [
  ["new-resource", '"up" starts one process per resource; there is nothing to allocate before'],
  ["new-minor", '"up" makes the devices of all volumes; there is nothing to allocate before'],
  ["sh-new-minor", '"up" makes the devices of all volumes; there is nothing to allocate before'],
  ["del-minor", '"down" takes the devices away'],
  ["sh-mod-parms", "there is no kernel module that could have parameters"],
  ["sh-lr-of", "stacked resources are not supported"],
  ["sh-status", 'use "status --json" or "events2"'],
  ["proxy-up", "DRBD Proxy is another product; protocol A with congestion control is built in"],
  ["proxy-down", "DRBD Proxy is another product"],
  ["dump-xml", 'use "dump", or "hacluster config --json" for programs'],
  ["adjust-with-progress", 'use "adjust"'],
  ["disk-options", 'change the disk section of the configuration, then "adjust"'],
  ["net-options", 'change the net section of the configuration, then "adjust"'],
  ["resource-options", 'change the options section of the configuration, then "adjust"'],
  ["syncer", 'change the configuration, then "adjust"'],
  ["set-gi", "identifiers are never made up by hand here; drbdmeta set-gi works on a resource that is down"],
  ["check-resize", "the size is examined at each attach"],
  ["resize", "not in this version: the engine cannot grow a device online yet"],
];

/** @see drbdadm hidden-commands */
export function missingVerbs(command: Command): void {
  for (const [name, why] of MISSING) {
    command
      .command(name, { hidden: true })
      .description(`not here: ${why}`)
      .argument("[arguments...]")
      .allowUnknownOption()
      .action(() => {
        throw new CommandFailure(`hacluster: blockrep ${name}: ${why}`, ExitCode.usage);
      });
  }
}

export function missingVerbNames(): string[] {
  return MISSING.map(([name]) => name);
}
