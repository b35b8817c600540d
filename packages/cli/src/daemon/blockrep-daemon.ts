import { join } from "node:path";
import {
  type AdminVerb,
  type AttachMethod,
  applyActivityLog,
  attachDevice,
  cleanLeftovers,
  connName,
  detachDevice,
  diskName,
  type EngineEvent,
  type MetadataTarget,
  type NbdServer,
  Resource,
  type ResourceSettings,
  roleName,
  unpackState,
} from "@hacluster/blockrep";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import type { Logger } from "pino";
import type { ControlValue } from "../control/protocol.ts";
import { ControlServer } from "../control/server.ts";
import { blockrepExport, blockrepPidFile, blockrepSocket, RUN_FOLDER } from "../paths.ts";
import { removePidFile, writePidFile } from "./start-up.ts";

export interface BlockrepDaemonOptions {
  readonly settings: ResourceSettings;
  /** Per volume, for apply-al before an attach. */
  readonly metadata: readonly MetadataTarget[];
  readonly attachMethod: AttachMethod | "auto";
  readonly logger: Logger;
  /** Called when `down` is complete: the process may end. */
  readonly onDown: () => void;
}

type Params = { readonly [key: string]: ControlValue };

/** What wait-connect and the start need to know of how the node went down. */
interface StartFacts {
  readonly degraded: boolean;
  readonly peerOutdated: boolean;
}

const ATTACH_FOLDER = join(RUN_FOLDER, "attach");
/** Commands that go to the engine as they are. */
const PLAIN_VERBS: ReadonlySet<string> = new Set<AdminVerb>([
  "detach",
  "connect",
  "disconnect",
  "invalidate",
  "invalidate-remote",
  "outdate",
  "pause-sync",
  "resume-sync",
  "suspend-io",
  "resume-io",
  "new-current-uuid",
]);

/**
 * The process of one resource: the library's Resource, a control socket, and the device under /dev while Primary.
 * Promotion and demotion run one at a time: a takeover and an administrator may ask at the same moment.
 */
