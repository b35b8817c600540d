import { join } from "node:path";
import {
  type AttachMethod,
  attachDevice,
  attachedHolders,
  cleanLeftovers,
  detachDevice,
  type NbdServer,
  type Resource,
  type VolumeSettings,
} from "@hacluster/blockrep";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import type { Logger } from "pino";
import { blockrepExport, RUN_FOLDER } from "../paths.ts";

const ATTACH_FOLDER = join(RUN_FOLDER, "attach");

/** The volumes of one resource as devices of this machine: an NBD server and a device under /dev for each. */
export class ExportedDevices {
  readonly #resource: Resource;
  readonly #method: AttachMethod | "auto";
  readonly #log: Logger;
  readonly #servers = new Map<number, NbdServer>();

  constructor(resource: Resource, method: AttachMethod | "auto", log: Logger) {
    this.#resource = resource;
    this.#method = method;
    this.#log = log;
  }

  /** What a process that died left attached. @throws HaError HA_DEVICE_BUSY when it is still in use */
  async removeLeftovers(): Promise<void> {
    for (const volume of this.#volumes()) {
      await cleanLeftovers(ATTACH_FOLDER, this.#attachName(volume.volume), volume.device);
    }
  }

  has(volume: number): boolean {
    return this.#servers.has(volume);
  }

  /** Serve and attach the volumes that are not; all of them or none. */
  async attach(volumes: readonly number[]): Promise<void> {
    const made: number[] = [];
    try {
      for (const volume of this.#volumes(volumes)) {
        if (this.#servers.has(volume.volume)) continue;
        made.push(volume.volume);
        await this.#attach(volume);
      }
    } catch (error) {
      await this.detach(made).catch(() => {});
      throw error;
    }
  }

  /** @throws HaError HA_DEVICE_BUSY naming who holds which device; then nothing has changed */
  async detach(volumes: readonly number[]): Promise<void> {
    const attached = this.#volumes(volumes).filter((volume) => this.#servers.has(volume.volume));
    if (attached.length > 1) this.#refuseIfHeld(attached);
    for (const volume of attached) {
      if (this.#method !== "none") await detachDevice(ATTACH_FOLDER, this.#attachName(volume.volume));
      const server = this.#servers.get(volume.volume);
      this.#servers.delete(volume.volume);
      await server?.close();
    }
  }

  /** With several devices all are asked for before the first one goes. */
  #refuseIfHeld(volumes: readonly VolumeSettings[]): void {
    for (const { volume, device } of volumes) {
      const holders = attachedHolders(ATTACH_FOLDER, this.#attachName(volume));
      if (holders === "") continue;
      throw new HaError(
        ErrorCode.deviceBusy,
        `${device ?? this.#resource.exportName(volume)} is ${holders}; unmount it or end what uses it`,
        { volume },
      );
    }
  }

  async #attach({ volume, device }: VolumeSettings): Promise<void> {
    const name = this.#attachName(volume);
    const socketPath = blockrepExport(name);
    this.#servers.set(volume, await this.#resource.serve(socketPath, volume));
    if (this.#method === "none") return;
    const attachment = await attachDevice({
      name,
      method: this.#method,
      socketPath,
      exportName: this.#resource.exportName(volume),
      sizeBytes: this.#resource.backend(volume).sizeBytes,
      runDirectory: ATTACH_FOLDER,
      ...(device === undefined ? {} : { linkPath: device }),
    });
    this.#log.info(
      { event: "device.attached", volume, device: attachment.devicePath },
      `${device ?? name} is ${attachment.devicePath}`,
    );
  }

  #volumes(numbers?: readonly number[]): VolumeSettings[] {
    return this.#resource.settings.volumes.filter((volume) => numbers?.includes(volume.volume) ?? true);
  }

  #attachName(volume: number): string {
    return this.#resource.exportName(volume).replace("/", "-");
  }
}
