import { assignParameters } from "../../config/stonith-parameters.ts";
import { type CommandResult, runCommand } from "../run-command.ts";
import { type FenceDevice, type FenceLimits, type FenceOutcome, failureText, listsHost, Turns } from "./device.ts";

/** Where cluster-glue's plugins look for their logging helper. */
const HELPER_PATH = "/usr/share/cluster-glue:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * `external/NAME` of cluster-glue: an executable that is called with an action and gets its parameters in the environment.
 * @see cluster-glue external STONITH plugins: getconfignames, gethosts, status, reset
 */
export class ExternalPlugin implements FenceDevice {
  readonly name: string;
  readonly #path: string;
  readonly #words: () => Promise<readonly string[]>;
  readonly #limits: FenceLimits;
  readonly #turns = new Turns();

  /** @param words the parameters of the ha.cf line, or of the file that it names */
  constructor(name: string, path: string, words: () => Promise<readonly string[]>, limits: FenceLimits) {
    this.name = name;
    this.#path = path;
    this.#words = words;
    this.#limits = limits;
  }

  reset(node: string): Promise<FenceOutcome> {
    return this.#turns.run(() => guarded(() => this.#reset(node)));
  }

  check(): Promise<string | undefined> {
    return this.#turns.run(async () => {
      try {
        const status = await this.#call("status", await this.#environment());
        return status.exitCode === 0 ? undefined : failureText(`${this.name} status`, status, this.#limits.queryMs);
      } catch (error) {
        return (error as Error).message;
      }
    });
  }

  async #reset(node: string): Promise<FenceOutcome> {
    const environment = await this.#environment();
    const hosts = await this.#call("gethosts", environment);
    if (hosts.exitCode !== 0) {
      return { result: "bad", text: failureText(`${this.name} gethosts`, hosts, this.#limits.queryMs) };
    }
    if (!listsHost(hosts.stdout, node)) {
      const listed = hosts.stdout.trim().split(/\s+/).join(", ");
      return { result: "badhost", text: `${this.name} resets only ${listed === "" ? "nobody" : listed}` };
    }
    const reset = await this.#call("reset", environment, node);
    if (reset.exitCode === 0 && !reset.timedOut) return { result: "OK", text: `${this.name} reset it` };
    return { result: "bad", text: failureText(`${this.name} reset`, reset, this.#limits.resetMs) };
  }

  async #environment(): Promise<NodeJS.ProcessEnv> {
    const base = { ...process.env, PATH: HELPER_PATH };
    const names = await this.#call("getconfignames", base);
    if (names.exitCode !== 0) {
      throw new Error(failureText(`${this.name} getconfignames`, names, this.#limits.queryMs));
    }
    const list = names.stdout.split(/\s+/).filter((name) => name !== "");
    try {
      return { ...base, ...assignParameters(list, await this.#words()) };
    } catch (error) {
      throw new Error(`${this.name}: ${(error as Error).message}`);
    }
  }

  #call(action: string, env: NodeJS.ProcessEnv, node?: string): Promise<CommandResult> {
    const timeLimitMs = action === "reset" ? this.#limits.resetMs : this.#limits.queryMs;
    return runCommand(this.#path, node === undefined ? [action] : [action, node], { env, timeLimitMs });
  }
}

export async function guarded(action: () => Promise<FenceOutcome>): Promise<FenceOutcome> {
  try {
    return await action();
  } catch (error) {
    return { result: "bad", text: (error as Error).message };
  }
}
