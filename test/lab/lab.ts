import { closeSync, ftruncateSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeDevices } from "./loop.ts";
import { LabNode } from "./node.ts";
import { must, type ProcessId, processId } from "./process.ts";
import {
  imageFolder,
  type LabRecord,
  readRecords,
  removeLab,
  removeStaleLabs,
  stateFolder,
  writeRecord,
} from "./record.ts";
import { addressOn, GATEWAY_HOST, type LinkName, Switch } from "./switch.ts";

const PROJECT = fileURLToPath(new URL("../../..", import.meta.url)).replace(/\/$/, "");
const CLIENT_HOST = 100;

export interface LabOptions {
  /** Part of the lab's name, which the pid of this process completes. */
  readonly name?: string;
  /** Default nodo1 (192.168.0.27) and nodo2 (.28); further ones get .31, .32, ... */
  readonly nodes?: readonly string[];
  /** Those of `nodes` that a virtual machine will be (see uml-node.ts): no namespaces are made for them. */
  readonly machines?: readonly string[];
  /** A machine `client` (192.168.0.100), without disk. Default true. */
  readonly client?: boolean;
  /** Default eth0 only. */
  readonly links?: readonly LinkName[];
  /** Size of every node's /dev/sda6; 0 (the default): it has none. */
  readonly diskBytes?: number;
}

/** What a virtual machine needs to know of the lab it belongs to. */
export interface MachinePlace {
  readonly name: string;
  /** Last byte of its addresses. */
  readonly host: number;
  readonly links: readonly LinkName[];
  /** Folder on the lab's tmpfs. */
  readonly folder: string;
  /** The lab's hosts file. */
  readonly hostsFile: string;
  /** The checkout. */
  readonly project: string;
  readonly network: Switch;
  /** Called when the machine's processes changed, so that the lab takes them away with itself. */
  readonly changed: (processes: MachineProcesses | undefined) => void;
}

type MachineProcesses = LabRecord["nodes"][number];

const live = new Set<Lab>();
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Several machines on one: see README.md in this folder. Needs root, and programs of iproute2 and util-linux. */
export class Lab {
  readonly name: string;
  readonly #owner: ProcessId;
  readonly #nodes = new Map<string, LabNode>();
  readonly #machines = new Map<string, Omit<MachinePlace, "changed">>();
  readonly #machineProcesses = new Map<string, MachineProcesses>();
  #switch: Switch | undefined;
  #kept = false;
  #built: Promise<void> = Promise.resolve();
  #down: Promise<void> | undefined;

  private constructor(name: string) {
    this.name = name;
    this.#owner = processId(process.pid) as ProcessId;
  }

  /** Make a lab with all its nodes on. It is removed by `down`, by SIGINT, SIGTERM, SIGHUP and an uncaught exception. */
  static async up(options: LabOptions = {}): Promise<Lab> {
    await removeStaleLabs();
    if (ending) throw new Error("this process is ending");
    let name = `${options.name ?? "lab"}-${process.pid}`;
    for (let n = 2; [...live].some((lab) => lab.name === name); n++)
      name = `${options.name ?? "lab"}-${process.pid}-${n}`;
    const lab = new Lab(name);
    watchSignals();
    live.add(lab);
    try {
      lab.#built = lab.#build(options);
      await lab.#built;
    } catch (error) {
      await lab.down();
      throw error;
    }
    return lab;
  }

  async #build(options: LabOptions): Promise<void> {
    const folder = stateFolder(this.name);
    this.#record();
    mkdirSync(folder);
    await must(["mount", "-t", "tmpfs", "-o", "mode=755", "hacluster-nodes", folder]);
    await must(["mount", "--make-private", folder]);
    const devices = join(folder, "devices");
    mkdirSync(devices);
    const links = options.links ?? ["eth0"];
    const making = Switch.make(links).then((made) => {
      this.#switch = made;
      this.#record();
    });
    await allDone([making, makeDevices(devices)]);
    const network = this.#network;

