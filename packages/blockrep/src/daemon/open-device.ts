import { closeSync, existsSync, ftruncateSync, openSync } from "node:fs";
import { ErrorCode, HaError } from "../base/errors.ts";
import { NET_DEFAULTS } from "../core/net-defaults.ts";
import type { EngineEvent, NetOptions } from "../core/ports.ts";
import type { PeerAddress } from "../drivers/peer-sockets.ts";
import { applyActivityLog, createMetadata } from "./metadata-tools.ts";
import { Resource, type ResourceStatus } from "./resource.ts";

export interface OpenDeviceOptions {
  /** Name of the resource, the same on both sides. */
  readonly name: string;
  /** Backing file or block device; a file that is missing is made with `createBytes`. */
  readonly backing: string;
  readonly createBytes?: number;
  readonly local: PeerAddress;
  readonly peer: PeerAddress;
  /** Authenticates the connection when set; the same on both sides. */
  readonly sharedSecret?: string;
  /** Anything else of DRBD's `net` section. */
  readonly net?: Partial<NetOptions>;
}

/** What a program holds in its hands: promises instead of callbacks, bytes instead of sectors. */
export interface ReplicatedDevice {
  readonly resource: Resource;
  readonly sizeBytes: number;
  /** @throws HaError HA_STORE_IO */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Resolves when both disks have it (protocol C). Offset and length are multiples of 512. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** Resolves when everything written before is on stable storage on both sides. */
  flush(): Promise<void>;
  status(): ResourceStatus;
  /** State changes, resync progress, split brain, as they happen; ends with the device. */
  events(signal?: AbortSignal): AsyncIterableIterator<EngineEvent>;
  /** Leave the peer, write clean metadata, close. */
  close(): Promise<void>;
}

/** Events that nobody has read yet; beyond that the oldest are dropped. */
const EVENT_BACKLOG_MAX = 1024;

/**
 * Open one side of a replicated device in this process: makes file and metadata when they are missing, recovers them
 * when they were not closed, attaches, and starts to connect. Needs no root.
 * @throws HaError HA_STORE_MISSING, HA_STORE_BUSY, HA_STORE_TOO_SMALL, HA_META_INVALID
 * @example
 * const device = await openDevice({ name: "r0", backing: "a.img", createBytes: 64 << 20, local, peer });
 * await device.resource.primary({ force: true });
 * await device.write(0, new Uint8Array(4096));
 */
export async function openDevice(options: OpenDeviceOptions): Promise<ReplicatedDevice> {
  const target = { disk: options.backing, placement: "internal" } as const;
  if (!existsSync(options.backing)) {
    if (options.createBytes === undefined) {
      throw new HaError(ErrorCode.storeMissing, `${options.backing} does not exist; give createBytes to make it`, {
        path: options.backing,
      });
    }
    const fd = openSync(options.backing, "wx");
    ftruncateSync(fd, options.createBytes);
    closeSync(fd);
    await createMetadata(target);
  }
  await applyActivityLog(target);
  const secret = options.sharedSecret ?? "";
  const resource = new Resource({
    engine: {
      resource: options.name,
      net: {
        ...NET_DEFAULTS,
        ...(secret === "" ? {} : { cramHmacAlg: "sha1", sharedSecret: secret }),
        ...options.net,
      },
      volumes: [{ volume: 0, minor: 0, disk: DISK_DEFAULTS }],
      onNoDataAccessible: "io-error",
      handlers: [],
      protocolMin: 100,
      protocolMax: 101,
    },
    local: options.local,
    peer: options.peer,
    volumes: [{ volume: 0, minor: 0, disk: options.backing }],
    handlers: {},
    runHandlers: false,
  });
  try {
    await resource.up();
  } catch (error) {
    await resource.close();
    throw error;
  }
  return new OpenedDevice(resource);
}

/** DRBD 8.4's, but for the resync: its defaults suit two machines on a slow line, and begin at 250 KiB/s. */
const DISK_DEFAULTS = {
  meta: { kind: "internal" },
  sizeSectors: 0,
  onIoError: "detach",
  fencing: "dont-care",
  alExtents: 1237,
  diskFlushes: true,
  mdFlushes: true,
  resyncRateKib: 102_400,
  cPlanAhead: 20,
  cDelayTarget: 10,
  cFillTargetSectors: 8192,
  cMaxRateKib: 1_048_576,
  cMinRateKib: 250,
  diskTimeoutMs: 0,
} as const;

class OpenedDevice implements ReplicatedDevice {
  readonly resource: Resource;
  readonly #ends = new Set<() => void>();

  constructor(resource: Resource) {
    this.resource = resource;
  }

  get sizeBytes(): number {
    return this.resource.backend().sizeBytes;
  }

  read(offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    return this.#settle("read", (done) => this.resource.backend().read(offset, target, done)).then(() => target);
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#settle("write", (done) => this.resource.backend().write(offset, data, false, done));
  }

  flush(): Promise<void> {
    return this.#settle("flush", (done) => this.resource.backend().flush(done));
  }

  status(): ResourceStatus {
    return this.resource.status();
  }

  async *events(signal?: AbortSignal): AsyncIterableIterator<EngineEvent> {
    const waiting: EngineEvent[] = [];
    let wake: (() => void) | undefined;
    let ended = false;
    const end = (): void => {
      ended = true;
      wake?.();
    };
    const listener = (event: EngineEvent): void => {
      if (waiting.length >= EVENT_BACKLOG_MAX) waiting.shift();
      waiting.push(event);
      wake?.();
    };
    this.resource.on("event", listener);
    this.#ends.add(end);
    signal?.addEventListener("abort", end);
    try {
      while (!ended && signal?.aborted !== true) {
        const event = waiting.shift();
        if (event !== undefined) yield event;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      this.resource.off("event", listener);
      this.#ends.delete(end);
      signal?.removeEventListener("abort", end);
    }
  }

  async close(): Promise<void> {
    for (const end of this.#ends) end();
    if (this.resource.status().role === "Primary") await this.resource.secondary();
    await this.resource.down();
  }

  #settle(verb: string, start: (done: (errno: number) => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      start((errno) => {
        if (errno === 0) resolve();
        else {
          const { name } = this.resource;
          reject(new HaError(ErrorCode.storeIo, `${name}: ${verb} failed with error ${errno}`, { verb, errno }));
        }
      });
    });
  }
}
