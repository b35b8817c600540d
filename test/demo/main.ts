// The demo's program; scripts/demo.mjs has done the set-up and starts it. See options.ts for its flags.
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { endAll, type Lab, removeKept } from "../lab/lab.ts";
import { NODE_ENVIRONMENT } from "../lab/node.ts";
import { stateFolder } from "../lab/record.ts";
import { lastWords, makeLab, SERVICE_ADDRESS } from "./nodes.ts";
import { type DemoOptions, paceOf, parseOptions, USAGE, UsageError } from "./options.ts";
import { figures, oneLine, Report, type RunFigures, StepError, summary } from "./report.ts";
import { Scenario } from "./steps.ts";

const INTERRUPTIONS = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const;

async function main(args: readonly string[]): Promise<number> {
  let options: DemoOptions;
  try {
    options = parseOptions(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`demo: ${error.message}\n${USAGE}`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  if (options.remove) {
    const names = await removeKept();
    console.log(names.length === 0 ? "no demo was kept" : `removed: ${names.join(", ")}`);
    return 0;
  }
  return await demo(options);
}

async function demo(options: DemoOptions): Promise<number> {
  const report = new Report(options.json);
  for (const [signal, code] of INTERRUPTIONS) {
    process.on(signal, () => {
      report.interrupt(
        `demo: interrupted by ${signal} in step=${report.currentStep.replaceAll(" ", "-")}: cleaning up`,
      );
      void endAll(code);
    });
  }

  let lab: Lab | undefined;
  let scenario: Scenario | undefined;
  try {
    lab = await report.step("lab", "two nodes and a client, as namespaces of this machine", makeLab);
    scenario = new Scenario(lab, report, options, paceOf(options));
    await scenario.prepare();
    await scenario.service();
    const runs = await powerLosses(scenario, report, options.runs);
    await scenario.conclude();
    if (options.keep) keep(lab, report);
    else {
      const made = lab;
      await report.step("clean up", "take the nodes away", () => made.down());
    }
    report.table(runs);
    report.last(`demo: ok ${figures(summary(runs))}`);
    return 0;
  } catch (error) {
    const [step, reason] =
      error instanceof StepError ? [error.step, error.message] : [report.currentStep, String(error)];
    if (lab !== undefined) await afterFailure(lab, scenario, report, options.keep);
    report.last(`demo: failed step=${step.replaceAll(" ", "-")} reason=${oneLine(reason)}`);
    return 1;
  }
}

async function powerLosses(scenario: Scenario, report: Report, count: number): Promise<RunFigures[]> {
  const runs: RunFigures[] = [];
  for (let index = 1; index <= count; index++) {
    const run = await scenario.powerLoss();
    runs.push(run);
    if (count > 1) report.runLine(index, count, run);
  }
  return runs;
}

/** Show what the nodes say, then clean up (or not: with --keep the failure can be looked at). */
async function afterFailure(lab: Lab, scenario: Scenario | undefined, report: Report, kept: boolean): Promise<void> {
  try {
    if (scenario !== undefined) report.warn(await scenario.statusTexts());
    for (const name of ["nodo1", "nodo2"]) report.warn(await lastWords(lab.node(name)));
  } catch (error) {
    report.warn(`the nodes cannot be asked: ${String(error)}`);
  }
  if (kept) keep(lab, report);
  else await lab.down();
}

/** Leave the cluster up, with a way into each machine. */
function keep(lab: Lab, report: Report): void {
  lab.keep();
  report.heading("The cluster stays up (--keep)");
  for (const node of lab.nodes) {
    if (!node.isOn) continue;
    const path = join(stateFolder(lab.name), `enter-${node.name}`);
    const enter = `nsenter -t ${node.init?.pid} -m -u -n -i -p -- env ${NODE_ENVIRONMENT.join(" ")} TERM="$TERM"`;
    writeFileSync(path, `#!/bin/sh\n[ $# -gt 0 ] || set -- bash\nexec ${enter} "$@"\n`);
    chmodSync(path, 0o755);
    report.note(`${node.name}: ${path}`, { node: node.name, enter: path });
  }
  const tries = [
    "in a node:    hacluster status        who has what, and the state of the disk",
    "in nodo1:     hacluster stop          nodo2 takes over; hacluster start brings it home",
    "in nodo1:     halt -f                 a power loss (of the node only: the host is safe)",
    `in client:    curl http://${SERVICE_ADDRESS}/ http://${SERVICE_ADDRESS}/whoami`,
    "when done:    npm run demo -- --remove",
  ];
  for (const text of tries) report.note(text);
}

process.exitCode = await main(process.argv.slice(2));
