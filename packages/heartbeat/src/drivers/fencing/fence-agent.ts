import { byName } from "../../config/stonith-parameters.ts";
import { runCommand } from "../run-command.ts";
import { type FenceDevice, type FenceLimits, type FenceOutcome, failureText, Turns } from "./device.ts";
import { guarded } from "./external-plugin.ts";

/** Parameters that are ours, not the agent's. */
const OWN_PARAMETERS: ReadonlySet<string> = new Set(["hosts", "map"]);
/** Names under which an agent takes the plug of a node. */
const PLUG_NAMES = ["port", "plug", "nodename"];

/**
 * `fence_NAME` of the fence-agents package: `name=value` lines on standard input. Heartbeat never knew them; the line is
 * `stonith_host * fence_virsh ip=10.0.0.1 username=root ssh=1 map=nodo1:vm1,nodo2:vm2`. `map` gives the plug of each node,
 * `hosts` the nodes that the device can reset; without either the node's name is the plug.
 */
export class FenceAgent implements FenceDevice {
  readonly name: string;
  readonly #path: string;
  readonly #words: () => Promise<readonly string[]>;
  readonly #limits: FenceLimits;
  readonly #turns = new Turns();

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
        const { parameters } = await this.#parameters();
        const result = await this.#call({ ...parameters, action: "monitor" }, this.#limits.queryMs);
        return result.exitCode === 0 ? undefined : failureText(`${this.name} monitor`, result, this.#limits.queryMs);
      } catch (error) {
        return (error as Error).message;
      }
    });
  }

  async #reset(node: string): Promise<FenceOutcome> {
    const { parameters, hosts, plugs } = await this.#parameters();
    const known = plugs === undefined ? hosts : [...plugs.keys()];
    if (known !== undefined && !known.includes(node.toLowerCase())) {
      return { result: "badhost", text: `${this.name} resets only ${known.join(", ")}` };
    }
    const named = PLUG_NAMES.some((name) => parameters[name] !== undefined);
    const plug = plugs?.get(node.toLowerCase()) ?? (named ? undefined : node);
    const result = await this.#call(
      { action: "reboot", ...(plug === undefined ? {} : { port: plug }), ...parameters },
      this.#limits.resetMs,
    );
    if (result.exitCode === 0 && !result.timedOut) return { result: "OK", text: `${this.name} reset it` };
    return { result: "bad", text: failureText(this.name, result, this.#limits.resetMs) };
  }

  async #parameters(): Promise<{
    parameters: Record<string, string>;
    hosts: readonly string[] | undefined;
    plugs: ReadonlyMap<string, string> | undefined;
  }> {
    const words = await this.#words();
    const all = byName(words);
    if (all === undefined) throw new Error(`${this.name} takes its parameters by name: write for example ip=10.0.0.1`);
    const parameters = Object.fromEntries(Object.entries(all).filter(([name]) => !OWN_PARAMETERS.has(name)));
    const list = (text: string): string[] => text.split(",").filter((part) => part !== "");
    const hosts = all["hosts"] === undefined ? undefined : list(all["hosts"].toLowerCase());
    if (all["map"] === undefined) return { parameters, hosts, plugs: undefined };
    const plugs = new Map<string, string>();
    for (const pair of list(all["map"])) {
      const colon = pair.indexOf(":");
      if (colon < 1) throw new Error(`${this.name}: map takes NODE:PLUG pairs, not "${pair}"`);
      plugs.set(pair.slice(0, colon).toLowerCase(), pair.slice(colon + 1));
    }
    return { parameters, hosts, plugs };
  }

  #call(parameters: Readonly<Record<string, string>>, timeLimitMs: number): ReturnType<typeof runCommand> {
    const input = Object.entries(parameters)
      .map(([name, value]) => `${name}=${value}\n`)
      .join("");
    return runCommand(this.#path, [], { input, timeLimitMs });
  }
}
