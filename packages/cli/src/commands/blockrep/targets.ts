import type { MetadataTarget, ResolvedResource, ResolvedVolume } from "@hacluster/blockrep";
import { metadataTargets } from "@hacluster/blockrep";
import { requireDrbdConfig, resolveNamed } from "../../configuration.ts";
import { CommandFailure } from "../context.ts";

/** Does a verb mean a resource as a whole, its volumes, or one volume that has to be named? */
export type Scope = "resource" | "volumes" | "one-volume";

/** A resource of this host and those of its volumes that a command line means. */
export interface Target {
  readonly resource: ResolvedResource;
  readonly volumes: readonly ResolvedVolume[];
  readonly scope: Scope;
}

/**
 * What `all`, `RES`, `RES/VOL` and `minor-N` mean, in the order in which they were written.
 * @throws CommandFailure (1) for names that the configuration does not have and volumes where there must be none, as drbdadm
 */
export function targetsOf(names: readonly string[], scope: Scope, verb: string, configFile?: string): Target[] {
  const config = requireDrbdConfig(configFile);
  const all = (): ResolvedResource[] => resolveNamed(config, "all");
  const targets = names.flatMap((name): Target[] => {
    if (name === "all") return all().map((resource) => ({ resource, volumes: resource.volumes, scope }));
    if (/^minor-\d+$/.test(name)) return [{ ...byMinor(all(), Number(name.slice("minor-".length))), scope }];
    const slash = name.indexOf("/");
    const [resource] = resolveNamed(config, slash < 0 ? name : name.slice(0, slash));
    if (resource === undefined) return [];
    if (slash < 0) return [{ resource, volumes: resource.volumes, scope }];
    return [{ resource, volumes: [volumeOf(resource, name.slice(slash + 1))], scope }];
  });
  for (const target of targets) checkScope(target, names, scope, verb);
  return targets;
}

function byMinor(resources: readonly ResolvedResource[], minor: number): Omit<Target, "scope"> {
  for (const resource of resources) {
    const volume = resource.volumes.find((v) => v.minor === minor);
    if (volume !== undefined) return { resource, volumes: [volume] };
  }
  throw new CommandFailure(`hacluster: no resource in the configuration has the minor ${minor} on this host`);
}

function volumeOf(resource: ResolvedResource, text: string): ResolvedVolume {
  const volume = resource.volumes.find((v) => String(v.vnr) === text);
  if (volume !== undefined) return volume;
  const known = resource.volumes.map((v) => v.vnr).join(", ");
  throw new CommandFailure(
    `hacluster: resource ${resource.name} (${resource.definedAt}) has no volume ${text}; it has ${known}`,
  );
}

function checkScope({ resource, volumes }: Target, names: readonly string[], scope: Scope, verb: string): void {
  const named = names.some((name) => name.includes("/") || /^minor-\d+$/.test(name));
  if (scope === "resource" && named) {
    throw new CommandFailure(
      `hacluster: ${verb} operates on whole resources, but a volume was named: write "${verb} ${resource.name}"`,
    );
  }
  if (scope === "one-volume" && volumes.length !== 1) {
    throw new CommandFailure(
      `hacluster: ${verb} needs one volume, and ${resource.name} has ${volumes.length}: write "${verb} ${resource.name}/${volumes[0]?.vnr}" or another`,
    );
  }
}

/** The numbers of a target's volumes, as requests to the resource's process name them. */
export function volumeNumbers(target: Target): number[] {
  return target.volumes.map((volume) => volume.vnr);
}

/** How one volume is called in messages: `r0`, and `r0/1` where the resource has several. */
export function volumeLabel(resource: ResolvedResource, volume: ResolvedVolume): string {
  return resource.volumes.length > 1 ? `${resource.name}/${volume.vnr}` : resource.name;
}

export interface TargetVolume {
  readonly resource: ResolvedResource;
  readonly volume: ResolvedVolume;
  readonly label: string;
  readonly metadata: MetadataTarget;
}

/** Each volume of a target with the place of its metadata. @throws HaError for a volume without a disk on this host */
export function volumesOf({ resource, volumes }: Target): TargetVolume[] {
  return volumes.map((volume) => ({
    resource,
    volume,
    label: volumeLabel(resource, volume),
    metadata: metadataTargets({ ...resource, volumes: [volume] })[0] as MetadataTarget,
  }));
}
