import type { Needs } from "../support/requires.ts";
import type { Lab } from "./lab.ts";
import { type Result, waitFor } from "./process.ts";
import { UML_NEEDS, UmlNode } from "./uml-node.ts";

/** What a machine with kernel DRBD needs of the host. */
export const DRBD_PEER_NEEDS: Needs = {
  ...UML_NEEDS,
  programs: { ...UML_NEEDS.programs, drbdadm: "drbd-utils" },
};

const RESOURCE_FILE = "/etc/drbd.d/r0.res";
const CRYPTO_MODULES = ["hmac", "sha512_generic"]; // sha1, sha256, md5 and crc32c are built in

export interface DrbdPeerOptions {
  /** A drbd.conf resource file; the peer is its section `on NAME`. */
  readonly resource: string;
  readonly globalCommon?: string;
  /** Name below /dev of the backing disk in that section, such as `sda6`. */
  readonly disk: string;
  /** Image file of that disk. */
  readonly image: string;
  /** The image is made (anew, sparse) with this size if missing. */
  readonly sizeBytes?: number;
}

/**
 * Kernel DRBD 8.4 in a virtual machine, with the resource of one configuration file. Handlers do not run: the kernel's
 * user-mode helper is /bin/true, as every handler's success.
 */
export class DrbdPeer {
  readonly machine: UmlNode;

  private constructor(machine: UmlNode) {
    this.machine = machine;
  }

  /** Boot and load the module; nothing is attached or connected yet (`createMd`, `up`). */
  static async start(lab: Lab, name: string, options: DrbdPeerOptions): Promise<DrbdPeer> {
    const disk = options.sizeBytes === undefined ? {} : { sizeBytes: options.sizeBytes };
    const machine = await UmlNode.start(lab, name, {
      disks: { [options.disk]: { image: options.image, ...disk } },
      files: {
        "/etc/drbd.conf": 'include "drbd.d/global_common.conf";\ninclude "drbd.d/*.res";\n',
        "/etc/drbd.d/global_common.conf": options.globalCommon ?? "global { usage-count no; }\n",
        [RESOURCE_FILE]: options.resource,
      },
    });
    const self = new DrbdPeer(machine);
    await self.#load();
    return self;
  }

  async #load(): Promise<void> {
    const modprobe = "/run/lab/bin/modprobe";
    // what cram-hmac-alg and the digests name; the kernel's own request runs without the environment of uml-run.pl and may fail
    await this.machine.must([modprobe, "-a", ...CRYPTO_MODULES]);
    await this.machine.must([modprobe, "drbd", "usermode_helper=/bin/true"]);
  }

  /** After a power loss: boot, load the module. */
  async restart(): Promise<void> {
    await this.machine.start();
    await this.#load();
  }

  /** `drbdadm ARGS` (8.4's tool) in the machine. @throws CommandError */
  async adm(...args: readonly string[]): Promise<string> {
    return await this.machine.must(["drbdadm", ...args]);
  }

  async tryAdm(...args: readonly string[]): Promise<Result> {
    return await this.machine.exec(["drbdadm", ...args]);
  }

  /** Another resource file, from now on and after every boot. Nothing is applied: see `adm("adjust", ...)` or `up`. */
  async configure(resource: string): Promise<void> {
    await this.machine.writeFile(RESOURCE_FILE, resource);
  }

  /** Write fresh metadata. */
  async createMd(resource = "r0"): Promise<void> {
    await this.adm("create-md", "--force", resource);
  }

  /** Apply what the activity log says if need be, attach, connect. */
  async up(resource = "r0"): Promise<void> {
    await this.adm("up", resource);
  }

  /** /proc/drbd */
  async state(): Promise<string> {
    return await this.machine.must(["cat", "/proc/drbd"]);
  }

  /** Wait until /proc/drbd matches, and return it. @throws Error with what it shows, and the kernel's last messages */
  async waitFor(pattern: string | RegExp, timeoutMs = 60_000): Promise<string> {
    const wanted = new RegExp(pattern);
    let state = "";
    const reached = await waitFor(
      async () => {
        state = await this.state();
        return wanted.test(state);
      },
      timeoutMs,
      250,
    );
    if (reached) return state;
    throw new Error(`/proc/drbd never showed ${wanted}: ${state}\n${await this.kernelLog(25)}`);
  }

  /** The last lines of the machine's kernel log that are about DRBD, or about something worse. */
  async kernelLog(lines = 200): Promise<string> {
    return await this.machine.must(["sh", "-c", `dmesg | grep -E "drbd|BUG|WARNING|error" | tail -n ${lines}`]);
  }
}
