import { type Context, NEVER } from "./context.ts";
import { GroupMonitor, type MonitorFinding } from "./group-monitor.ts";
import type { GroupState, ScriptAction, ScriptResult, ServiceGroup, ServiceResource } from "./ports.ts";

/** Pause between two attempts of a failing stop. @see Heartbeat 3.0.6 ResourceManager */
const STOP_RETRY_MS = 1000;
/** An aborted script that does not end within this long is given up; its result, should it come, is ignored. */
const ABORT_PATIENCE_MS = 10_000;

/**
 * Whether the output of `status` says that a resource runs: the text decides, the exit code does not. `not running`
 * (either word capitalised) wins; else `OK`, `running` or `Running` anywhere mean that it runs.
 * @see Heartbeat 3.0.6 ResourceManager, status
 */
export function saysRunning(output: string): boolean {
  if (/[Nn][Oo][Tt] [Rr]unning/.test(output)) return false;
  return output.includes("OK") || output.includes("running") || output.includes("Running");
}

/** Stands for a script that had to be aborted. */
const ABORTED: ScriptResult = { exitCode: 124, output: "" };

type Target = "run" | "stop";
type Phase = "idle" | "probe" | "start" | "stop" | "wait-stop";

interface Running {
  readonly id: number;
  readonly action: ScriptAction;
  deadlineMs: number;
  aborted: boolean;
}

/** Numbers scripts of all groups, so that a result finds the one that asked. */
export interface ScriptIds {
  next(): number;
}

/**
 * One service group on this node. It walks to its target one script at a time and looks at the target again between two
 * scripts: a change of mind in the middle of a start becomes a complete stop, never a mixture.
 */
export class ServiceGroupRunner {
  readonly group: ServiceGroup;
  readonly #context: Context;
  readonly #ids: ScriptIds;
  #target: Target = "stop";
  #phase: Phase = "idle";
  #state: GroupState = "stopped";
  /** Resource being worked on; counts up in a start, down in a stop. */
  #index = 0;
  #attempt = 0;
  #retryMs = NEVER;
  #checkingStop = false;
  #running: Running | undefined;
  #failed: string | undefined;
  #failedMs = 0;
  #leftover = false;
  /** A restart stops only what stands right of the failed resource, and that one. */
  #stopDownTo = 0;
  readonly #monitor: GroupMonitor;
  readonly #mayMove: () => boolean;

  /** @param mayMove whether the other node would take the group now, so that giving it up here makes sense */
  constructor(context: Context, group: ServiceGroup, ids: ScriptIds, mayMove: () => boolean) {
    this.#context = context;
    this.group = group;
    this.#ids = ids;
    this.#mayMove = mayMove;
    this.#monitor = new GroupMonitor(context, group, () => ids.next(), saysRunning);
  }

  /** Failures found by monitoring that are not forgotten yet. */
  get failures(): number {
    return this.#monitor.failures;
  }

  get state(): GroupState {
    return this.#state;
  }

  get failedResource(): string | undefined {
    return this.#failed;
  }

  /** A start failed here since the failures were last forgotten. */
  get failed(): boolean {
    return this.#failed !== undefined;
  }

  get target(): Target {
    return this.#target;
  }

  /** A script runs or is about to: the group is between two states. */
  get busy(): boolean {
    return this.#phase !== "idle";
  }

