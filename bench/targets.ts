import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Qmp } from "./qmp.ts";
import type { ServerSettings } from "./server.ts";
import type { TargetName } from "./workloads.ts";

/** Something with an NBD socket that fio can be pointed at. */
export interface Target {
  readonly name: TargetName;
  readonly uri: string;
  /** Whose CPU time counts: both sides. */
  readonly pids: readonly number[];
  /** Where the device is larger than the others'. */
  readonly sizeMib?: number;
  /** A command of the pair's primary. */
  ask?(command: string): Promise<Record<string, unknown>>;
  stop(): Promise<void>;
}

/** This machine lacks what the target needs. */
export class Missing extends Error {}

export interface TargetOptions {
  readonly folder: string;
  readonly sizeMib: number;
  readonly firstPort: number;
  readonly profile: string | undefined;
}

const START_MS = 30_000;
const STOP_MS = 6000;
/** Room for metadata behind the device's data. */
const META_MIB = 8;
/** Extents of the log in the workload that overflows it, and what the device's size is then. */
const SMALL_AL = 67;
const WIDE_MIB = 1072;

/**
 * A backing file whose blocks all exist, written in pieces of 4 KiB: where the page cache holds large folios instead,
 * small writes are many times slower, and every target has to start from the same state.
 */
function makeImage(path: string, sizeMib: number): void {
  const fd = openSync(path, "w");
  const block = new Uint8Array(4096);
  for (let at = 0; at < sizeMib * 256; at++) writeSync(fd, block, 0, 4096, at * 4096);
  fsyncSync(fd);
  closeSync(fd);
}

const everything: Set<Processes> = new Set();

/** Ends what was started, also of targets whose start was interrupted. */
export async function stopEverything(): Promise<void> {
  await Promise.all([...everything].map((processes) => processes.stop()));
}

class Processes {
  constructor() {
    everything.add(this);
  }

  readonly #children: ChildProcess[] = [];
  readonly #daemons: number[] = [];

