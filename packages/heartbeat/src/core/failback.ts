import type { DrbdFacts, ServiceGroup } from "./ports.ts";

/** Resources of blockrep that a service group needs: the arguments of drbddisk and drbdupper, in order, each once. */
export function replicatedResources(groups: readonly ServiceGroup[]): readonly string[] {
  const names = groups.flatMap((group) =>
    group.resources
      .filter((resource) => resource.script === "drbddisk" || resource.script === "drbdupper")
      .map((resource) => resource.args[0] ?? "all"),
  );
  return [...new Set(names)];
}

/**
 * Why the groups must not move home yet: one sentence about the first replicated resource that is not UpToDate on both
 * sides; undefined when nothing stands in the way. Moving onto a disk that still synchronises would serve it slowly, and
 * lose it when this node fails meanwhile.
 */
export function failbackObstacle(
  groups: readonly ServiceGroup[],
  facts: ReadonlyMap<string, DrbdFacts>,
): string | undefined {
  for (const name of replicatedResources(groups)) {
    if (name === "all") {
      const obstacles = [...facts].map(([each, known]) => obstacleOf(each, known)).filter((text) => text !== undefined);
      if (facts.size === 0) return "the state of the replicated resources is not known";
      if (obstacles.length > 0) return obstacles[0];
      continue;
    }
    const obstacle = obstacleOf(name, facts.get(name));
    if (obstacle !== undefined) return obstacle;
  }
  return undefined;
}

function obstacleOf(name: string, facts: DrbdFacts | undefined): string | undefined {
  if (facts === undefined) return `the state of ${name} is not known`;
  if (!facts.connected) return `${name} is not connected to the other node`;
  if (facts.localDisk !== "UpToDate") return `the disk of ${name} on this node is ${facts.localDisk}`;
  if (facts.peerDisk !== "UpToDate") return `the disk of ${name} on the other node is ${facts.peerDisk}`;
  return undefined;
}
