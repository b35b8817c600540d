import { Command } from "commander";
import { metadataVerbs } from "./metadata-verbs.ts";
import { missingVerbs } from "./missing-verbs.ts";
import { reportVerbs } from "./report-verbs.ts";
import { forEachTarget } from "./run.ts";
import { shellVerbs } from "./shell-verbs.ts";
import { stateVerbs } from "./state-verbs.ts";
import { type Scope, type Target, targetsOf } from "./targets.ts";
import { waitVerbs } from "./wait-verbs.ts";

/** A verb's options by their names in camel case. */
export type VerbOptions = Readonly<Record<string, string | boolean | undefined>>;

/** Defines `hacluster blockrep NAME RESOURCE...`; the action runs for each resource that is meant. */
export type DefineVerb = (
  name: string,
  description: string,
  scope: Scope,
  action: (target: Target, options: VerbOptions) => Promise<void>,
) => Command;

const ARGUMENT: Readonly<Record<Scope, string>> = {
  resource: 'RES, or "all"',
  volumes: 'RES, RES/VOLUME, minor-N, or "all"',
  "one-volume": "RES/VOLUME or minor-N; RES where it has one volume only",
};

/** `hacluster blockrep VERB RES`: drbdadm's verbs for the replicated disks. */
export function blockrepCommand(): Command {
  const command = new Command("blockrep")
    .description("replicated disks: drbdadm's verbs, with its names, arguments and exit codes")
    .option("-c, --config <file>", "read this DRBD configuration instead of /etc/drbd.conf");
  const configFile = (): string | undefined => (command.opts() as { config?: string }).config;
  const verb: DefineVerb = (name, description, scope, action) =>
    command
      .command(name)
      .description(description)
      .argument("<resource...>", ARGUMENT[scope])
      .action((names: string[], options: VerbOptions) =>
        forEachTarget(targetsOf(names, scope, name, configFile()), (target) => action(target, options)),
      );
  stateVerbs(verb, configFile);
  metadataVerbs(verb);
  waitVerbs(verb, command, configFile);
  reportVerbs(verb, command, configFile);
  shellVerbs(verb, command, configFile);
  missingVerbs(command);
  return command;
}
