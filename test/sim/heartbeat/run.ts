import { plan } from "./faults.ts";
import type { SimOptions } from "./options.ts";
import { World } from "./world.ts";

export interface SeedResult {
  readonly events: number;
  readonly violations: readonly string[];
  readonly traceHash: string;
}

/** Run one seed of the cluster simulator: the same seed and options give the same run, hash included. */
export function runSeed(seed: number, options: SimOptions = {}): SeedResult {
  const world = new World(seed, options);
  const endMs = plan(world);
  try {
    world.run(endMs);
  } catch (error) {
    world.checker.violation("crash", error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return { events: world.events, violations: world.checker.violations, traceHash: world.traceHash };
}
