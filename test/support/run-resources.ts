// Runs steps of a ResourceRunner in the machine (the lab node) it is started in: node run-resources.js JSON. Prints the
// outcome of each step, and what the runner said, as one JSON document.
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { ResourceRunner } from "@hacluster/heartbeat/unstable/drivers/resource-runner";
import type {
  ActionResult,
  ResourceAction,
  ResourceAlarm,
} from "@hacluster/heartbeat/unstable/drivers/resources/resource";

/** `run` takes a word of haresources, for example `IPaddr2::192.168.0.29/24/eth0`. */
export type Step =
  | { readonly run: string; readonly action: ResourceAction }
  | { readonly sleepMs: number }
  | { readonly announceAll: true }
  | { readonly checkConflicts: true }
  | { readonly removeLeftovers: readonly string[]; readonly except?: readonly string[] };

export interface Outcome {
  readonly ms: number;
  readonly result?: ActionResult;
  readonly said?: readonly string[];
}

export interface Report {
  readonly outcomes: readonly Outcome[];
  readonly alarms: readonly ResourceAlarm[];
  readonly lines: readonly string[];
}

export interface Job {
  readonly steps: readonly Step[];
  readonly endHolders?: boolean;
  readonly timeLimitsMs?: Partial<Record<ResourceAction, number>>;
  readonly environment?: Readonly<Record<string, string>>;
}

function word(text: string): { text: string; script: string; args: string[] } {
  const [script = "", ...args] = text.split("::");
  return { text, script, args };
}

async function main(job: Job): Promise<Report> {
  const alarms: ResourceAlarm[] = [];
  const lines: string[] = [];
  const runner = new ResourceRunner({
    storage: {
      promote: () => Promise.resolve(),
      demote: () => Promise.resolve(),
      role: () => Promise.resolve("Secondary"),
      resources: () => [],
    },
    onAlarm: (alarm) => alarms.push(alarm),
    onOutput: (spec, action, line) => lines.push(`${spec.script} ${action}: ${line}`),
    ...(job.endHolders === undefined ? {} : { endHolders: job.endHolders }),
    ...(job.timeLimitsMs === undefined ? {} : { timeLimitsMs: job.timeLimitsMs }),
    environment: () => job.environment ?? {},
  });
  const outcomes: Outcome[] = [];
  for (const step of job.steps) {
    const from = performance.now();
    const outcome: { result?: ActionResult; said?: readonly string[] } = {};
    if ("run" in step) outcome.result = await runner.run(word(step.run), step.action);
    else if ("sleepMs" in step) await sleep(step.sleepMs);
    else if ("announceAll" in step) runner.announceAll();
    else if ("checkConflicts" in step) await runner.checkConflicts();
    else {
      const groups = [{ resources: step.removeLeftovers.map(word) }];
      outcome.said = await runner.removeLeftovers(groups, new Set(step.except ?? []));
    }
    outcomes.push({ ...outcome, ms: performance.now() - from });
  }
  runner.close();
  return { outcomes, alarms, lines };
}

process.stdout.write(JSON.stringify(await main(JSON.parse(process.argv[2] ?? "") as Job)));
