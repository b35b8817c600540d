import { runFio } from "./fio.ts";
import type { SpecialFigure } from "./report.ts";
import type { Target } from "./targets.ts";
import { WORKLOADS, type Workload } from "./workloads.ts";

/** The rate of a full resync while nothing else happens, and what one does to an application's small writes. */
export async function measureResync(
  target: Target,
  rounds: number,
  seconds: number,
  sizeMib: number,
): Promise<SpecialFigure[]> {
  const rates: number[] = [];
  const slowdowns: number[] = [];
  const small = WORKLOADS[0] as Workload;
  const resync = async (): Promise<number> => {
    const answer = await target.ask?.("resync");
    const { blocks, wallMs, error } = answer as { blocks: number; wallMs: number; error?: string };
    if (error !== undefined) throw new Error(error);
    return (blocks * 4096) / 1e6 / wallMs;
  };
  for (let round = 0; round < rounds; round++) {
    rates.push(await resync());
    const quiet = await runFio(small, target.uri, target.pids, seconds, sizeMib);
    let over = false;
    const load = runFio(small, target.uri, target.pids, seconds, sizeMib).finally(() => {
      over = true;
    });
    while (!over) await resync();
    slowdowns.push((await load).p99us / quiet.p99us);
  }
  return [
    { name: "resync: rate, idle", values: rates, unit: "GB/s", must: 0.5, aim: 0.8, atMost: false },
    {
      name: "resync: p99 of a write at QD1, with resync / without",
      values: slowdowns,
      unit: "times",
      must: 2,
      aim: 2,
      atMost: true,
    },
  ];
}