  /** Nothing of it runs here, proven by the last stop (or by the first look at it). */
  get released(): boolean {
    return !this.busy && (this.#state === "stopped" || this.#state === "failed");
  }

  get leftover(): boolean {
    return this.#leftover;
  }

  /** Ask each resource whether it runs, before anything is decided: an earlier life of this daemon may have left it. */
  probe(): void {
    this.#phase = "probe";
    this.#index = 0;
    this.#step();
  }

  /** Start what is not running. A group whose start failed stays down until `forgetFailure`. */
  run(): void {
    this.#target = "run";
    if (this.#failed !== undefined || this.busy || this.#state === "running") return;
    this.#begin("start", 0, "starting");
    this.#step();
  }

  /** Stop every resource, also those that should not be running: stop scripts are called on a node that holds nothing. */
  stop(): void {
    this.#target = "stop";
    this.#stopDownTo = 0;
    if (this.#phase === "stop" || this.#phase === "wait-stop") return;
    if (this.busy) return;
    this.#beginStop();
    this.#step();
  }

  /** Let it be started again. */
  forgetFailure(): void {
    this.#failed = undefined;
    this.#monitor.forgetFailures();
    if (this.#state === "failed") this.#enter("stopped");
  }

  scriptDone(id: number, result: ScriptResult): boolean {
    const finding = this.#monitor.scriptDone(id, result);
    if (finding !== false) {
      if (finding !== undefined) this.#found(finding);
      return true;
    }
    const running = this.#running;
    if (running === undefined || running.id !== id) return false;
    this.#running = undefined;
    this.#finished(running.action, running.aborted ? ABORTED : result);
    return true;
  }

  tick(): void {
    const { nowMs, sink } = this.#context;
    const running = this.#running;
    if (running !== undefined && nowMs >= running.deadlineMs) {
      if (running.aborted) {
        this.#running = undefined;
        this.#finished(running.action, ABORTED);
      } else {
        running.aborted = true;
        running.deadlineMs = nowMs + ABORT_PATIENCE_MS;
        const resource = this.#resource();
        this.#context.event(
          "error",
          "script.timeout",
          `${resource.text} ${running.action} did not end within ${this.#context.config.scriptTimeoutMs} ms: aborted, counts as failed`,
          { group: this.group.key, resource: resource.text, action: running.action },
        );
        sink.abortScript(running.id);
      }
    }
    if (this.#phase === "wait-stop" && nowMs >= this.#retryMs) {
      this.#phase = "stop";
      this.#retryMs = NEVER;
      this.#step();
    }
    if (nowMs >= this.#expiresAtMs()) this.#expire();
    const finding = this.#monitor.tick();
    if (finding !== undefined) this.#found(finding);
  }

  deadline(): number {
    return Math.min(
      this.#running?.deadlineMs ?? NEVER,
      this.#phase === "wait-stop" ? this.#retryMs : NEVER,
      this.#monitor.deadline(),
      this.#expiresAtMs(),
    );
  }

  /** A monitored group forgets a failure after the window; without monitoring that is the administrator's to do. */
  #expiresAtMs(): number {
    if (this.#failed === undefined || this.busy || !this.#monitor.configured) return NEVER;
    return this.#failedMs + this.#monitor.windowMs;
  }

  #expire(): void {
    const resource = this.#failed ?? "";
    this.forgetFailure();
    this.#context.event("info", "monitor.expired", `the failure of ${resource} is forgotten`, {
      group: this.group.key,
      resource,
    });
    if (this.#target === "run") this.run();
  }

  #found({ index, policy, failures, why }: MonitorFinding): void {
    const resource = this.group.resources[index] as ServiceResource;
    const move = policy.failures > 0 && failures >= policy.failures && this.#mayMove();
    const what = move ? "giving the service group up here" : "restarting it";
    this.#context.event(
      "error",
      "monitor.failed",
      `${resource.text} does not run (${why}), failure ${failures} in ${Math.round(policy.windowMs / 1000)} s: ${what}`,
      { group: this.group.key, resource: resource.text, failures, move },
    );
    if (move) this.#fail(resource.text);
    else {
      this.#beginStop();
      this.#stopDownTo = index;
    }
    this.#step();
  }

