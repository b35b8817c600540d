import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Needs } from "../support/requires.ts";
import type { Lab, MachinePlace } from "./lab.ts";
import {
  CommandError,
  childrenOf,
  exitOf,
  isAlive,
  killProcess,
  type ProcessId,
  processId,
  type Result,
  type RunOptions,
  run,
  waitFor,
} from "./process.ts";
import { addressOn, type LinkName, macOn } from "./switch.ts";
import { whyNoUml } from "./uml-probe.ts";

/** What a User-Mode Linux machine needs of the host. */
export const UML_NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: {
    "linux.uml": "user-mode-linux",
    ip: "iproute2",
    modprobe: "kmod",
    perl: "perl-base",
    taskset: "util-linux",
  },
  files: { "/dev/net/tun": "kernel module tun" },
  works: whyNoUml,
};

/** For every program of the machine, from its first one on: see uml-run.pl. */
const NO_AVX =
  "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD";
/**
 * A tick that repeats by itself. The default, a timer that is set anew for each event, stops for good when one of its signals
 * is lost, which a busy host brings about within a minute: the machine's clock stands still then, and nothing in it times out.
 */
const STEADY_CLOCK = ["nohz=off", "highres=off"];
const BOOT_MS = 60_000;
/** A machine answers within a second when idle; two of them on a busy host need more. */
const ANSWER_SECONDS = 30;

export interface UmlOptions {
  /** Disks by their names below /dev. The image files are the caller's; with a size they are made (anew, sparse) if missing. */
  readonly disks?: Readonly<Record<string, { readonly image: string; readonly sizeBytes?: number }>>;
  /** Files written at every boot, by absolute path. */
  readonly files?: Readonly<Record<string, string>>;
  /** Default 256 MiB; only what is used costs memory. */
  readonly memoryBytes?: number;
}

/**
 * A machine with a kernel of its own (User-Mode Linux) on the LANs of a lab: for kernel DRBD, and for what a page cache
 * loses at a power loss. Its root is the host's, read-only, with overlays on /etc, /home, /root, /srv and /var in its
 * memory: they are as the host's after each boot, the disks keep what was written.
 */
export class UmlNode {
  readonly #place: MachinePlace;
  readonly #options: UmlOptions;
  readonly #files: Map<string, string>;
  #supervisor: ProcessId | undefined;
  #ended: Promise<unknown> = Promise.resolve();

  private constructor(place: MachinePlace, options: UmlOptions) {
    this.#place = place;
    this.#options = options;
    this.#files = new Map(Object.entries(options.files ?? {}));
  }

  /** Boot `name`, one of the `machines` of the lab. Takes 3 to 10 s. */
  static async start(lab: Lab, name: string, options: UmlOptions = {}): Promise<UmlNode> {
    const node = new UmlNode(lab.machine(name), options);
    await node.start();
    return node;
  }

  get name(): string {
    return this.#place.name;
  }

