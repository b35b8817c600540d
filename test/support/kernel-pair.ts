import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { filesFor } from "../demo/configuration.ts";
import { Hacluster } from "../demo/hacluster.ts";
import { DRBD_PEER_NEEDS, DrbdPeer } from "../lab/drbd-peer.ts";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { CommandError, type Result, waitFor } from "../lab/process.ts";
import type { Needs } from "./requires.ts";

/** What a `KernelPair` needs of this machine. */
export const DRBD_NEEDS: Needs = {
  ...DRBD_PEER_NEEDS,
  programs: { ...DRBD_PEER_NEEDS.programs, nbdfuse: "libnbd-bin", fusermount3: "fuse3", fio: "fio" },
};
const DATA = "/dev/drbd0";
const COMMAND_MS = 90_000;

/**
 * Our node nodo1 in namespaces, and nodo2 with kernel DRBD 8.4, both with the user's r0.res. Metadata is fresh; nothing is up.
 */
export class KernelPair {
  readonly lab: Lab;
  readonly ours: LabNode;
  readonly blockrep: Hacluster;
  readonly kernel: DrbdPeer;
  readonly #imageOfKernel: string;
  readonly #resource: string;

  private constructor(lab: Lab, kernel: DrbdPeer, image: string, resource: string) {
    this.lab = lab;
    this.#resource = resource;
    this.ours = lab.node("nodo1");
    this.blockrep = new Hacluster(this.ours, 60_000);
    this.kernel = kernel;
    this.#imageOfKernel = image;
  }

