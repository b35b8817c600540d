import { type Context, NEVER } from "./context.ts";
import { FOREIGN, LOCAL, NONE } from "./group-set.ts";
import type { ScriptResult, ServiceGroup } from "./ports.ts";
import { type ScriptIds, ServiceGroupRunner } from "./service-group.ts";

/** All service groups on this node, addressed by set: those that prefer this node, those that prefer the other. */
export class ServiceGroups {
  readonly runners: readonly ServiceGroupRunner[];
  readonly #own: string;
  #probing = false;
  readonly #wishes = new Map<ServiceGroupRunner, { readonly kind: "run" | "stop"; begun: boolean }>();

  /** Whether the other node would take a group that fails here; set by the resource protocol. */
  mayMove: (group: ServiceGroup) => boolean = () => false;

  constructor(context: Context) {
    this.#own = context.identity.node;
    let id = 0;
    const ids: ScriptIds = { next: () => ++id };
    this.runners = context.config.groups.map(
      (group) => new ServiceGroupRunner(context, group, ids, () => this.mayMove(group)),
    );
  }

  bitOf(runner: ServiceGroupRunner): number {
    return runner.group.node === this.#own ? LOCAL : FOREIGN;
  }

  in(set: number): readonly ServiceGroupRunner[] {
    return this.runners.filter((runner) => (this.bitOf(runner) & set) !== 0);
  }

  probe(): void {
    this.#probing = true;
    for (const runner of this.runners) runner.probe();
  }

  /** True once after every group has answered the probe. */
  probed(): boolean {
    if (!this.#probing || this.runners.some((runner) => runner.busy)) return false;
    this.#probing = false;
    return true;
  }

  /** Sets of which something ran before this engine started anything. */
  leftovers(): number {
    return this.#bits((runner) => runner.leftover);
  }

  /** Sets of which every leftover is in the journal of the daemon's earlier life. */
  listed(journal: readonly string[]): number {
    const unlisted = this.#bits((runner) => runner.leftover && !journal.includes(runner.group.key));
    return this.leftovers() & ~unlisted;
  }

  /** Sets in which a start failed. */
  failed(): number {
    return this.#bits((runner) => runner.failed);
  }

  /** Wish the groups of a set to run; they start one after the other in the order of the file. */
  run(set: number): void {
    this.#wish(set, "run");
  }

  /**
   * Call every stop script of a set, also of groups that do not run here, one group after the other in the order of the file.
   * Groups that could not be stopped before are tried again.
   */
  stop(set: number): void {
    this.#wish(set, "stop");
  }

  #wish(set: number, kind: "run" | "stop"): void {
    for (const runner of this.in(set)) this.#wishes.set(runner, { kind, begun: false });
    this.pump();
  }

  /** Begin what is wished and next in order. */
  pump(): void {
    for (const bit of [LOCAL, FOREIGN]) {
      for (const runner of this.in(bit)) {
        const wish = this.#wishes.get(runner);
        if (wish !== undefined && !wish.begun) {
          wish.begun = true;
          if (wish.kind === "run") runner.run();
          else runner.stop();
        }
        if (runner.busy) break;
        this.#wishes.delete(runner);
      }
    }
  }

  /** Nothing of the set runs here: every wished stop has been called and has succeeded. */
  released(set: number): boolean {
    return this.in(set).every((runner) => runner.released && !this.#wishes.has(runner));
  }

  /** Nothing is in motion, whatever the outcome. */
  settled(set: number): boolean {
    return this.in(set).every((runner) => !runner.busy && !this.#wishes.has(runner));
  }

  stopFailed(set: number): boolean {
    return this.in(set).some((runner) => runner.state === "stop-failed");
  }

  forgetFailures(): void {
    for (const runner of this.runners) runner.forgetFailure();
  }

  scriptDone(id: number, result: ScriptResult): boolean {
    const known = this.runners.some((runner) => runner.scriptDone(id, result));
    this.pump();
    return known;
  }

  tick(): void {
    for (const runner of this.runners) runner.tick();
    this.pump();
  }

  deadline(): number {
    return this.runners.reduce((earliest, runner) => Math.min(earliest, runner.deadline()), NEVER);
  }

  #bits(test: (runner: ServiceGroupRunner) => boolean): number {
    return this.runners.reduce((bits, runner) => (test(runner) ? bits | this.bitOf(runner) : bits), NONE);
  }
}