    const names = options.nodes ?? ["nodo1", "nodo2"];
    const hosts = new Map(names.map((name, index) => [name, index < 2 ? 27 + index : 29 + index]));
    if (options.client ?? true) hosts.set("client", CLIENT_HOST);
    const hostsFile = [
      "127.0.0.1 localhost",
      ...[...hosts].map(([name, host]) => `${addressOn("eth0", host)} ${name}`),
      `${addressOn("eth0", GATEWAY_HOST)} gw`,
    ].join("\n");
    writeFileSync(join(folder, "hosts"), `${hostsFile}\n`);
    for (const [name, host] of hosts) {
      if (options.machines?.includes(name) === true) {
        const place = { name, host, links, folder: join(folder, name), hostsFile: join(folder, "hosts") };
        this.#machines.set(name, { ...place, project: PROJECT, network });
        continue;
      }
      const isClient = name === "client";
      const node = new LabNode({
        name,
        host,
        links: isClient ? ["eth0"] : links,
        folder: join(folder, name),
        devices,
        diskImage: isClient ? undefined : this.#makeImage(name, options.diskBytes ?? 0),
        project: PROJECT,
        network,
        changed: () => this.#record(),
      });
      writeFileSync(join(folder, name, "etc/upper/hosts"), `${hostsFile}\n`);
      this.#nodes.set(name, node);
    }
    await allDone([...this.#nodes.values()].map((node) => node.start()));
  }

  #makeImage(node: string, sizeBytes: number): string | undefined {
    if (sizeBytes === 0) return undefined;
    const folder = imageFolder(this.name);
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `${node}.img`);
    const fd = openSync(path, "w");
    ftruncateSync(fd, sizeBytes);
    closeSync(fd);
    return path;
  }

  #snapshot(): LabRecord {
    return {
      name: this.name,
      owner: this.#owner,
      kept: this.#kept,
      switchHolder: this.#switch?.holder,
      nodes: [
        ...[...this.#nodes.values()].map((node) => ({ init: node.init, supervisor: node.supervisor })),
        ...this.#machineProcesses.values(),
      ],
    };
  }

  #record(): void {
    if (this.#down === undefined) writeRecord(this.#snapshot());
  }

  /** A machine by its name, on or off. */
  node(name: string): LabNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`lab ${this.name} has no node ${name}`);
    return node;
  }

  /** The place of a virtual machine, for the program that boots it. */
  machine(name: string): MachinePlace {
    const place = this.#machines.get(name);
    if (place === undefined) throw new Error(`lab ${this.name} has no virtual machine ${name}`);
    const changed = (processes: MachineProcesses | undefined): void => {
      if (processes === undefined) this.#machineProcesses.delete(name);
      else this.#machineProcesses.set(name, processes);
      this.#record();
    };
    return { ...place, changed };
  }

  /** Folder for the images of virtual machines; it goes with the lab. */
  get images(): string {
    return imageFolder(this.name);
  }

  get client(): LabNode {
    return this.node("client");
  }

  get nodes(): readonly LabNode[] {
    return [...this.#nodes.values()];
  }

  get #network(): Switch {
    if (this.#switch === undefined) throw new Error(`lab ${this.name} has no switch`);
    return this.#switch;
  }

  /** No frame passes between two nodes; both keep their carrier. `oneWay`: only those from `a` to `b` are dropped. */
  async cut(a: string, b: string, options: { links?: readonly LinkName[]; oneWay?: boolean } = {}): Promise<void> {
    const links = options.links ?? this.#network.links;
    await this.#network.drop(a, b, links);
    if (options.oneWay !== true) await this.#network.drop(b, a, links);
  }

  /** Lose this share of the frames between two nodes, each way by chance, until it is set to 0. */
  async lose(percent: number, a: string, b: string): Promise<void> {
    await this.#network.lose(percent, a, b, this.#network.links);
  }

  /** Undo every cut and plug every cable in again. */
  async heal(): Promise<void> {
    await this.#network.undropAll();
    for (const node of this.#nodes.values()) await node.plugAll();
  }

  /** Let the lab live on when this process ends. `removeKept` takes it away. */
  keep(): void {
    this.#kept = true;
    this.#record();
    live.delete(this);
    if (live.size === 0) unwatchSignals();
  }

  /** Remove the lab: nothing of it is left. */
  down(): Promise<void> {
    this.#down ??= this.#remove();
    return this.#down;
  }

  async #remove(): Promise<void> {
    try {
      await this.#built.catch(() => {}); // what is half made is made first: else its second half would stay
      await Promise.allSettled([...this.#nodes.values()].map((node) => node.kill()));
    } finally {
      await removeLab(this.#snapshot());
      live.delete(this);
      if (live.size === 0) unwatchSignals();
    }
  }
}

/** Wait for all, also when one fails: nothing may be under way when the lab is removed. */
async function allDone(work: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
}

/** Remove every lab of this machine that `keep` left behind; returns their names. */
export async function removeKept(): Promise<string[]> {
  const kept = readRecords().filter((record) => record.kept);
  for (const record of kept) await removeLab(record);
  return kept.map((record) => record.name);
}

let ending = false;

/** Remove every lab of this process (not the kept ones) and end it. */
export async function endAll(code: number): Promise<void> {
  if (ending) return;
  ending = true;
  await Promise.allSettled([...live].map((lab) => lab.down()));
  process.exit(code);
}

function onSignal(signal: NodeJS.Signals): void {
  void endAll(signal === "SIGINT" ? 130 : signal === "SIGTERM" ? 143 : 129);
}

function onException(error: unknown): void {
  console.error(error);
  void endAll(1);
}

let watching = false;

function watchSignals(): void {
  if (watching) return;
  watching = true;
  for (const signal of SIGNALS) process.on(signal, onSignal);
  // a test runner that has its own way with exceptions runs its after hooks
  if (process.listenerCount("uncaughtException") === 0) process.on("uncaughtException", onException);
}

function unwatchSignals(): void {
  watching = false;
  for (const signal of SIGNALS) process.off(signal, onSignal);
  process.off("uncaughtException", onException);
}
