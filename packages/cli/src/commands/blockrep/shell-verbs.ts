import type { Command } from "commander";
import { requireDrbdConfig } from "../../configuration.ts";
import { CommandFailure, print } from "../context.ts";
import type { DefineVerb } from "./blockrep.ts";
import { type Target, volumesOf } from "./targets.ts";

/** The verbs for scripts: what the configuration says, a word per line, from the files alone. */
export function shellVerbs(verb: DefineVerb, command: Command, configFile: () => string | undefined): void {
  const perVolume = (name: string, description: string, of: (target: Target, index: number) => string): void => {
    verb(name, description, "volumes", async (target) => {
      for (const index of target.volumes.keys()) print(of(target, index));
    });
  };
  const volume = (target: Target, index: number): Target["volumes"][number] => {
    const found = target.volumes[index];
    if (found === undefined) throw new CommandFailure(`hacluster: ${target.resource.name} has no volume`);
    return found;
  };
  command
    .command("sh-nop")
    .description("read the configuration, do nothing")
    .action(() => {
      requireDrbdConfig(configFile());
    });
  command
    .command("sh-resources")
    .description("the names of all resources, in one line")
    .action(() => {
      print(
        requireDrbdConfig(configFile())
          .resources.map((resource) => resource.name)
          .join(" "),
      );
    });
  verb("sh-resource", "the name of each resource", "resource", async ({ resource }) => print(resource.name));
  perVolume("sh-dev", "the device that applications use", (t, i) => volume(t, i).device);
  perVolume("sh-minor", "the minor number", (t, i) => String(volume(t, i).minor));
  perVolume("sh-ll-dev", "the backing disk", (t, i) => volume(t, i).disk ?? "none");
  perVolume("sh-md-dev", "the disk that holds the metadata", (t, i) => {
    const { metaDisk, disk } = volume(t, i);
    return metaDisk.kind === "internal" ? (disk ?? "none") : metaDisk.path;
  });
  perVolume("sh-md-idx", "internal, flexible, or the index on the metadata's disk", (t, i) => {
    const { metaDisk } = volume(t, i);
    return metaDisk.kind === "indexed" ? String(metaDisk.index) : metaDisk.kind;
  });
  perVolume("sh-ip", "this node's address, for each volume", ({ resource }) => resource.local.address.host);
  verb("sh-udev", "names for a udev rule", "one-volume", async (target) => {
    for (const { resource, volume: v } of volumesOf(target)) {
      const name = resource.volumes.length > 1 ? `${resource.name}/${v.vnr}` : resource.name;
      print(`RESOURCE=${name}\nDEVICE=drbd${v.minor}\nDISK=${(v.disk ?? "none").replace(/^\/dev\//, "")}`);
    }
  });
  verb("sh-b-pri", "accepted for scripts; who becomes Primary is the cluster's affair", "volumes", async () => {});
}
