import { readDrbdConf } from "@hacluster/blockrep";
import { Command } from "commander";
import { requireDrbdConfig } from "../configuration.ts";
import { print } from "./context.ts";
import { blockrepStatusIfUp, callBlockrep, callHeartbeat, clusterStatusIfRunning } from "./control.ts";

/** `hacluster stop`: groups, then membership, then the disks: the reverse of start. */
export function stopCommand(): Command {
  return new Command("stop")
    .description("stop the service groups (the other node takes them), leave the cluster, take the disks down")
    .option("--cluster-only", "leave the replicated disks up")
    .action(async (options: { clusterOnly?: boolean }) => {
      if ((await clusterStatusIfRunning()) !== undefined) await callHeartbeat("stop");
      if (options.clusterOnly !== true && readDrbdConf() !== undefined) {
        for (const { name } of requireDrbdConfig().resources) {
          if ((await blockrepStatusIfUp(name)) !== undefined) await callBlockrep(name, "down");
        }
      }
      print("stopped");
    });
}
