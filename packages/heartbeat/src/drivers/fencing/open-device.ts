import { accessSync, constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { StonithDevice } from "../../config/model.ts";
import { wordsOfStonithFile } from "../../config/stonith-parameters.ts";
import { FENCE_LIMITS, type FenceDevice, type FenceLimits, type FenceOutcome, listsHost } from "./device.ts";
import { ExternalPlugin } from "./external-plugin.ts";
import { FenceAgent } from "./fence-agent.ts";
import { StonithProgram } from "./stonith-program.ts";

export interface OpenDeviceOptions {
  /** Prefix of the folders in which programs are looked for; tests have their own tree. */
  readonly root?: string;
  readonly limits?: Partial<FenceLimits>;
}

const PLUGIN_FOLDERS = ["/usr/lib/stonith/plugins/external", "/usr/lib64/stonith/plugins/external"];
const PROGRAM_FOLDERS = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/** The device of a `stonith` or `stonith_host` line. One whose program is missing says so at each use, and resets nothing. */
export function openFenceDevice(device: StonithDevice, options: OpenDeviceOptions = {}): FenceDevice {
  const { type } = device;
  const limits = { ...FENCE_LIMITS, ...options.limits };
  const words = wordsOf(device);
  const find = (folders: readonly string[], name: string): string | undefined =>
    folders.map((folder) => join(options.root ?? "/", folder, name)).find(isExecutable);
  if (type === "meatware") return new Meatware(words);
  if (type.startsWith("external/")) {
    const name = type.slice("external/".length);
    const path = find(PLUGIN_FOLDERS, name);
    return path === undefined
      ? new MissingDevice(type, `no plugin ${name} in ${PLUGIN_FOLDERS[0]} (Debian package cluster-glue)`)
      : new ExternalPlugin(type, path, words, limits);
  }
  if (type.startsWith("fence_")) {
    const path = find(PROGRAM_FOLDERS, type);
    return path === undefined
      ? new MissingDevice(type, `no program ${type} in ${PROGRAM_FOLDERS.join(", ")} (Debian package fence-agents)`)
      : new FenceAgent(type, path, words, limits);
  }
  const program = find(PROGRAM_FOLDERS, "stonith");
  return program === undefined
    ? new MissingDevice(type, `type ${type} needs the command stonith (Debian package cluster-glue)`)
    : new StonithProgram(type, program, words, limits);
}

/** The parameters of the line, or of the file of a `stonith` directive, read at each use. */
function wordsOf(device: StonithDevice): () => Promise<readonly string[]> {
  if (device.host !== undefined) return () => Promise.resolve(device.params);
  return async () => wordsOfStonithFile(await readFile(device.params[0] ?? "", "utf8"));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

class MissingDevice implements FenceDevice {
  readonly name: string;
  readonly #why: string;

  constructor(name: string, why: string) {
    this.name = name;
    this.#why = why;
  }

  reset(): Promise<FenceOutcome> {
    return Promise.resolve({ result: "bad", text: this.#why });
  }

  check(): Promise<string | undefined> {
    return Promise.resolve(this.#why);
  }
}

/** A person is the device: the reset ends with `hacluster fence-confirm NODE`, which the engine is told, not this class. */
class Meatware implements FenceDevice {
  readonly name = "meatware";
  readonly #words: () => Promise<readonly string[]>;

  constructor(words: () => Promise<readonly string[]>) {
    this.#words = words;
  }

  async reset(node: string): Promise<FenceOutcome> {
    let hosts: readonly string[] = [];
    try {
      hosts = await this.#words();
    } catch (error) {
      return { result: "bad", text: (error as Error).message };
    }
    // by position the one parameter is the list of hosts
    const list = hosts.join(" ").replace(/^hostlist=/, "");
    if (list !== "" && !listsHost(list, node)) return { result: "badhost", text: `meatware resets only ${list}` };
    return new Promise(() => undefined);
  }

  check(): Promise<string | undefined> {
    return Promise.resolve(undefined);
  }
}
