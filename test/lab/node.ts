import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { attachLoop, detachLoops } from "./loop.ts";
import {
  CommandError,
  childrenOf,
  exitOf,
  isAlive,
  killProcess,
  namespaceOf,
  type ProcessId,
  processId,
  type Result,
  type RunOptions,
  run,
  waitFor,
} from "./process.ts";
import { addressOn, type LinkName, type Switch } from "./switch.ts";

/** What a node needs to know of the lab it belongs to. */
export interface NodePlace {
  readonly name: string;
  /** Last byte of its addresses. */
  readonly host: number;
  readonly links: readonly LinkName[];
  /** Folder on the lab's tmpfs. */
  readonly folder: string;
  /** Folder with the device files. */
  readonly devices: string;
  /** Image file that becomes /dev/sda6, or undefined. */
  readonly diskImage: string | undefined;
  /** The checkout. */
  readonly project: string;
  readonly network: Switch;
  /** Called when the node's processes changed, so that the lab can write its record. */
  readonly changed: () => void;
}

/** A command that runs in the background in a node. */
export class NodeProcess {
  readonly child: ChildProcessWithoutNullStreams;

  constructor(child: ChildProcessWithoutNullStreams) {
    this.child = child;
    child.stdin.on("error", () => {}); // it may end before it has read everything
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Send a signal to the command itself (its parent, nsenter, does not pass signals on). */
  signal(signal: NodeJS.Signals): void {
    for (const pid of childrenOf(this.child.pid as number)) {
      try {
        process.kill(pid, signal);
      } catch {
        // it has ended meanwhile
      }
    }
  }

  /** SIGTERM, after `graceMs` SIGKILL; resolves when it has ended. */
  async stop(graceMs = 3_000): Promise<number | null> {
    this.signal("SIGTERM");
    const ended = await waitFor(() => !this.running, graceMs);
    if (!ended) this.child.kill("SIGKILL"); // the command dies with nsenter
    return await this.exited();
  }

  exited(): Promise<number | null> {
    return exitOf(this.child);
  }
}

/** One machine of a lab: namespaces for network, mounts, host name, IPC and processes, over the host's root. */
export class LabNode {
  readonly #place: NodePlace;
  #supervisor: ProcessId | undefined;
  #init: ProcessId | undefined;
  #ended: Promise<void> = Promise.resolve();
  #started: Promise<void> = Promise.resolve();
  #unplugged = new Set<LinkName>();

  constructor(place: NodePlace) {
    this.#place = place;
    for (const name of ["etc/upper", "etc/work"]) mkdirSync(join(place.folder, name), { recursive: true });
    writeFileSync(join(place.folder, "etc/upper/hostname"), `${place.name}\n`);
  }

  get name(): string {
    return this.#place.name;
  }

  get address(): string {
    return addressOn("eth0", this.#place.host);
  }

  get links(): readonly LinkName[] {
    return this.#place.links;
  }

  get diskImage(): string | undefined {
    return this.#place.diskImage;
  }

  /** First process of the node as the host sees it; undefined while the node is off. */
  get init(): ProcessId | undefined {
    return this.#init !== undefined && isAlive(this.#init) ? this.#init : undefined;
  }

  get supervisor(): ProcessId | undefined {
    return this.#supervisor;
  }

  get isOn(): boolean {
    return this.init !== undefined;
  }

  /** Log of the node's start and end (not of the programs in it). */
  get log(): string {
    return join(this.#place.folder, "log");
  }

  /** Power on: same /etc, /home, /srv and /var as before, everything else fresh. */
  start(): Promise<void> {
    this.#started = this.#started.catch(() => {}).then(() => this.#powerOn());
    return this.#started;
  }

  async #powerOn(): Promise<void> {
    if (this.isOn) return;
    await this.off();
    const { folder, name } = this.#place;
    writeFileSync(join(folder, "events"), "");
    const disk = this.#place.diskImage === undefined ? "" : await attachLoop(this.#place.diskImage);
    const child = this.#spawnSupervisor(disk);
    const supervisor = child.pid === undefined ? undefined : processId(child.pid);
    if (supervisor === undefined) throw new Error(`node ${name}: unshare did not start`);
    this.#supervisor = supervisor;
    this.#ended = exitOf(child).then(() => this.#afterEnd());
    this.#place.changed();
    try {
      await this.#wire(supervisor.pid);
      this.#init = await this.#ready(supervisor);
      this.#place.changed();
      await this.assertHarmless();
    } catch (error) {
      await this.#powerOff();
      throw error;
    }
  }

  #spawnSupervisor(disk: string): ChildProcess {
    const { folder, name, devices, project } = this.#place;
    const script = join(project, "test/lab/node-init.sh");
    const log = openSync(this.log, "a");
    const flags = ["--mount", "--uts", "--ipc", "--net", "--propagation", "private"];
    const child = spawn("unshare", [...flags, script, "supervise"], {
      detached: true, // Ctrl-C is for the program that runs the lab, not for the machines in it
      stdio: ["ignore", log, log],
      cwd: "/",
      env: {
        LAB_DIR: folder,
        LAB_NODE: name,
        LAB_DEVICES: devices,
        LAB_DISK: disk,
        LAB_MASKED: MASKED_FILES.join(" "),
        LAB_PROJECT: project,
        LAB_NODEJS: process.execPath,
        PATH: process.env["PATH"] ?? "",
      },
    });
    child.unref();
    closeSync(log);
    return child;
  }