  #fail(resource: string): void {
    this.#failed = resource;
    this.#failedMs = this.#context.nowMs;
    // also those that were never started: a failed start may have half happened
    this.#beginStop();
  }

  #resource(): ServiceResource {
    return this.group.resources[this.#index] as ServiceResource;
  }

  #begin(phase: Phase, index: number, state: GroupState): void {
    this.#phase = phase;
    this.#index = index;
    this.#attempt = 0;
    this.#checkingStop = false;
    this.#monitor.end();
    this.#enter(state);
  }

  #beginStop(): void {
    this.#stopDownTo = 0;
    this.#begin("stop", this.group.resources.length - 1, "stopping");
  }

  #enter(state: GroupState): void {
    if (state === this.#state) return;
    const from = this.#state;
    this.#state = state;
    const level = state === "stop-failed" ? "crit" : state === "failed" ? "error" : "info";
    this.#context.event(level, "group.state", `service group ${this.group.key}: ${from} -> ${state}`, {
      group: this.group.key,
      from,
      to: state,
    });
  }

  /** Ask for the next script, or settle. */
  #step(): void {
    if (this.#running !== undefined) return;
    if (this.#phase === "start" && this.#target === "stop") this.#beginStop();
    if (this.#phase === "probe" && this.#index >= this.group.resources.length) {
      this.#settle(this.#state);
      return;
    }
    if (this.#phase === "start" && this.#index >= this.group.resources.length) {
      this.#settle("running");
      return;
    }
    if (this.#phase === "stop" && this.#index < this.#stopDownTo && this.#index >= 0) {
      this.#begin("start", this.#stopDownTo, "starting");
    }
    if (this.#phase === "stop" && this.#index < 0) {
      this.#leftover = false;
      this.#settle(this.#failed === undefined ? "stopped" : "failed");
      return;
    }
    if (this.#phase === "probe" || this.#phase === "start") this.#script("status");
    else if (this.#phase === "stop") this.#script("stop");
  }

  #settle(state: GroupState): void {
    this.#phase = "idle";
    if (state === "running") {
      this.#leftover = false;
      this.#monitor.begin();
    }
    this.#enter(state);
    // the target may have changed while the last script ran
    if (this.#target === "run" && state === "stopped") this.run();
  }

  #script(action: ScriptAction): void {
    const id = this.#ids.next();
    const resource = this.#resource();
    this.#running = {
      id,
      action,
      deadlineMs: this.#context.nowMs + this.#context.config.scriptTimeoutMs,
      aborted: false,
    };
    this.#context.event("debug", "script.start", `${resource.text} ${action}`, {
      group: this.group.key,
      resource: resource.text,
      action,
    });
    this.#context.sink.runScript(id, { group: this.group.key, resource, action });
  }

  #finished(action: ScriptAction, result: ScriptResult): void {
    if (this.#phase === "probe") {
      if (saysRunning(result.output)) this.#leftover = true;
      this.#index++;
    } else if (this.#phase === "start") this.#startFinished(action, result);
    else this.#stopFinished(action, result);
    this.#step();
  }

  #startFinished(action: ScriptAction, result: ScriptResult): void {
    if (action === "status") {
      if (this.#target === "stop") return;
      if (saysRunning(result.output)) this.#index++;
      else this.#script("start");
      return;
    }
    if (result.exitCode === 0) {
      this.#index++;
      return;
    }
    const resource = this.#resource().text;
    this.#context.event(
      "crit",
      "script.failed",
      `${resource} start failed with exit code ${result.exitCode}: giving up service group ${this.group.key}`,
      { group: this.group.key, resource, action: "start", exitCode: result.exitCode },
    );
    this.#fail(resource);
  }

  #stopFinished(action: ScriptAction, result: ScriptResult): void {
    const resource = this.#resource().text;
    const details = { group: this.group.key, resource, action: "stop", exitCode: result.exitCode };
    if (this.#checkingStop && action === "status") {
      this.#checkingStop = false;
      if (result !== ABORTED && !saysRunning(result.output)) {
        this.#context.event(
          "warn",
          "script.failed",
          `${resource} stop fails although it is not running: a stop of what is stopped must succeed; going on`,
          details,
        );
        this.#nextStop();
        return;
      }
      this.#context.event(
        "crit",
        "script.failed",
        `${resource} cannot be stopped: service group ${this.group.key} stays on this node, the other node must not start it; stop it by hand or restart this machine`,
        details,
      );
      this.#phase = "idle";
      this.#enter("stop-failed");
      return;
    }
    if (result.exitCode === 0) {
      this.#nextStop();
      return;
    }
    if (this.#attempt >= this.#context.config.stopRetries) {
      this.#checkingStop = true;
      this.#script("status");
      return;
    }
    this.#attempt++;
    this.#context.event(
      "warn",
      "script.retry",
      `${resource} stop failed with exit code ${result.exitCode}: attempt ${this.#attempt} of ${this.#context.config.stopRetries + 1}, trying again`,
      { ...details, attempt: this.#attempt },
    );
    this.#phase = "wait-stop";
    this.#retryMs = this.#context.nowMs + STOP_RETRY_MS;
  }

  #nextStop(): void {
    this.#attempt = 0;
    this.#index--;
  }
}
