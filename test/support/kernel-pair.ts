import { createHash } from "node:crypto";
import { closeSync, fsyncSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { filesFor } from "../demo/configuration.ts";
import { Hacluster } from "../demo/hacluster.ts";
import { DrbdPeer } from "../lab/drbd-peer.ts";
import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";

const DATA = "/dev/drbd0";

/**
 * Our node nodo1 in namespaces, and nodo2 with kernel DRBD 8.4, both with the user's r0.res. Metadata is fresh; nothing is up.
 */
export class KernelPair {
  readonly lab: Lab;
  readonly ours: LabNode;
  readonly blockrep: Hacluster;
  readonly kernel: DrbdPeer;
  readonly #imageOfKernel: string;

  private constructor(lab: Lab, kernel: DrbdPeer, image: string) {
    this.lab = lab;
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
      const resource = edit(text("r0.res"));
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
      const pair = new KernelPair(lab, kernel, image);
      await pair.blockrep.createMetadata();
      await kernel.createMd();
      return pair;
    } catch (error) {
      await lab.down();
      throw error;
    }
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
    await this.ourCommand("down", "r0");
    await this.kernel.adm("down", "r0");
    const image = this.ours.diskImage as string;
    await this.ours.must(["blockdev", "--flushbufs", "/dev/sda6"]);
    return [digest(image, dataBytes), digest(this.#imageOfKernel, dataBytes), dataBytes];
  }

  async #dataBytes(): Promise<number> {
    return 512 * Number(await this.kernel.machine.must(["cat", "/sys/block/drbd0/size"]));
  }
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
