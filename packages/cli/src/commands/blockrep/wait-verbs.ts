import { createInterface } from "node:readline";
import type { ResolvedResource } from "@hacluster/blockrep";
import type { Command } from "commander";
import { ExitCode } from "../../exit-codes.ts";
import { CommandFailure, complain } from "../context.ts";
import { blockrepStatusIfUp } from "../control.ts";
import { secondsOption } from "../options.ts";
import { type WaitTimes, waitForPeer } from "../resources.ts";
import type { DefineVerb, VerbOptions } from "./blockrep.ts";
import { forEachTarget } from "./run.ts";
import { targetsOf } from "./targets.ts";

/** wait-connect and wait-sync with drbdsetup's options, and the interactive one of the boot script. */
export function waitVerbs(verb: DefineVerb, command: Command, configFile: () => string | undefined): void {
  withTimes(
    verb("wait-connect", "wait for the peer, as long as startup {} says", "volumes", ({ resource }, options) =>
      waitFor(resource, "connected", timesOf(options)),
    ),
  );
  withTimes(
    verb("wait-sync", "wait until both disks are UpToDate", "volumes", ({ resource }, options) =>
      waitFor(resource, "synced", { seconds: "0", ...timesOf(options) }),
    ),
  );
  command
    .command("wait-con-int")
    .description('wait for the peers of all resources; on a terminal "yes" ends it')
    .action(() => waitInteractively(configFile()));
}

/** @throws CommandFailure (20) for a resource that is down: drbdadm's answer to a timeout that it cannot find out */
async function waitFor(resource: ResolvedResource, what: "connected" | "synced", times: WaitTimes): Promise<void> {
  if ((await blockrepStatusIfUp(resource.name)) === undefined) {
    throw new CommandFailure(
      `hacluster: ${resource.name} is not up, so there is nothing to wait for: "hacluster blockrep up ${resource.name}"`,
      ExitCode.unusable,
    );
  }
  await waitForPeer(resource, what, times);
}

function withTimes(command: Command): void {
  command
    .addOption(secondsOption("-t, --wfc-timeout <seconds>", "wait so long; 0 is for ever"))
    .addOption(
      secondsOption("--degr-wfc-timeout <seconds>", "the same for a node that went down as a Primary without peer"),
    )
    .addOption(secondsOption("--outdated-wfc-timeout <seconds>", "the same when the peer is known to be outdated"))
    .option("--wait-after-sb", "wait also when the resource is StandAlone after a split brain");
}

function timesOf(options: VerbOptions): WaitTimes {
  const text = (key: string): string | undefined => {
    const value = options[key];
    return typeof value === "string" ? value : undefined;
  };
  const seconds = text("wfcTimeout");
  const degraded = text("degrWfcTimeout");
  const outdated = text("outdatedWfcTimeout");
  return {
    ...(seconds === undefined ? {} : { seconds }),
    ...(degraded === undefined ? {} : { degraded }),
    ...(outdated === undefined ? {} : { outdated }),
    ...(options["waitAfterSb"] === true ? { afterSplitBrain: true } : {}),
  };
}

async function waitInteractively(configFile: string | undefined): Promise<void> {
  const targets = targetsOf(["all"], "resource", "wait-con-int", configFile);
  const waits = forEachTarget(targets, ({ resource }) => waitForPeer(resource, "connected", {}));
  if (process.stdin.isTTY !== true) return waits;
  complain('type "yes" to stop waiting');
  const answers = createInterface({ input: process.stdin });
  const yes = new Promise<never>((_, reject) => {
    answers.on("line", (line) => {
      if (line.trim() === "yes") reject(new CommandFailure("", ExitCode.timedOut));
    });
  });
  try {
    await Promise.race([waits, yes]);
  } finally {
    answers.close();
  }
}