  async #wire(pid: number): Promise<void> {
    const own = namespaceOf(process.pid, "net");
    const entered = await waitFor(() => {
      const its = namespaceOf(pid, "net");
      return its === undefined || its !== own;
    }, 5_000);
    if (!entered || namespaceOf(pid, "net") === undefined) throw new Error(`node ${this.name}: ${this.#whyNot()}`);
    await this.#place.network.connect(this.name, this.#place.host, pid, this.#place.links);
  }

  async #ready(supervisor: ProcessId): Promise<ProcessId> {
    let pid: number | undefined;
    const come = await waitFor(() => {
      const events = this.#events();
      pid = Number(/^ready (\d+)$/m.exec(events)?.[1]);
      return pid > 0 || /^failed /m.test(events) || !isAlive(supervisor);
    }, 10_000);
    const init = pid !== undefined && pid > 0 ? processId(pid) : undefined;
    if (!come || init === undefined) throw new Error(`node ${this.name} did not start: ${this.#whyNot()}`);
    return init;
  }

  #events(): string {
    const path = join(this.#place.folder, "events");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  #whyNot(): string {
    const reason = /^failed (.+)$/m.exec(this.#events())?.[1];
    if (reason !== undefined) return reason;
    const text = existsSync(this.log) ? readFileSync(this.log, "utf8").trim() : "";
    return text.split("\n").slice(-3).join(" | ") || "no message";
  }

  /**
   * Refuse a node from which a program could harm the host: its pid namespace must be its own (so that halt and reboot end
   * only that), and the files through which it would reach the host's kernel must be masked.
   */
  async assertHarmless(): Promise<void> {
    const init = this.#requireOn();
    const own = namespaceOf(process.pid, "pid");
    const its = namespaceOf(init.pid, "pid");
    if (its === undefined || its === own) throw new Error(`node ${this.name} has no pid namespace of its own`);
    const check = 'for file; do [ ! -e "$file" ] || stat -c "%n %F %t:%T" "$file"; done';
    const seen = await this.must(["sh", "-c", check, "sh", ...MASKED_FILES]);
    for (const line of seen.split("\n")) {
      if (line === "" || line.endsWith(" character special file 1:3")) continue;
      throw new Error(`node ${this.name}: ${line.split(" ")[0]} is not masked (${line})`);
    }
  }

  #requireOn(): ProcessId {
    const init = this.init;
    if (init === undefined) throw new Error(`node ${this.name} is off`);
    return init;
  }

  /** The command line and environment that run `command` in this node. @throws Error when the node is off */
  command(command: readonly string[]): string[] {
    const target = ["nsenter", "-t", String(this.#requireOn().pid), "-m", "-u", "-n", "-i", "-p", "--"];
    return [...target, "env", "-i", ...NODE_ENVIRONMENT, "setpriv", "--pdeathsig", "KILL", ...command];
  }

  /** Run a command in the node; it dies with its time limit (default 60 s). Daemons that it starts live on. */
  async exec(command: readonly string[], options: RunOptions = {}): Promise<Result> {
    return await run(this.#withEnv(command, options), { ...options, env: {} });
  }

  /** Like `exec` for a command that must succeed: returns what it prints. @throws CommandError */
  async must(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.exec(command, options);
    if (result.code !== 0) throw new CommandError([`${this.name}:`, ...command], result);
    return result.stdout;
  }

  #withEnv(command: readonly string[], options: RunOptions): string[] {
    const extra = Object.entries(options.env ?? {}).map(([key, value]) => `${key}=${value}`);
    return this.command(extra.length === 0 ? command : ["env", ...extra, ...command]);
  }

  /** Start a command in the background, with pipes. It ends with the node, or with this process. */
  spawn(command: readonly string[]): NodeProcess {
    const [program, ...args] = this.command(command);
    return new NodeProcess(spawn(program as string, args, { stdio: "pipe", detached: true }));
  }

  /** Write a file of the node, with its folders. */
  async writeFile(path: string, text: string, mode = 0o644): Promise<void> {
    const script = 'mkdir -p "$1" && cat >"$2" && chmod "$3" "$2"';
    const args = ["sh", dirname(path), path, mode.toString(8)];
    await this.must(["sh", "-c", script, ...args], { input: text });
  }

  async readFile(path: string): Promise<string> {
    return await this.must(["cat", path]);
  }

  /** Pull a cable: the node sees NO-CARRIER. */
  async unplug(link: LinkName = "eth0"): Promise<void> {
    this.#unplugged.add(link);
    await this.#place.network.setPort(this.name, link, false);
  }

  async plug(link: LinkName = "eth0"): Promise<void> {
    this.#unplugged.delete(link);
    await this.#place.network.setPort(this.name, link, true);
  }

  async plugAll(): Promise<void> {
    for (const link of [...this.#unplugged]) await this.plug(link);
  }

  /**
   * Power loss: first the cables go dead (peers see silence, no FIN, no RST), then every process gets SIGKILL, then mounts
   * and loop devices go. Resolves when nothing is left. What processes had written to files of the host stays there: the
   * host's page cache does not lose power.
   */
  async kill(): Promise<void> {
    await this.#started.catch(() => {}); // a start that is under way ends first
    await this.#powerOff();
  }

  async #powerOff(): Promise<void> {
    if (this.isOn) await this.#place.network.darken(this.name);
    const supervisor = this.#supervisor;
    const init = this.init;
    if (init !== undefined) await killProcess(init);
    else if (supervisor !== undefined) await killProcess(supervisor); // it never got as far as a first process
    if (supervisor !== undefined && !(await waitFor(() => !isAlive(supervisor), 30_000))) {
      throw new Error(`node ${this.name} is dead but its mounts do not go away: ${this.#whyNot()}`);
    }
    await this.off();
  }

  /** Resolves when the node is off and its devices are gone, whatever ended it. */
  async off(): Promise<void> {
    const hold = setInterval(() => {}, 1_000); // the child is unreferenced: waiting for it must keep this program alive
    await this.#ended.finally(() => clearInterval(hold));
  }

  async #afterEnd(): Promise<void> {
    this.#init = undefined;
    this.#supervisor = undefined;
    this.#unplugged.clear();
    await this.#place.network.disconnect(this.name);
    if (this.#place.diskImage !== undefined) await detachLoops(this.#place.diskImage);
    this.#place.changed();
  }
}

/**
 * Files of the kernel, so of the host, that no node may write: the user's handlers write "o" (power off) to the first; a
 * program named in the second would be run by the host's kernel, outside of every namespace; the third suspends the machine.
 */
export const MASKED_FILES: readonly string[] = [
  "/proc/sysrq-trigger",
  "/proc/sys/kernel/core_pattern",
  "/sys/power/state",
];

/** What every program of a node finds in its environment, whoever starts it. */
export const NODE_ENVIRONMENT: readonly string[] = [
  "PATH=/run/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  "HOME=/root",
  "LANG=C.UTF-8",
  "TERM=dumb",
];