  get address(): string {
    return addressOn("eth0", this.#place.host);
  }

  get isOn(): boolean {
    return this.#supervisor !== undefined && isAlive(this.#supervisor);
  }

  /** What the machine's console shows since its last boot. */
  get console(): string {
    return existsSync(this.#consoleFile) ? readFileSync(this.#consoleFile, "utf8") : "";
  }

  get #consoleFile(): string {
    return join(this.#place.folder, "console");
  }

  get #controlPort(): string {
    return `${this.name}-c`;
  }

  /** Power on. */
  async start(): Promise<void> {
    if (this.isOn) return;
    const { folder, host, links, network, project } = this.#place;
    mkdirSync(folder, { recursive: true });
    const config = this.#writeConfig();
    await network.removeTaps(this.name, [this.#controlPort]);
    for (const link of links) await network.tap(network.port(this.name, link), link);
    await network.tap(this.#controlPort, { address: `10.255.${host}.1/30` });
    const script = join(project, "test/lab/uml-machine.sh");
    const log = openSync(this.#consoleFile, "w");
    const child = spawn(
      "nsenter",
      [
        ...[`--net=/proc/${network.holder.pid}/ns/net`, "--"],
        ...["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"],
        ...[script, "outside"],
        // the kernel and its processes hand over to each other at every system call: on one CPU that is twice as fast
        ...["taskset", "-c", String(host % availableParallelism())],
        ...["perl", join(project, "test/lab/uml-run.pl")],
        ...["linux.uml", `mem=${Math.ceil((this.#options.memoryBytes ?? 256 * 2 ** 20) / 2 ** 20)}M`],
        ...[
          "root=none",
          "rootfstype=hostfs",
          "rootflags=/",
          "ro",
          "quiet",
          ...STEADY_CLOCK,
          `init=${script}`,
          `LAB_CONFIG=${config}`,
          NO_AVX,
        ],
        ...[...this.#disks().values()].map(({ image }, n) => `${ubd(n)}=${image}`),
        ...this.#devices(),
        ...["umid=machine", `uml_dir=${join(folder, "uml")}`, "con=null", "con0=null,fd:1", "ssl=null"],
      ],
      {
        detached: true, // Ctrl-C is for the program that runs the lab, not for the machines in it
        stdio: ["ignore", log, log],
        cwd: "/",
        env: { PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`, LAB_IMAGES: this.#imageFolders(), TMPDIR: "/dev/shm" },
      },
    );
    child.unref();
    closeSync(log);
    this.#supervisor = child.pid === undefined ? undefined : processId(child.pid);
    this.#ended = exitOf(child);
    this.#record();
    const settled = (): boolean => !this.isOn || /^LAB (ready|failed)/m.test(this.console);
    const done = await waitFor(settled, BOOT_MS, 50);
    this.#record(); // now with its first process
    if (!done || !/^LAB ready/m.test(this.console)) {
      const last = this.console.trim().split("\n").slice(-40).join(" | ");
      await this.kill();
      throw new Error(`machine ${this.name} did not boot: ${last || "no message"}`);
    }
  }

  #disks(): Map<string, { image: string }> {
    const disks = Object.entries(this.#options.disks ?? {}).map(([name, { image, sizeBytes }]) => {
      const path = resolve(image);
      if (!existsSync(path)) {
        if (sizeBytes === undefined) throw new Error(`machine ${this.name}: no image ${path}`);
        mkdirSync(dirname(path), { recursive: true });
        closeSync(openSync(path, "w"));
        truncateSync(path, sizeBytes);
      }
      return [name, { image: path }] as const;
    });
    return new Map(disks);
  }

  /** The only folders of the host that the machine may write to. */
  #imageFolders(): string {
    const images = [...this.#disks().values()].map(({ image }) => dirname(image));
    return [...new Set([this.#place.folder, ...images])].join(" ");
  }

  #devices(): string[] {
    const { host, links, network } = this.#place;
    const ports = links.map((link) => ({ port: network.port(this.name, link), mac: macOn(link, host), gro: 1 }));
    const control = { port: this.#controlPort, mac: `02:00:00:00:09:${host.toString(16).padStart(2, "0")}`, gro: 0 };
    return [...ports, control].map(
      ({ port, mac, gro }, n) => `vec${n}:transport=tap,ifname=${port},depth=128,gro=${gro},mac=${mac}`,
    );
  }

  /** Everything the machine's first process has to know, and the files it copies. */
  #writeConfig(): string {
    const { folder, host, hostsFile, links, project } = this.#place;
    const files = join(folder, "files");
    rmSync(files, { recursive: true, force: true });
    for (const [path, text] of this.#files) {
      mkdirSync(dirname(join(files, path)), { recursive: true });
      writeFileSync(join(files, path), text);
    }
    const values = {
      LAB_NODE: this.name,
      LAB_LINKS: links.map((link) => `${link}=${addressOn(link, host)}`).join(" "),
      LAB_CONTROL: this.#controlAddress,
      LAB_DISKS: [...this.#disks().keys()].map((name, n) => `${name}=${ubd(n)}`).join(" "),
      LAB_HOSTS: hostsFile,
      LAB_FILES: existsSync(files) ? files : "",
      LAB_SCRIPTS: join(project, "test/lab"),
    };
    const path = join(folder, "config");
    writeFileSync(
      path,
      Object.entries(values)
        .map(([key, value]) => `${key}='${value}'\n`)
        .join(""),
    );
    return path;
  }

  get #controlAddress(): string {
    return `10.255.${this.#place.host}.2`;
  }

  #record(): void {
    const supervisor = this.#supervisor;
    if (supervisor === undefined) this.#place.changed(undefined);
    else {
      const first = childrenOf(supervisor.pid)[0];
      this.#place.changed({ init: first === undefined ? undefined : processId(first), supervisor });
    }
  }

  /** Run a command in the machine; it dies with its time limit (default 60 s). Daemons that it starts live on. */
  async exec(command: readonly string[], options: RunOptions = {}): Promise<Result> {
    if (!this.isOn) throw new Error(`machine ${this.name} is off`);
    const { network, project } = this.#place;
    const client = join(project, "test/lab/uml-exec.pl");
    const enter = ["nsenter", `--net=/proc/${network.holder.pid}/ns/net`, "--"];
    const environment = Object.entries(options.env ?? {}).map(([key, value]) => `${key}=${value}`);
    const words = environment.length === 0 ? command : ["env", ...environment, ...command];
    const outer = [...enter, "perl", client, "run", this.#controlAddress, String(ANSWER_SECONDS), ...words];
    return await run(outer, { ...options, env: {} });
  }

  /** Like `exec` for a command that must succeed: returns what it prints. @throws CommandError */
  async must(command: readonly string[], options: RunOptions = {}): Promise<string> {
    const result = await this.exec(command, options);
    if (result.code !== 0) throw new CommandError([`${this.name}:`, ...command], result);
    return result.stdout;
  }

  /** Write a file of the machine, now and at every boot to come. */
  async writeFile(path: string, text: string): Promise<void> {
    this.#files.set(path, text);
    await this.must(["sh", "-c", 'mkdir -p "$1" && cat >"$2"', "sh", dirname(path), path], { input: text });
  }

  /** Pull a cable. The machine itself keeps its carrier (a tap has none to take away): nothing passes. */
  async unplug(link: LinkName = "eth0"): Promise<void> {
    await this.#place.network.setPort(this.name, link, false);
  }

  async plug(link: LinkName = "eth0"): Promise<void> {
    await this.#place.network.setPort(this.name, link, true);
  }

  /** Power loss: cables dead, then SIGKILL of the virtual machine. What its kernel wrote to the images stays. */
  async kill(): Promise<void> {
    const supervisor = this.#supervisor;
    if (supervisor !== undefined) {
      await this.#place.network.darken(this.name);
      const first = childrenOf(supervisor.pid)[0];
      const init = first === undefined ? undefined : processId(first);
      if (init !== undefined) await killProcess(init); // with it ends its whole pid namespace
      await killProcess(supervisor);
      const hold = setInterval(() => {}, 1_000); // the child is unreferenced: waiting for it must keep this program alive
      await this.#ended.finally(() => clearInterval(hold));
      await this.#place.network.removeTaps(this.name, [this.#controlPort]);
    }
    this.#supervisor = undefined;
    this.#record();
  }
}

/** Name of the n-th block device of User-Mode Linux. */
function ubd(n: number): string {
  return `ubd${String.fromCharCode("a".charCodeAt(0) + n)}`;
}
