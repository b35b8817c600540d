/** Milliseconds of CLOCK_MONOTONIC: the same in every process of this machine, whatever happens to the time of day. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}
