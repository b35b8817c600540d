import {
  type Adjustment,
  type AdminCommand,
  type AdminVerb,
  type AttachMethod,
  applyActivityLog,
  connName,
  diskName,
  type EngineEvent,
  type MetadataTarget,
  Resource,
  type ResourceSettings,
  roleName,
  unpackState,
  VerifySchedule,
  verifyTimes,
} from "@hacluster/blockrep";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import type { Logger } from "pino";
import type { ControlValue } from "../control/protocol.ts";
import { ControlServer } from "../control/server.ts";
import { blockrepPidFile, blockrepSocket } from "../paths.ts";
import { ExportedDevices } from "./exported-devices.ts";
import { removePidFile, writePidFile } from "./start-up.ts";

/** What the configuration says of a resource: what it is made of, and where the metadata of each volume is. */
export interface BlockrepConfiguration {
  readonly settings: ResourceSettings;
  /** In the order of the settings' volumes. */
  readonly metadata: readonly MetadataTarget[];
}

export interface BlockrepDaemonOptions extends BlockrepConfiguration {
  /** Reads the configuration again, for `adjust`. @throws HaError, Error when it is not to be used */
  readonly reload: () => BlockrepConfiguration;
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

/** Commands that go to the engine as they are, for the resource as a whole. */
const CONNECTION_VERBS: ReadonlySet<string> = new Set<AdminVerb>(["connect", "disconnect"]);
/** Commands that go to the engine as they are, for one volume after the other. */
const VOLUME_VERBS: ReadonlySet<string> = new Set<AdminVerb>([
  "detach",
  "invalidate",
  "invalidate-remote",
  "outdate",
  "pause-sync",
  "resume-sync",
  "suspend-io",
  "resume-io",
  "new-current-uuid",
  "verify",
]);
/** Subscribers of this topic get the whole status with every change of a state: `events2` and the monitor. */
export const OBJECTS_TOPIC = "objects";

/**
 * The process of one resource: the library's Resource, a control socket, and the devices under /dev while Primary.
 * Promotion and demotion run one at a time: a takeover and an administrator may ask at the same moment.
 */
export class BlockrepDaemon {
  readonly #options: BlockrepDaemonOptions;
  readonly #resource: Resource;
  readonly #devices: ExportedDevices;
  readonly #control: ControlServer;
  readonly #log: Logger;
  #verifying: VerifySchedule | undefined;
  #facts: StartFacts = { degraded: false, peerOutdated: false };
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: BlockrepDaemonOptions) {
    this.#options = options;
    this.#log = options.logger;
    this.#resource = new Resource(options.settings);
    this.#resource.on("event", (event) => this.#onEvent(event));
    this.#resource.on("handler", (name, volume, exitCode) => this.#onHandler(name, volume, exitCode));
    this.#resource.on("note", (level, text) => this.#log[level]({ event: "note" }, text));
    this.#devices = new ExportedDevices(this.#resource, options.attachMethod, options.logger);
    this.#control = new ControlServer(blockrepSocket(this.#resource.name), (method, params, signal) =>
      this.#handle(method, params, signal),
    );
  }

  /** Serve the control socket; what a process that died left attached is removed first. */
  async start(): Promise<void> {
    await this.#control.listen();
    try {
      await this.#devices.removeLeftovers();
      writePidFile(blockrepPidFile(this.#resource.name));
    } catch (error) {
      await this.abandon();
      throw error;
    }
    this.#schedule();
    this.#log.info({ event: "daemon.start" }, "serving");
  }

  /** A schedule that makes no sense must not keep the disk from being served. */
  #schedule(): void {
    try {
      const times = verifyTimes(process.env["HACLUSTER_VERIFY"], this.#resource.name);
      if (times === undefined) return;
      this.#verifying = new VerifySchedule(this.#resource, times, (level, text) =>
        this.#log[level]({ event: "verify" }, text),
      );
      this.#log.info({ event: "verify" }, `verify at "${times}"`);
    } catch (error) {
      this.#log.error({ event: "verify" }, error instanceof Error ? error.message : String(error));
    }
  }

  /** After a failed start: give back what was taken, so that the next try finds the resource down. */
  async abandon(): Promise<void> {
    await this.#resource.close();
    removePidFile(blockrepPidFile(this.#resource.name));
    await this.#control.close();
  }

  /** Attach and connect, as `up` over the control socket does. */
  async up(): Promise<void> {
    await this.#inTurn(() => this.#up());
  }

  /** SIGTERM: leave in order; with a device in use that fails, and the process stays. */
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
      case "generations":
        return { ...this.#resource.generations(this.#volumes(params)[0]) };
      case "attach":
        await this.#inTurn(() => this.#attach(this.#volumes(params)));
        return null;
      case "up":
        await this.#inTurn(() => this.#up());
        return { ...this.#facts };
      case "primary":
        await this.#inTurn(() => this.#primary(this.#volumes(params), params["force"] === true));
        return null;
      case "secondary":
        await this.#inTurn(() => this.#secondary(this.#volumes(params)));
        return null;
      case "adjust":
        return (await this.#inTurn(() => this.#adjust())) as unknown as ControlValue;
      case "down":
        await this.#inTurn(() => this.#down());
        return null;
      default:
        await this.#inTurn(() => this.#engineCommand(method, params));
        return null;
    }
  }

  async #engineCommand(method: string, params: Params): Promise<void> {
    const request: AdminCommand = {
      verb: method as AdminVerb,
      ...(params["force"] === true ? { force: true } : {}),
      ...(params["discardMyData"] === true ? { discardMyData: true } : {}),
      ...(params["dryRun"] === true ? { dryRun: true } : {}),
      ...(params["clearBitmap"] === true ? { clearBitmap: true } : {}),
      ...(typeof params["startSector"] === "number" ? { startSector: params["startSector"] } : {}),
      ...(typeof params["stopSector"] === "number" ? { stopSector: params["stopSector"] } : {}),
    };
    if (CONNECTION_VERBS.has(method)) await this.#resource.command(request);
    else if (VOLUME_VERBS.has(method)) await this.#resource.onVolumes(request, this.#volumes(params));
    else throw new HaError(ErrorCode.unsupported, `${this.#resource.name}: unknown request "${method}"`);
  }

  /** The volumes that a request names; all when it names none. @throws HaError HA_CONFIG_INVALID */
  #volumes(params: Params): number[] {
    const known = this.#options.settings.volumes.map((volume) => volume.volume);
    const wanted = params["volumes"];
    if (!Array.isArray(wanted)) return known;
    for (const volume of wanted) {
      if (known.includes(volume as number)) continue;
      throw new HaError(
        ErrorCode.configInvalid,
        `${this.#resource.name} came up without volume ${String(volume)}: "down" and "up" bring in what the configuration has got since`,
      );
    }
    return wanted as number[];
  }

  /** One change of role or attachment at a time. */
  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(action, action);
    this.#turn = result.catch(() => {});
    return result;
  }

  async #up(): Promise<void> {
    const before = this.#resource.status();
    await this.#attach(before.volumes.filter((v) => v.disk === "Diskless").map((v) => v.volume));
    if (before.connection === "StandAlone") await this.#resource.command({ verb: "connect" });
  }

  /** Take over what may change while the resource is up, then attach and connect what is not, as drbdadm adjust. */
  async #adjust(): Promise<Adjustment> {
    const adjustment = this.#resource.adjust(this.#options.reload().settings);
    const changed = Object.values(adjustment).flat();
    if (changed.length > 0) this.#log.info({ event: "adjust", ...adjustment }, `adjust: ${changed.join(", ")}`);
    await this.#up();
    return adjustment;
  }

  async #attach(volumes: readonly number[]): Promise<void> {
    const diskless = new Set(
      this.#resource
        .status()
        .volumes.filter((v) => v.disk === "Diskless")
        .map((v) => v.volume),
    );
    for (const [index, target] of this.#options.metadata.entries()) {
      const volume = this.#options.settings.volumes[index]?.volume;
      // the engine refuses the others; their metadata are in use
      if (volume === undefined || !volumes.includes(volume) || !diskless.has(volume)) continue;
      await this.#applyActivityLog(volume, target);
    }
    await this.#resource.onVolumes({ verb: "attach" }, volumes);
  }

  async #applyActivityLog(volume: number, target: MetadataTarget): Promise<void> {
    const applied = await applyActivityLog(target);
    this.#facts = {
      degraded: this.#facts.degraded || applied.degraded,
      peerOutdated: this.#facts.peerOutdated || applied.peerOutdated,
    };
    if (applied.extents === 0) return;
    this.#log.warn(
      { event: "apply-al", volume, extents: applied.extents },
      `this node went down as Primary: ${applied.extents * 4} MiB marked out of sync from the activity log`,
    );
  }

  /** All of the volumes become Primary with a device each, or none that was not. */
  async #primary(volumes: readonly number[], force: boolean): Promise<void> {
    const started = performance.now();
    const fresh = volumes.filter((volume) => !this.#devices.has(volume));
    let promoted = started;
    try {
      await this.#resource.onVolumes({ verb: "primary", ...(force ? { force: true } : {}) }, volumes);
      promoted = performance.now();
      await this.#devices.attach(volumes);
    } catch (error) {
      // Primary without a device helps nobody and keeps the other node from becoming it
      await this.#devices.detach(fresh).catch(() => {});
      for (const volume of fresh) await this.#resource.onVolumes({ verb: "secondary" }, [volume]).catch(() => {});
      throw error;
    }
    const ms = (from: number, to: number): number => Math.round(to - from);
    this.#log.info(
      { event: "primary", promoteMs: ms(started, promoted), attachMs: ms(promoted, performance.now()) },
      `Primary after ${ms(started, promoted)} ms, device after ${ms(started, performance.now())} ms`,
    );
  }

  async #secondary(volumes: readonly number[]): Promise<void> {
    await this.#devices.detach(volumes);
    await this.#resource.onVolumes({ verb: "secondary" }, volumes);
    this.#log.info({ event: "secondary" }, "Secondary");
  }

  async #down(): Promise<void> {
    await this.#devices.detach(this.#volumes({}));
    await this.#resource.down();
    await this.#verifying?.stop();
    removePidFile(blockrepPidFile(this.#resource.name));
    this.#log.info({ event: "daemon.stop" }, "down");
    // the answer to the request must leave before the socket closes
    setImmediate(() => {
      void this.#control.close().then(this.#options.onDown, this.#options.onDown);
    });
  }

  async #wait(params: Params, signal: AbortSignal): Promise<void> {
    const reached = params["for"] === "synced" ? Resource.isInSync : Resource.isConnected;
    // after a split brain nothing is to be waited for, unless somebody says that an administrator will mend it
    const holds: typeof reached =
      params["endStandAlone"] === true ? (s) => reached(s) || connName(s.conn) === "StandAlone" : reached;
    const timeoutMs = params["timeoutMs"];
    await this.#resource.waitUntil(holds, { signal, ...(typeof timeoutMs === "number" ? { timeoutMs } : {}) });
  }

  #status(): ControlValue {
    return { ...this.#resource.status(), pid: process.pid, start: { ...this.#facts } } as unknown as ControlValue;
  }

  /** The state as it is in the middle of an input: each step of a change is an event of its own. */
  #publishObjects(): void {
    if (!this.#control.hasSubscribers(OBJECTS_TOPIC)) return;
    this.#control.publish("objects", { atMs: now(), status: this.#status() }, OBJECTS_TOPIC);
  }

  #onHandler(helper: string, volume: number, exitCode: number | undefined): void {
    const data = { atMs: now(), helper, volume, status: exitCode ?? null };
    this.#control.publish("helper", data, OBJECTS_TOPIC);
  }

  #onEvent(event: EngineEvent): void {
    this.#control.publish(event.type, null);
    if (event.type === "state") this.#publishObjects();
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
      case "verify-start":
        this.#log.info(data, `verify as ${event.role} from sector ${event.startSector}: ${event.blocks * 4} KiB`);
        break;
      case "verify-out-of-sync":
        this.#log.error(data, `out of sync: ${event.sectors} sectors at ${event.sector}`);
        break;
      case "verify-end":
        this.#log[event.outOfSyncBlocks > 0 ? "error" : "info"](
          data,
          `verify ${event.done ? "done" : "interrupted"}: ${event.outOfSyncBlocks} blocks of 4 KiB out of sync, ${event.ms} ms`,
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

/** Milliseconds since 1970, with what the clock has of their fractions. */
function now(): number {
  return performance.timeOrigin + performance.now();
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