  get pids(): number[] {
    return [...this.#children.map((child) => child.pid as number), ...this.#daemons];
  }

  start(program: string, args: readonly string[], stdin: "ignore" | "pipe" = "ignore"): ChildProcess {
    const child = spawn(program, args, { stdio: [stdin, stdin === "pipe" ? "pipe" : "ignore", "pipe"] });
    let errors = "";
    child.stderr?.on("data", (chunk: Buffer) => {
      errors = (errors + chunk.toString()).slice(-2000);
    });
    child.on("error", (error) => {
      errors = error.message;
    });
    child.on("exit", (code) => {
      if (code !== 0 && code !== null && !this.#stopping) console.error(`${program} ended with ${code}: ${errors}`);
    });
    this.#children.push(child);
    return child;
  }

  /** nbdkit goes to the background by itself; started otherwise it would end with this process's terminal. */
  nbdkit(folder: string, tag: string, args: readonly string[]): void {
    const pidFile = join(folder, `${tag}.pid`);
    const result = spawnSync("nbdkit", ["-P", pidFile, ...args], { encoding: "utf8" });
    if (result.error !== undefined) throw new Missing("nbdkit is not installed (Debian package nbdkit)");
    if (result.status !== 0) throw new Error(`nbdkit ${args.join(" ")}: ${result.stderr}`);
    // it answers before its file is there
    const deadline = Date.now() + START_MS;
    while (!existsSync(pidFile) || readFileSync(pidFile, "utf8") === "") {
      if (Date.now() > deadline) throw new Error(`nbdkit wrote no ${pidFile}`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
    this.#daemons.push(Number(readFileSync(pidFile, "utf8")));
  }

  #stopping = false;

  async stop(): Promise<void> {
    everything.delete(this);
    this.#stopping = true;
    for (const child of this.#children) {
      if (child.stdin === null) child.kill("SIGTERM");
      else child.stdin.end();
    }
    for (const pid of this.#daemons) signal(pid, "SIGTERM");
    const deadline = Date.now() + STOP_MS;
    const running = (): boolean =>
      this.#children.some((child) => child.exitCode === null && child.signalCode === null) ||
      this.#daemons.some((pid) => signal(pid, 0));
    while (running() && Date.now() < deadline) await pause(20);
    for (const child of this.#children) if (child.exitCode === null) child.kill("SIGKILL");
    for (const pid of this.#daemons) signal(pid, "SIGKILL");
  }
}

function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function answers(where: { path: string } | { port: number; host: string }): Promise<void> {
  const deadline = Date.now() + START_MS;
  for (;;) {
    const ok = await new Promise<boolean>((resolve) => {
      const socket = connect(where);
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (ok) return;
    if (Date.now() > deadline) throw new Error(`nothing answers on ${JSON.stringify(where)}`);
    await pause(20);
  }
}

function uriOf(socket: string): string {
  return `nbd+unix:///?socket=${socket}`;
}

const SERVER = join(dirname(fileURLToPath(import.meta.url)), "server.js");

interface Side {
  readonly child: ChildProcess;
  ask(command: string): Promise<Record<string, unknown>>;
  ready(): Promise<void>;
}

function startSide(processes: Processes, settings: ServerSettings, profile: string | undefined, tag: string): Side {
  const flags =
    profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`, `--cpu-prof-name=${tag}.cpuprofile`];
  const child = processes.start(process.execPath, [...flags, SERVER, JSON.stringify(settings)], "pipe");
  const waiting: ((line: Record<string, unknown>) => void)[] = [];
  const lines: Record<string, unknown>[] = [];
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
    const message = JSON.parse(line) as Record<string, unknown>;
    const next = waiting.shift();
    if (next === undefined) lines.push(message);
    else next(message);
  });
  child.on("exit", () => {
    for (const next of waiting.splice(0)) next({ error: "the server process has ended" });
  });
  const line = (): Promise<Record<string, unknown>> => {
    const message = lines.shift();
    return message === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(message);
  };
  return {
    child,
    ask: (command) => {
      child.stdin?.write(`${command}\n`);
      return line();
    },
    ready: async () => {
      const message = await line();
      if (message["ready"] !== true) throw new Error(`the ${tag} server did not start: ${String(message["error"])}`);
    },
  };
}

async function single({ folder, sizeMib, profile }: TargetOptions): Promise<Target> {
  const processes = new Processes();
  const backing = join(folder, "a.img");
  const socket = join(folder, "s.sock");
  makeImage(backing, sizeMib);
  const side = startSide(processes, { kind: "single", backing, socket }, profile, "single");
  await side.ready();
  return { name: "single", uri: uriOf(socket), pids: processes.pids, stop: () => processes.stop() };
}

async function pair(name: TargetName, options: TargetOptions, sizeMib: number, alExtents?: number): Promise<Target> {
  const { folder, firstPort, profile } = options;
  const processes = new Processes();
  const socket = join(folder, "s.sock");
  const one = { host: "127.0.0.1", port: firstPort };
  const two = { host: "127.0.0.1", port: firstPort + 1 };
  const extents = alExtents === undefined ? {} : { alExtents };
  makeImage(join(folder, "a.img"), sizeMib + META_MIB);
  makeImage(join(folder, "b.img"), sizeMib + META_MIB);
  const b: ServerSettings = { kind: "pair", backing: join(folder, "b.img"), local: two, peer: one, ...extents };
  const a: ServerSettings = { kind: "pair", backing: join(folder, "a.img"), local: one, peer: two, socket, ...extents };
  const secondary = startSide(processes, b, profile, `${name}-secondary`);
  const primary = startSide(processes, a, profile, `${name}-primary`);
  try {
    await Promise.all([secondary.ready(), primary.ready()]);
  } catch (error) {
    await processes.stop();
    throw error;
  }
  return {
    name,
    uri: uriOf(socket),
    pids: processes.pids,
    sizeMib,
    ask: (command) => primary.ask(command),
    stop: () => processes.stop(),
  };
}

async function nbdkit({ folder, sizeMib }: TargetOptions): Promise<Target> {
  const processes = new Processes();
  const socket = join(folder, "s.sock");
  makeImage(join(folder, "a.img"), sizeMib);
  processes.nbdkit(folder, "main", ["-U", socket, "file", join(folder, "a.img")]);
  await answers({ path: socket });
  return { name: "nbdkit", uri: uriOf(socket), pids: processes.pids, stop: () => processes.stop() };
}

/** The secondary of both QEMU targets is nbdkit: qemu-nbd before 8.1 delays its answers over TCP. */
async function qemu(name: TargetName, options: TargetOptions, sizeMib: number): Promise<Target> {
  const { folder, firstPort } = options;
  const program = "qemu-storage-daemon";
  if (spawnSync(program, ["--version"]).status !== 0) {
    throw new Missing("qemu-storage-daemon is not installed (Debian package qemu-system-common)");
  }
  const processes = new Processes();
  const socket = join(folder, "s.sock");
  const qmp = join(folder, "qmp.sock");
  makeImage(join(folder, "a.img"), sizeMib);
  makeImage(join(folder, "b.img"), sizeMib);
  processes.nbdkit(folder, "secondary", ["-i", "127.0.0.1", "-p", `${firstPort}`, "file", join(folder, "b.img")]);
  await answers({ host: "127.0.0.1", port: firstPort });
  const peer = `driver=nbd,node-name=peer,server.type=inet,server.host=127.0.0.1,server.port=${firstPort}`;
  const file = `driver=file,node-name=file,filename=${join(folder, "a.img")},aio=threads,discard=unmap`;
  const nodes =
    name === "mirror"
      ? ["--blockdev", "driver=raw,node-name=disk,file=file,discard=unmap", "--blockdev", peer]
      : [
          ...["--blockdev", "driver=raw,node-name=local,file=file,discard=unmap", "--blockdev", peer],
          "--blockdev",
          "driver=quorum,node-name=disk,vote-threshold=1,read-pattern=fifo,children.0=local,children.1=peer",
        ];
  processes.start(program, [
    ...["--blockdev", file, ...nodes],
    ...["--chardev", `socket,id=qmp,path=${qmp},server=on,wait=off`, "--monitor", "chardev=qmp"],
    ...["--nbd-server", `addr.type=unix,addr.path=${socket},max-connections=0`],
    ...["--export", "type=nbd,id=export,node-name=disk,name=,writable=on"],
  ]);
  try {
    await answers({ path: socket });
    if (name === "mirror") await Qmp.mirror(qmp, "disk", "peer");
  } catch (error) {
    await processes.stop();
    throw error;
  }
  return { name, uri: uriOf(socket), pids: processes.pids, sizeMib, stop: () => processes.stop() };
}

/** Starts a target with fresh backing files in a folder of its own. @throws Missing */
export function startTarget(name: TargetName, options: TargetOptions): Promise<Target> {
  const folder = join(options.folder, name);
  if (!existsSync(folder)) mkdirSync(folder, { recursive: true });
  const own = { ...options, folder };
  switch (name) {
    case "blockrep":
      return pair(name, own, options.sizeMib);
    case "blockrep-small-al":
      return pair(name, own, WIDE_MIB, SMALL_AL);
    case "single":
      return single(own);
    case "nbdkit":
      return nbdkit(own);
    case "mirror":
    case "quorum":
      return qemu(name, own, options.sizeMib);
    case "quorum-wide":
      return qemu(name, own, WIDE_MIB);
  }
}
