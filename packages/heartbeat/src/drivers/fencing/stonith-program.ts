import { assignParameters } from "../../config/stonith-parameters.ts";
import { runCommand } from "../run-command.ts";
import { type FenceDevice, type FenceLimits, type FenceOutcome, failureText, listsHost, Turns } from "./device.ts";
import { guarded } from "./external-plugin.ts";

/**
 * Any other type of cluster-glue (`ssh`, `apcmaster`, `null`, …): its plugins are shared objects, so its own command `stonith`
 * loads them. Parameters as in ha.cf, by position.
 * @see cluster-glue stonith(8)
 */
export class StonithProgram implements FenceDevice {
  readonly name: string;
  readonly #program: string;
  readonly #words: () => Promise<readonly string[]>;
  readonly #limits: FenceLimits;
  readonly #turns = new Turns();

  constructor(type: string, program: string, words: () => Promise<readonly string[]>, limits: FenceLimits) {
    this.name = type;
    this.#program = program;
    this.#words = words;
    this.#limits = limits;
  }

  reset(node: string): Promise<FenceOutcome> {
    return this.#turns.run(() => guarded(() => this.#reset(node)));
  }

  check(): Promise<string | undefined> {
    return this.#turns.run(async () => {
      try {
        const result = await this.#call(["-S"], this.#limits.queryMs);
        return result.exitCode === 0
          ? undefined
          : failureText(`stonith -t ${this.name} -S`, result, this.#limits.queryMs);
      } catch (error) {
        return (error as Error).message;
      }
    });
  }

  async #reset(node: string): Promise<FenceOutcome> {
    const hosts = await this.#call(["-l"], this.#limits.queryMs);
    if (hosts.exitCode !== 0) {
      return { result: "bad", text: failureText(`stonith -t ${this.name} -l`, hosts, this.#limits.queryMs) };
    }
    if (!listsHost(hosts.stdout, node)) {
      const listed = hosts.stdout.trim().split(/\s+/).join(", ");
      return { result: "badhost", text: `${this.name} resets only ${listed === "" ? "nobody" : listed}` };
    }
    const reset = await this.#call(["-T", "reset", node], this.#limits.resetMs);
    if (reset.exitCode === 0 && !reset.timedOut) return { result: "OK", text: `${this.name} reset it` };
    return { result: "bad", text: failureText(`stonith -t ${this.name} -T reset`, reset, this.#limits.resetMs) };
  }

  /** Parameters go through the environment: a command line is everybody's to read. */
  async #call(args: readonly string[], timeLimitMs: number): ReturnType<typeof runCommand> {
    const base = ["-t", this.name];
    const names = await runCommand(this.#program, [...base, "-n"], { timeLimitMs: this.#limits.queryMs });
    if (names.exitCode !== 0) {
      throw new Error(failureText(`stonith -t ${this.name} -n`, names, this.#limits.queryMs));
    }
    const list = names.stdout.split(/\s+/).filter((name) => name !== "");
    const env = { ...process.env, ...assignParameters(list, await this.#words()) };
    return runCommand(this.#program, [...base, "-E", ...args], { env, timeLimitMs });
  }
}
