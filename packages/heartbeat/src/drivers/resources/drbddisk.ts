import { setTimeout as sleep } from "node:timers/promises";
import { type ActionResult, type BuiltinResource, failed, reported, succeeded } from "./resource.ts";

/** What heartbeat needs of the replicated disks; the daemon that wires both halves together provides it. */
export interface StorageControl {
  /** Make this node Primary and attach the device. @throws Error with DRBD's words when it is refused. */
  promote(resource: string): Promise<void>;
  /** Detach the device and make this node Secondary. @throws Error when it is in use. */
  demote(resource: string): Promise<void>;
  /** "Primary", "Secondary", or "Unconfigured" when nothing serves the resource. @throws Error when it cannot tell. */
  role(resource: string): Promise<string>;
  /** Names of all configured resources, for `drbddisk` without an argument. */
  resources(): readonly string[];
}

// drbddisk asks drbdadm up to six times for `primary` and three times for `secondary`, a second apart
const PROMOTE_TRIES = 6;
const DEMOTE_TRIES = 3;
const PAUSE_MS = 1000;

/** drbddisk[::RESOURCE] and drbdupper: become Primary, become Secondary. Without argument: all resources. */
export class DrbdDiskResource implements BuiltinResource {
  readonly #storage: StorageControl;

  constructor(storage: StorageControl) {
    this.#storage = storage;
  }

  start(args: readonly string[]): Promise<ActionResult> {
    return this.#each(args, PROMOTE_TRIES, "Primary", (name) => this.#storage.promote(name));
  }

  stop(args: readonly string[]): Promise<ActionResult> {
    return this.#each(args, DEMOTE_TRIES, "Secondary", (name) => this.#storage.demote(name));
  }

  async status(args: readonly string[]): Promise<ActionResult> {
    const names = this.#names(args);
    const lines: string[] = [];
    let running = names.length > 0;
    for (const name of names) {
      try {
        const role = await this.#storage.role(name);
        if (role !== "Primary") running = false;
        lines.push(role === "Primary" ? "running (Primary)" : `stopped (${role})`);
      } catch (error) {
        // counts as running on purpose: what cannot be asked must not be started a second time elsewhere
        lines.push(`cannot determine status, may be running (${(error as Error).message})`);
      }
    }
    return reported(running, lines.join("\n"));
  }

  async #each(
    args: readonly string[],
    tries: number,
    role: string,
    step: (name: string) => Promise<void>,
  ): Promise<ActionResult> {
    const said: string[] = [];
    for (const name of this.#names(args)) {
      for (let attempt = 1; ; attempt++) {
        try {
          await step(name);
          said.push(`${name} is ${role}`);
          break;
        } catch (error) {
          said.push(`drbddisk: ${name}: ${(error as Error).message} (try ${attempt} of ${tries})`);
          if (attempt === tries) return failed(said.join("\n"));
          await sleep(PAUSE_MS);
        }
      }
    }
    return succeeded(said.join("\n"));
  }

  #names(args: readonly string[]): readonly string[] {
    const name = args[0];
    return name === undefined || name === "all" ? this.#storage.resources() : [name];
  }
}
