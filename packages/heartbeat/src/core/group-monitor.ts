import { type Context, NEVER } from "./context.ts";
import type { MonitorPolicy, ScriptResult, ServiceGroup } from "./ports.ts";

interface Check {
  readonly id: number;
  readonly index: number;
  readonly deadlineMs: number;
}

/** A resource that was found not running. */
export interface MonitorFinding {
  readonly index: number;
  readonly policy: MonitorPolicy;
  /** Failures inside the window, this one included. */
  readonly failures: number;
  readonly why: string;
}

/**
 * Watches the resources of one running service group, one check at a time, and counts what it finds. What is to be done about
 * a finding is the group's affair.
 */
export class GroupMonitor {
  readonly #context: Context;
  readonly #group: ServiceGroup;
  readonly #nextId: () => number;
  readonly #saysRunning: (output: string) => boolean;
  readonly #nextMs: number[];
  #failuresMs: number[] = [];
  #check: Check | undefined;
  /** A check that was called off; its answer means nothing. */
  #abandoned: number | undefined;

  constructor(context: Context, group: ServiceGroup, nextId: () => number, saysRunning: (output: string) => boolean) {
    this.#context = context;
    this.#group = group;
    this.#nextId = nextId;
    this.#saysRunning = saysRunning;
    this.#nextMs = group.resources.map(() => NEVER);
  }

  get configured(): boolean {
    return this.#group.resources.some((resource) => resource.monitor !== undefined);
  }

  /** Longest memory of the group's resources, ms. */
  get windowMs(): number {
    return Math.max(0, ...this.#group.resources.map((resource) => resource.monitor?.windowMs ?? 0));
  }

  get failures(): number {
    this.#forget();
    return this.#failuresMs.length;
  }

  /** The group runs: look at it from now on. */
  begin(): void {
    this.#group.resources.forEach((resource, index) => {
      this.#nextMs[index] = resource.monitor === undefined ? NEVER : this.#context.nowMs + resource.monitor.intervalMs;
    });
  }

  /** The group is being started, stopped or moved. */
  end(): void {
    this.#nextMs.fill(NEVER);
    if (this.#check === undefined) return;
    this.#context.sink.abortScript(this.#check.id);
    this.#abandoned = this.#check.id;
    this.#check = undefined;
  }

  forgetFailures(): void {
    this.#failuresMs = [];
  }

  /** @returns a finding, nothing (all is well), or false when the script is not one of ours */
  scriptDone(id: number, result: ScriptResult): MonitorFinding | undefined | false {
    if (id === this.#abandoned) {
      this.#abandoned = undefined;
      return undefined;
    }
    const check = this.#check;
    if (check?.id !== id) return false;
    this.#check = undefined;
    if (this.#saysRunning(result.output)) {
      this.#rearm(check.index);
      return undefined;
    }
    return this.#found(check.index, `status: ${result.output.trim().slice(0, 200) || `exit code ${result.exitCode}`}`);
  }

  /** Begin what is due. @returns a finding when a check has taken too long */
  tick(): MonitorFinding | undefined {
    const { nowMs, sink } = this.#context;
    const check = this.#check;
    if (check !== undefined) {
      if (nowMs < check.deadlineMs) return undefined;
      sink.abortScript(check.id);
      this.#abandoned = check.id;
      this.#check = undefined;
      return this.#found(check.index, "its status did not answer in time");
    }
    const index = this.#nextMs.findIndex((dueMs) => nowMs >= dueMs);
    const resource = this.#group.resources[index];
    if (resource?.monitor === undefined) return undefined;
    this.#nextMs[index] = NEVER;
    this.#check = { id: this.#nextId(), index, deadlineMs: nowMs + resource.monitor.timeoutMs };
    sink.runScript(this.#check.id, { group: this.#group.key, resource, action: "status" });
    return undefined;
  }

  deadline(): number {
    return this.#check?.deadlineMs ?? Math.min(NEVER, ...this.#nextMs);
  }

  #rearm(index: number): void {
    this.#nextMs[index] = this.#context.nowMs + (this.#group.resources[index]?.monitor?.intervalMs ?? NEVER);
  }

  #found(index: number, why: string): MonitorFinding {
    const policy = this.#group.resources[index]?.monitor as MonitorPolicy;
    this.#forget();
    this.#failuresMs.push(this.#context.nowMs);
    return { index, policy, failures: this.#failuresMs.length, why };
  }

  #forget(): void {
    const sinceMs = this.#context.nowMs - this.windowMs;
    this.#failuresMs = this.#failuresMs.filter((atMs) => atMs > sinceMs);
  }
}
