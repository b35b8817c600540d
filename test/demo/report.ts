import { performance } from "node:perf_hooks";

/** The demo cannot go on: in which step, and why. */
export class StepError extends Error {
  readonly step: string;

  constructor(step: string, reason: string) {
    super(reason);
    this.name = "StepError";
    this.step = step;
  }
}

/** What one power loss showed. */
export interface RunFigures {
  readonly failoverMs: number;
  readonly failbackMs: number;
  readonly resyncBytes: number;
  readonly acknowledged: number;
  readonly lost: number;
}

interface DoneStep {
  readonly name: string;
  readonly text: string;
  readonly durationMs: number;
}

/** Shows what happens, for people as text or for programs as JSON lines. */
export class Report {
  readonly #json: boolean;
  readonly #terminal: boolean;
  readonly #startedMs = performance.now();
  readonly #done: DoneStep[] = [];
  #muted = false;
  #current: { name: string; text: string; startedMs: number } | undefined;

  constructor(json: boolean) {
    this.#json = json;
    this.#terminal = !json && process.stdout.isTTY === true;
  }

  /** The step that runs now, for an interruption to name. */
  get currentStep(): string {
    return this.#current?.name ?? "end";
  }

  #event(event: string, fields: Readonly<Record<string, unknown>>): void {
    if (!this.#json || this.#muted) return;
    console.log(JSON.stringify({ event, atMs: Math.round(performance.now() - this.#startedMs), ...fields }));
  }

  #print(line: string): void {
    if (this.#json || this.#muted) return;
    const clear = this.#terminal ? "\r\u001b[K" : "";
    process.stdout.write(`${clear}${line}\n`);
  }

  /** Overwrites itself; on a terminal only. */
  #transient(line: string): void {
    if (this.#terminal && !this.#muted)
      process.stdout.write(`\r\u001b[K${line.slice(0, (process.stdout.columns ?? 100) - 1)}`);
  }

  heading(text: string): void {
    this.#event("phase", { text });
    this.#print(`\n${text}`);
  }

  /** A fact on a line of its own. */
  note(text: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.#event("note", { text, ...fields });
    this.#print(`${" ".repeat(11)}${text}`);
  }

  progress(text: string): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#event("progress", { step: current.name, text });
    this.#transient(`${seconds(performance.now() - current.startedMs)}  ${current.text}: ${text}`);
  }

  /**
   * Run one step: shown when it starts and when it ends, with its duration. What `work` returns as text (or as `text`
   * beside its value) is added to the line.
   * @throws StepError with the step's name, whatever `work` throws
   */
  async step<T>(name: string, text: string, work: () => Promise<T>, detail?: (value: T) => string): Promise<T> {
    const startedMs = performance.now();
    this.#current = { name, text, startedMs };
    this.#event("step", { step: name, state: "started", text });
    this.#transient(`${" ".repeat(9)}  ${text} ...`);
    try {
      const value = await work();
      const durationMs = performance.now() - startedMs;
      const shown = detail === undefined ? text : `${text}: ${detail(value)}`;
      this.#done.push({ name, text, durationMs });
      this.#event("step", { step: name, state: "done", text: shown, durationMs: Math.round(durationMs) });
      this.#print(`${seconds(durationMs)}  ${shown}`);
      this.#current = undefined;
      return value;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#event("step", { step: name, state: "failed", reason });
      this.#print(`${seconds(performance.now() - startedMs)}  ${text}: FAILED: ${reason}`);
      throw error instanceof StepError ? error : new StepError(name, reason);
    }
  }

  /** The closing table: where the time went, and what each power loss showed. */
  table(runs: readonly RunFigures[]): void {
    const totals = new Map<string, number>();
    for (const { name, durationMs } of this.#done) totals.set(name, (totals.get(name) ?? 0) + durationMs);
    this.#event("table", { stepsMs: Object.fromEntries([...totals].map(([k, v]) => [k, Math.round(v)])), runs });
    this.#print(`\n${"step".padEnd(24)}${"seconds".padStart(10)}`);
    for (const [name, ms] of totals) this.#print(`${name.padEnd(24)}${(ms / 1000).toFixed(2).padStart(10)}`);
    const totalMs = performance.now() - this.#startedMs;
    this.#print(`${"all".padEnd(24)}${(totalMs / 1000).toFixed(2).padStart(10)}\n`);
    this.#print("run   failover ms   failback ms   resync bytes   acknowledged   lost");
    runs.forEach((run, index) => {
      const cells = [
        [String(index + 1), 3],
        [String(run.failoverMs), 14],
        [String(run.failbackMs), 14],
        [String(run.resyncBytes), 15],
        [String(run.acknowledged), 15],
        [String(run.lost), 7],
      ] as const;
      this.#print(cells.map(([text, width]) => text.padStart(width)).join(""));
    });
    this.#print("");
  }

  runLine(index: number, count: number, run: RunFigures): void {
    this.#event("run", { run: index, of: count, ...run });
    this.#print(`run ${index}/${count}: ${figures(run)}`);
  }

  /** An interruption: say so, and nothing of what fails because of it. */
  interrupt(line: string): void {
    this.last(line);
    this.#muted = true;
  }

  warn(text: string): void {
    if (this.#muted) return;
    this.#event("warning", { text });
    if (this.#terminal) process.stdout.write("\r\u001b[K");
    process.stderr.write(`${text}\n`);
  }

  /** The last line, the same with and without --json. */
  last(line: string): void {
    if (this.#muted) return;
    if (this.#terminal) process.stdout.write("\r\u001b[K");
    console.log(line);
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2).padStart(7)} s`;
}

export function figures(run: RunFigures): string {
  return [
    `failover_ms=${run.failoverMs}`,
    `failback_ms=${run.failbackMs}`,
    `resync_bytes=${run.resyncBytes}`,
    `acknowledged=${run.acknowledged}`,
    `lost=${run.lost}`,
  ].join(" ");
}

/** Several runs as one: the maxima; what was lost and acknowledged, summed. */
export function summary(runs: readonly RunFigures[]): RunFigures {
  const max = (pick: (run: RunFigures) => number): number => Math.max(0, ...runs.map(pick));
  const sum = (pick: (run: RunFigures) => number): number => runs.reduce((total, run) => total + pick(run), 0);
  return {
    failoverMs: max((run) => run.failoverMs),
    failbackMs: max((run) => run.failbackMs),
    resyncBytes: max((run) => run.resyncBytes),
    acknowledged: sum((run) => run.acknowledged),
    lost: sum((run) => run.lost),
  };
}

/** One line, so that `demo: failed ... reason=` stays one. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim().slice(0, 600);
}