  /** `edit` changes the resource file for both sides. */
  static async make(options: { sizeBytes: number; edit?: (text: string) => string }): Promise<KernelPair> {
    const lab = await Lab.up({ name: "kernel", machines: ["nodo2"], client: false, diskBytes: options.sizeBytes });
    try {
      const edit = options.edit ?? ((text: string): string => text);
      const files = filesFor("nodo1", true).filter(({ path }) => path.startsWith("drbd.d/"));
      const text = (name: string): string => files.find(({ path }) => path === `drbd.d/${name}`)?.text ?? "";
      const original = text("r0.res");
      const resource = edit(original);
      const node = lab.node("nodo1");
      await node.must(["sh", "-c", "rm -rf /etc/drbd.d /etc/drbd.conf"]);
      await node.writeFile("/etc/drbd.d/global_common.conf", text("global_common.conf"));
      await node.writeFile("/etc/drbd.d/r0.res", resource);
      const image = join(lab.images, "nodo2.img");
      const kernel = await DrbdPeer.start(lab, "nodo2", {
        resource,
        globalCommon: text("global_common.conf"),
        disk: "sda6",
        image,
        sizeBytes: options.sizeBytes,
      });
      const pair = new KernelPair(lab, kernel, image, original);
      await pair.blockrep.createMetadata();
      await kernel.createMd();
      return pair;
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  /** Take both down, and make them anew: the user's file with this `edit`, fresh metadata. The data stays as it was. */
  async remake(edit: (text: string) => string): Promise<void> {
    await this.down();
    await this.configure(edit);
    await this.ourCommand("create-md", "--force", "r0");
    await this.kernel.createMd();
  }

  /** Another resource file for both, while both are down: the user's with this `edit`. */
  async configure(edit: (text: string) => string): Promise<void> {
    const resource = edit(this.#resource);
    await this.ours.writeFile("/etc/drbd.d/r0.res", resource);
    await this.kernel.configure(resource);
  }

  async down(): Promise<void> {
    await this.ourCommand("down", "r0");
    await this.kernel.adm("down", "r0");
  }

  /** `hacluster blockrep ARGS` on our node. @throws CommandError */
  async ourCommand(...args: readonly string[]): Promise<string> {
    return await this.ours.must(["hacluster", "blockrep", ...args]);
  }

  /** Wait until both say so. `kernel` is for /proc/drbd, `ours` for our status: connection role/peer-role disk/peer-disk. */
  async settle(kernel: RegExp, ours: RegExp, timeoutMs = 60_000): Promise<void> {
    await this.kernel.waitFor(kernel, timeoutMs).catch(async (error: unknown) => {
      throw new Error(
        `${error instanceof Error ? error.message : String(error)}\nours: ${await this.blockrep.statusText()}`,
      );
    });
    let seen = "";
    const reached = await waitFor(
      async () => {
        const { connection, role, disk, peerDisk } = await this.blockrep.resource();
        seen = `${connection} ${role} ${disk}/${peerDisk}`;
        return ours.test(seen);
      },
      timeoutMs,
      250,
    );
    if (!reached) throw new Error(`our status never showed ${ours}: ${seen}\nkernel: ${await this.kernel.state()}`);
  }

  /** Random bytes to our device; returns when they are durable. */
  async writeOurs(offsetMiB: number, mebibytes: number): Promise<void> {
    await this.ours.must(["sh", "-c", writeCommand(offsetMiB, mebibytes)]);
  }

  async writeKernel(offsetMiB: number, mebibytes: number): Promise<void> {
    await this.kernel.machine.must(["sh", "-c", writeCommand(offsetMiB, mebibytes)]);
  }

  /** Take both down, and compare the data areas of the backing disks; returns their digests, ours first. */
  async compareDown(): Promise<[ours: string, kernel: string, dataBytes: number]> {
    const dataBytes = await this.#dataBytes();
    await this.down();
    const image = this.ours.diskImage as string;
    await this.ours.must(["blockdev", "--flushbufs", "/dev/sda6"]);
    return [digest(image, dataBytes), digest(this.#imageOfKernel, dataBytes), dataBytes];
  }

  /** Both as `Side`s, so that a test can say the same of each. */
  side(name: SideName): Side {
    return name === "ours" ? new OurSide(this) : new KernelSide(this);
  }

  async #dataBytes(): Promise<number> {
    return 512 * Number(await this.kernel.machine.must(["cat", "/sys/block/drbd0/size"]));
  }
}

/** Run `body`; what it throws gets the kernel's last words. */
export async function withKernelLog(pair: KernelPair, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    const log = await pair.kernel.kernelLog(40).catch(String);
    throw new Error(`${error instanceof Error ? error.stack : String(error)}\nkernel log of nodo2:\n${log}`);
  }
}

export type SideName = "ours" | "kernel";

/** Blocks of random sizes and order, each with its seed and offset in it: what one side has written the other one can verify. */
export interface Load {
  readonly offsetMiB: number;
  readonly mebibytes: number;
  /** Different seeds write different bytes. */
  readonly seed: number;
}

/** One of the two nodes, under the verbs of drbdadm. */
export abstract class Side {
  abstract readonly name: SideName;
  protected readonly pair: KernelPair;

  constructor(pair: KernelPair) {
    this.pair = pair;
  }

  get other(): Side {
    return this.pair.side(this.name === "ours" ? "kernel" : "ours");
  }

  abstract exec(command: readonly string[]): Promise<Result>;
  /** `drbdadm ARGS`, or ours. */
  abstract tryAdm(...args: readonly string[]): Promise<Result>;
  /** Power loss. */
  abstract kill(): Promise<void>;
  /** Power on, and bring the resource up. */
  abstract start(): Promise<void>;

  async must(command: readonly string[]): Promise<string> {
    return checked(this.name, command, await this.exec(command));
  }

  async adm(...args: readonly string[]): Promise<string> {
    return checked(this.name, args, await this.tryAdm(...args));
  }

  /** Write, make durable, read back and verify. @throws CommandError with fio's words */
  async write(load: Load): Promise<void> {
    await this.must(fio(load, ["--do_verify=1", "--end_fsync=1"]));
  }

  /** Verify what a `write` of either side left here. */
  async verify(load: Load): Promise<void> {
    await this.must(fio(load, ["--verify_only"]));
  }
}

class OurSide extends Side {
  readonly name = "ours";

  async exec(command: readonly string[]): Promise<Result> {
    return await this.pair.ours.exec(command, { timeoutMs: COMMAND_MS });
  }

  async tryAdm(...args: readonly string[]): Promise<Result> {
    return await this.exec(["hacluster", "blockrep", ...args]);
  }

  async kill(): Promise<void> {
    await this.pair.ours.kill();
  }

  async start(): Promise<void> {
    await this.pair.ours.start();
    await this.adm("up", "r0");
  }
}

class KernelSide extends Side {
  readonly name = "kernel";

  async exec(command: readonly string[]): Promise<Result> {
    return await this.pair.kernel.machine.exec(command, { timeoutMs: COMMAND_MS });
  }

  async tryAdm(...args: readonly string[]): Promise<Result> {
    return await this.exec(["drbdadm", ...args]);
  }

  async kill(): Promise<void> {
    await this.pair.kernel.machine.kill();
  }

  async start(): Promise<void> {
    await this.pair.kernel.restart();
    await this.adm("up", "r0");
  }
}

function checked(side: string, command: readonly string[], result: Result): string {
  if (result.code !== 0) throw new CommandError([`${side}:`, ...command], result);
  return result.stdout;
}

function fio({ offsetMiB, mebibytes, seed }: Load, extra: readonly string[]): string[] {
  const region = [`--offset=${offsetMiB}m`, `--size=${mebibytes}m`, `--randseed=${seed}`];
  const blocks = ["--rw=randwrite", "--bsrange=4k-64k", "--bs_unaligned=0", "--blockalign=4k"];
  const pattern = `--verify_pattern=0x${seed.toString(16).padStart(8, "0")}%o`; // a checksum alone would accept older blocks
  const how = ["--ioengine=psync", "--verify=pattern", pattern, "--verify_fatal=1", "--verify_state_save=0"];
  return ["fio", "--name=load", `--filename=${DATA}`, ...region, ...blocks, ...how, "--output-format=terse", ...extra];
}

function writeCommand(offsetMiB: number, mebibytes: number): string {
  return `dd if=/dev/urandom of=${DATA} bs=1M seek=${offsetMiB} count=${mebibytes} conv=fsync,notrunc status=none`;
}

/** SHA-256 of the first `sizeBytes` of a file. */
function digest(path: string, sizeBytes: number): string {
  const hash = createHash("sha256");
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
    const buffer = Buffer.alloc(1 << 20);
    for (let at = 0; at < sizeBytes; ) {
      const n = readSync(fd, buffer, 0, Math.min(buffer.length, sizeBytes - at), at);
      if (n === 0) throw new Error(`${path} ends after ${at} of ${sizeBytes} bytes`);
      hash.update(buffer.subarray(0, n));
      at += n;
    }
    return hash.digest("hex");
  } finally {
    closeSync(fd);
  }
}
