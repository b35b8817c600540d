import { InvariantError } from "./errors.ts";

/**
 * Stop when a broken invariant shows a bug of our own. Never for bad input: that is an HaError or a refusal.
 * @throws InvariantError always when `condition` is false; the process must not go on with this state.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Marks the branch of a switch that the types say cannot be reached. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable value ${String(value)}`);
}