export class BlockrepDaemon {
  readonly #options: BlockrepDaemonOptions;
  readonly #resource: Resource;
  readonly #control: ControlServer;
  readonly #log: Logger;
  #server: NbdServer | undefined;
  #facts: StartFacts = { degraded: false, peerOutdated: false };
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: BlockrepDaemonOptions) {
    this.#options = options;
    this.#log = options.logger;
    this.#resource = new Resource(options.settings);
    this.#resource.on("event", (event) => this.#onEvent(event));
    this.#resource.on("note", (level, text) => this.#log[level]({ event: "note" }, text));
    this.#control = new ControlServer(blockrepSocket(this.#resource.name), (method, params, signal) =>
      this.#handle(method, params, signal),
    );
  }

  /** Serve the control socket; what a process that died left attached is removed first. */
  async start(): Promise<void> {
    await this.#control.listen();
    for (const volume of this.#options.settings.volumes) {
      await cleanLeftovers(ATTACH_FOLDER, this.#attachName(volume.volume), volume.device);
    }
    writePidFile(blockrepPidFile(this.#resource.name));
    this.#log.info({ event: "daemon.start" }, "serving");
  }

  /** Attach and connect, as `up` over the control socket does. */
  async up(): Promise<void> {
    await this.#inTurn(() => this.#up());
  }

  /** SIGTERM: leave in order; with the device in use that fails, and the process stays. */
  async stop(): Promise<void> {
    await this.#inTurn(() => this.#down());
  }

  async #handle(method: string, params: Params, signal: AbortSignal): Promise<ControlValue> {
    switch (method) {
      case "subscribe":
        return null;
      case "status":
        return this.#status();
      case "ping":
        return process.pid;
      case "suspect-peer":
        this.#resource.host.suspectPeer();
        return null;
      case "wait":
        await this.#wait(params, signal);
        return this.#status();
      case "attach":
        await this.#inTurn(() => this.#attach());
        return null;
      case "up":
        await this.#inTurn(() => this.#up());
        return { ...this.#facts };
      case "primary":
        await this.#inTurn(() => this.#primary(params["force"] === true));
        return null;
      case "secondary":
        await this.#inTurn(() => this.#secondary());
        return null;
      case "down":
        await this.#inTurn(() => this.#down());
        return null;
      default:
        if (!PLAIN_VERBS.has(method)) {
          throw new HaError(ErrorCode.unsupported, `${this.#resource.name}: unknown request "${method}"`);
        }
        await this.#inTurn(() =>
          this.#resource.command({
            verb: method as AdminVerb,
            ...(params["force"] === true ? { force: true } : {}),
            ...(params["discardMyData"] === true ? { discardMyData: true } : {}),
            ...(params["dryRun"] === true ? { dryRun: true } : {}),
            ...(params["clearBitmap"] === true ? { clearBitmap: true } : {}),
          }),
        );
        return null;
    }
  }

  /** One change of role or attachment at a time. */
  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(action, action);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #up(): Promise<void> {
    const before = this.#resource.status();
    if (before.volumes.every((v) => v.disk === "Diskless")) await this.#attach();
    if (before.connection === "StandAlone") await this.#resource.command({ verb: "connect" });
  }

  async #attach(): Promise<void> {
    for (const target of this.#options.metadata) {
      const applied = await applyActivityLog(target);
      this.#facts = {
        degraded: this.#facts.degraded || applied.degraded,
        peerOutdated: this.#facts.peerOutdated || applied.peerOutdated,
      };
      if (applied.extents > 0) {
        this.#log.warn(
          { event: "apply-al", extents: applied.extents },
          `this node went down as Primary: ${applied.extents * 4} MiB marked out of sync from the activity log`,
        );
      }
    }
    await this.#resource.command({ verb: "attach" });
  }

  async #primary(force: boolean): Promise<void> {
    const started = performance.now();
    await this.#resource.primary(force ? { force: true } : {});
    const promoted = performance.now();
    if (this.#server === undefined) {
      try {
        await this.#attachDevice();
      } catch (error) {
        // Primary without a device helps nobody and keeps the other node from becoming it
        await this.#detachDevice().catch(() => {});
        await this.#resource.secondary().catch(() => {});
        throw error;
      }
    }
    const ms = (from: number, to: number): number => Math.round(to - from);
    this.#log.info(
      { event: "primary", promoteMs: ms(started, promoted), attachMs: ms(promoted, performance.now()) },
      `Primary after ${ms(started, promoted)} ms, device after ${ms(started, performance.now())} ms`,
    );
  }

  async #secondary(): Promise<void> {
    await this.#detachDevice();
    await this.#resource.secondary();
    this.#log.info({ event: "secondary" }, "Secondary");
  }

  async #down(): Promise<void> {
    await this.#detachDevice();
    if (this.#resource.status().role === "Primary") await this.#resource.secondary();
    await this.#resource.down();
    removePidFile(blockrepPidFile(this.#resource.name));
    this.#log.info({ event: "daemon.stop" }, "down");
    // the answer to the request must leave before the socket closes
    setImmediate(() => {
      void this.#control.close().then(this.#options.onDown, this.#options.onDown);
    });
  }

  async #attachDevice(): Promise<void> {
    const { name } = this.#resource;
    const volume = this.#options.settings.volumes[0];
    if (volume === undefined) return;
    const socketPath = blockrepExport(name);
    this.#server = await this.#resource.serve(socketPath, volume.volume);
    if (this.#options.attachMethod === "none") return;
    const backend = this.#resource.backend(volume.volume);
    const attachment = await attachDevice({
      name: this.#attachName(volume.volume),
      method: this.#options.attachMethod,
      socketPath,
      exportName: name,
      sizeBytes: backend.sizeBytes,
      runDirectory: ATTACH_FOLDER,
      ...(volume.device === undefined ? {} : { linkPath: volume.device }),
    });
    this.#log.info(
      { event: "device.attached", device: attachment.devicePath },
      `${volume.device ?? name} is ${attachment.devicePath}`,
    );
  }

  /** @throws HaError HA_DEVICE_BUSY naming the holders; then nothing has changed */
  async #detachDevice(): Promise<void> {
    const volume = this.#options.settings.volumes[0];
    if (volume === undefined) return;
    if (this.#options.attachMethod !== "none") {
      await detachDevice(ATTACH_FOLDER, this.#attachName(volume.volume));
    }
    const server = this.#server;
    this.#server = undefined;
    await server?.close();
  }

  async #wait(params: Params, signal: AbortSignal): Promise<void> {
    const holds = params["for"] === "synced" ? Resource.isInSync : Resource.isConnected;
    const timeoutMs = params["timeoutMs"];
    await this.#resource.waitUntil(holds, { signal, ...(typeof timeoutMs === "number" ? { timeoutMs } : {}) });
  }

  #attachName(volume: number): string {
    return this.#options.settings.volumes.length > 1 ? `${this.#resource.name}-${volume}` : this.#resource.name;
  }

  #status(): ControlValue {
    return { ...this.#resource.status(), pid: process.pid, start: { ...this.#facts } } as unknown as ControlValue;
  }

  #onEvent(event: EngineEvent): void {
    this.#control.publish(event.type, null);
    const { type, ...fields } = event;
    const data = { event: type, ...stringifyBigInts(fields) };
    switch (event.type) {
      case "state":
        this.#log.info(data, describeStateChange(event.from, event.to, event.cause));
        break;
      case "connected":
        this.#log.info(data, `connected to the peer, protocol version ${event.version}`);
        break;
      case "handshake":
        this.#log.info(data, `generations compared: ${event.text} (rule ${event.rule}, result ${event.result})`);
        break;
      case "resync-start":
        this.#log.info(data, `resync as ${event.role}: ${event.blocks * 4} KiB`);
        break;
      case "resync-progress":
        this.#log.debug(data, `resync: ${event.progress.leftBlocks * 4} KiB left`);
        break;
      case "resync-end":
        this.#log.info(
          data,
          `resync ${event.done ? "done" : "interrupted"}: ${event.blocks * 4} KiB in ${event.ms} ms`,
        );
        break;
      case "split-brain":
        this.#log[event.resolved ? "warn" : "error"](data, event.text);
        break;
      case "uuids":
        this.#log.info(data, `generation: ${event.cause}`);
        break;
      case "disk-error":
        this.#log.error(data, `disk error ${event.errno} during ${event.operation}`);
        break;
      case "network":
      case "note":
        this.#log[event.level](data, event.text);
        break;
    }
  }
}

function stringifyBigInts(fields: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === "bigint" ? value.toString(16) : value]),
  );
}

/** Every part that changed as `name old → new`, with the cause. */
function describeStateChange(from: number, to: number, cause: string): string {
  const a = unpackState(from);
  const b = unpackState(to);
  const parts: string[] = [];
  if (a.conn !== b.conn) parts.push(`connection ${connName(a.conn)} → ${connName(b.conn)}`);
  if (a.role !== b.role) parts.push(`role ${roleName(a.role)} → ${roleName(b.role)}`);
  if (a.peer !== b.peer) parts.push(`peer role ${roleName(a.peer)} → ${roleName(b.peer)}`);
  if (a.disk !== b.disk) parts.push(`disk ${diskName(a.disk)} → ${diskName(b.disk)}`);
  if (a.pdsk !== b.pdsk) parts.push(`peer disk ${diskName(a.pdsk)} → ${diskName(b.pdsk)}`);
  return `${parts.length === 0 ? "flags changed" : parts.join(", ")} (${cause})`;
}
