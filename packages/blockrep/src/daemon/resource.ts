import { spawn } from "node:child_process";
import { EventEmitter } from "node:events";
import { ErrorCode, HaError } from "../base/errors.ts";
import type { AdminCommand, EngineEvent, EngineOptions, ResourceSnapshot, VolumeSnapshot } from "../core/ports.ts";
import { type PeerAddress, PeerSockets } from "../drivers/peer-sockets.ts";
import { formatGi, formatShowGi } from "../meta/gi.ts";
import { NbdServer } from "../nbd/server.ts";
import { ConnState, connName, DiskState, diskName, Role, roleName } from "../wire/state-word.ts";
import { type Adjustment, compareSettings, withLiveSettings } from "./adjust.ts";
import { EngineBackend } from "./engine-backend.ts";
import { type CommandOutcome, EngineHost } from "./engine-host.ts";
import { openVolumeDisk } from "./volume-disk.ts";

export interface VolumeSettings {
  readonly volume: number;
  readonly minor: number;
  /** Backing file or block device. */
  readonly disk: string;
  /** File or device of the metadata; undefined: internal, at the end of `disk`. */
  readonly metaDisk?: string;
  /** Where the attached device appears, `/dev/drbd0`; undefined: it is not attached. */
  readonly device?: string;
}

export interface ResourceSettings {
  readonly engine: EngineOptions;
  readonly local: PeerAddress;
  readonly peer: PeerAddress;
  readonly volumes: readonly VolumeSettings[];
  /** Shell commands by handler name. They run as the user of this process. */
  readonly handlers: Readonly<Record<string, string>>;
  /** False where commands of the configuration must not run (a node that cannot contain them). */
  readonly runHandlers: boolean;
}

/** One volume as `status`, the monitor and the metrics show it. */
export interface VolumeStatus {
  readonly volume: number;
  readonly minor: number;
  readonly device: string | null;
  readonly role: string;
  readonly peerRole: string;
  /** The connection's state, or that of the volume's own resync. */
  readonly connection: string;
  readonly disk: string;
  readonly peerDisk: string;
  readonly sizeBytes: number;
  readonly outOfSyncBytes: number;
  /** While a resync runs. */
  readonly resync: { readonly doneBytes: number; readonly totalBytes: number; readonly elapsedMs: number } | null;
  /** Copied by resyncs since the process started; what the last one copied. */
  readonly resyncedBytes: number;
  readonly uuids: {
    readonly current: string;
    readonly bitmap: string;
    readonly history: readonly [string, string];
  };
  readonly counters: VolumeCounters;
}

/** What one volume has done since the process started, and what it has in hand now; those of DRBD's status formats. */
export interface VolumeCounters {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly writtenBytes: number;
  readonly readBytes: number;
  readonly activityLogWrites: number;
  readonly bitmapWrites: number;
  /** Requests at the backing disk. */
  readonly localPending: number;
  /** Requests that the peer has to answer. */
  readonly peerPending: number;
  /** Requests of the peer that have to be answered. */
  readonly unacked: number;
  /** Requests of the application that are not complete. */
  readonly applicationPending: number;
  readonly epochs: number;
  /** Programs that have the exported device open (NBD connections). */
  readonly openers: number;
}

export interface ResourceStatus {
  readonly name: string;
  /** Primary where one of the volumes is. */
  readonly role: string;
  readonly peerRole: string;
  readonly connection: string;
  readonly protocol: "A" | "B" | "C";
  /** 0 while not connected. */
  readonly agreedVersion: number;
  /** Application I/O is held, for whatever reason. */
  readonly suspended: boolean;
  readonly suspendedBy: ResourceSnapshot["suspended"];
  /** Who holds the resync. */
  readonly pausedBy: ResourceSnapshot["pause"];
  readonly writeOrdering: "b" | "f" | "d" | "n";
  readonly volumes: readonly VolumeStatus[];
}

export interface ResourceEvents {
  /** Anything the engine reports: state changes, resync, split brain, disk errors. */
  event: [event: EngineEvent];
  /** A handler of the configuration is called; then, with its exit code, that it has returned. */
  handler: [name: string, volume: number, exitCode: number | undefined];
  /** Something an operator should read. */
  note: [level: "info" | "warn" | "error", text: string];
}

const HANDLER_LIMIT_MS = 120_000;
const ZERO_STATE_TEXT = "State change failed";

/**
 * One replicated resource on this machine: the engine, its disks, its connection to the peer.
 * What the library exports; the daemon adds a control socket and the device under /dev.
 *
 * @example
 * const resource = new Resource(settings);
 * await resource.up();
 * await resource.primary();
 */
export class Resource extends EventEmitter<ResourceEvents> {
  #settings: ResourceSettings;
  readonly host: EngineHost;
  readonly #resynced = new Map<number, number>();
  #closed = false;

  constructor(settings: ResourceSettings) {
    super();
    this.#settings = settings;
    this.host = new EngineHost(settings.engine, {
      openDisk: (volume) => openVolumeDisk(this.#volume(volume)),
      peerSockets: (events) =>
        new PeerSockets(
          {
            local: settings.local,
            peer: settings.peer,
            dialTimeoutMs: settings.engine.net.connectIntMs,
            onTrouble: (text) => this.emit("note", "warn", text),
          },
          events,
        ),
      runHandler: (name, env) => this.#callHandler(name, env),
      onEvent: (event) => this.#onEvent(event),
      onThrottle: () => {
        // the number of NBD clients and their requests in flight are bounded by the server already
      },
    });
  }

  /** As configured, or as last adjusted. */
  get settings(): ResourceSettings {
    return this.#settings;
  }

  /**
   * Take over what may change while the resource is up, and tell which of the changes count from when.
   * What needs `down` and `up` stays as it was.
   */
  adjust(settings: ResourceSettings): Adjustment {
    const adjustment = compareSettings(this.#settings, settings);
    this.#settings = withLiveSettings(this.#settings, settings);
    this.host.reconfigure(this.#settings.engine);
    return adjustment;
  }

  get name(): string {
    return this.settings.engine.resource;
  }

  /** Attach the disks and start to connect. @throws HaError HA_STATE_REFUSED or what the disk said */
  async up(): Promise<void> {
    await this.onVolumes({ verb: "attach" });
    await this.command({ verb: "connect" });
  }

  async primary(options: { force?: boolean } = {}): Promise<void> {
    await this.onVolumes({ verb: "primary", ...(options.force === true ? { force: true } : {}) });
  }

  async secondary(): Promise<void> {
    await this.onVolumes({ verb: "secondary" });
  }

  /**
   * Run a command on each of the volumes, one after the other, as drbdadm does for the minors of a resource.
   * @param volumes numbers; left out: all of the resource
   * @throws HaError HA_STATE_REFUSED of the first volume that refuses; those before it have changed
   */
  async onVolumes(request: AdminCommand, volumes?: readonly number[]): Promise<void> {
    for (const volume of volumes ?? this.settings.volumes.map((v) => v.volume)) {
      await this.command({ ...request, volume });
    }
  }

  /** Run an administrator's command. @throws HaError HA_STATE_REFUSED with DRBD's number and words */
  async command(request: AdminCommand): Promise<CommandOutcome> {
    const outcome = await this.host.command(request);
    // 1..99 are successes of state changes; 101 is "no error" of the configuration commands
    if (outcome.code >= 1 && outcome.code <= 101) return outcome;
    const text = outcome.text === "" ? `${ZERO_STATE_TEXT}: (${outcome.code})` : outcome.text;
    throw new HaError(ErrorCode.stateRefused, `${this.name}: ${request.verb}: ${text}`, {
      resource: this.name,
      verb: request.verb,
      code: outcome.code,
      text,
      ...(request.volume === undefined ? {} : { volume: request.volume }),
    });
  }

  /** The volume as a block device for whoever is in this process. */
  backend(volume = 0): EngineBackend {
    return new EngineBackend(this.host, volume);
  }

  /** The generation identifiers of an attached volume: get-gi and show-gi. */
  generations(volume = 0): { readonly get: string; readonly show: string } {
    const v = this.host.snapshot().volumes.find((s) => s.volume === volume);
    if (v === undefined) throw new HaError(ErrorCode.configInvalid, `${this.name} has no volume ${volume}`);
    const { current, bitmap, history } = v.uuids;
    const uuids = { current, bitmap, history0: history[0], history1: history[1] };
    const facts = { uuids, flags: v.metadataFlags, clean: undefined, laSizeSectors: v.sizeSectors };
    return { get: formatGi(facts), show: formatShowGi({ ...facts, laPeerMaxBioSize: 0 }) };
  }

  /** What NBD clients call a volume: the resource's name, with the volume's number where there are several. */
  exportName(volume = 0): string {
    return this.settings.volumes.length > 1 ? `${this.name}/${volume}` : this.name;
  }

  /** Serve the volume to NBD clients on a Unix socket. Only a Primary has requests to answer. */
  serve(path: string, volume = 0): Promise<NbdServer> {
    return NbdServer.listen({
      path,
      exports: [
        {
          name: this.exportName(volume),
          backend: this.backend(volume),
          description: `blockrep ${this.name}/${volume}`,
        },
      ],
      onConnectionsChanged: (count) => this.host.deviceOpeners(volume, count),
      onRefused: (reason) => this.emit("note", "warn", `NBD client refused: ${reason}`),
    });
  }

  snapshot(): ResourceSnapshot {
    return this.host.snapshot();
  }

  status(): ResourceStatus {
    const s = this.host.snapshot();
    return {
      name: this.name,
      role: roleName(highest(s.volumes.map((v) => v.role)) ?? s.role),
      peerRole: roleName(highest(s.volumes.map((v) => v.peerRole)) ?? s.peerRole),
      connection: connName(s.conn),
      protocol: s.protocol,
      agreedVersion: s.agreedVersion,
      suspended: s.suspended.user || s.suspended.noData || s.suspended.fencing,
      suspendedBy: { ...s.suspended },
      pausedBy: { ...s.pause },
      writeOrdering: s.writeOrdering,
      volumes: s.volumes.map((v) => ({
        volume: v.volume,
        minor: v.minor,
        device: this.#volume(v.volume).device ?? null,
        role: roleName(v.role),
        peerRole: roleName(v.peerRole),
        connection: connName(v.conn),
        disk: diskName(v.disk),
        peerDisk: diskName(v.peerDisk),
        sizeBytes: v.sizeSectors * 512,
        // the bitmap belongs to the disk
        outOfSyncBytes: v.disk === DiskState.Diskless ? 0 : v.outOfSyncBlocks * 4096,
        resync:
          v.resync === undefined
            ? null
            : {
                doneBytes: (v.resync.totalBlocks - v.resync.leftBlocks) * 4096,
                totalBytes: v.resync.totalBlocks * 4096,
                elapsedMs: Math.round(v.resync.elapsedMs),
              },
        resyncedBytes: (this.#resynced.get(v.volume) ?? 0) * 4096,
        uuids: {
          current: hex(v.uuids.current),
          bitmap: hex(v.uuids.bitmap),
          history: [hex(v.uuids.history[0]), hex(v.uuids.history[1])],
        },
        counters: countersOf(v),
      })),
    };
  }

  /**
   * Resolves when the predicate holds, at the latest when an event changes the state.
   * @throws HaError HA_TIMEOUT, HA_ABORTED
   */
  waitUntil(
    holds: (s: ResourceSnapshot) => boolean,
    options: { timeoutMs?: number; signal?: AbortSignal } = {},
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const { timeoutMs, signal } = options;
      let timer: NodeJS.Timeout | undefined;
      const finish = (error?: HaError): void => {
        clearTimeout(timer);
        this.off("event", check);
        signal?.removeEventListener("abort", aborted);
        if (error === undefined) resolve();
        else reject(error);
      };
      // the event comes in the middle of an input; the snapshot is only whole behind it
      const check = (): void => {
        setImmediate(() => {
          if (holds(this.host.snapshot())) finish();
        });
      };
      const aborted = (): void => finish(new HaError(ErrorCode.aborted, `${this.name}: waiting was given up`));
      if (holds(this.host.snapshot())) {
        resolve();
        return;
      }
      if (signal?.aborted === true) {
        aborted();
        return;
      }
      this.on("event", check);
      signal?.addEventListener("abort", aborted);
      if (timeoutMs !== undefined) {
        timer = setTimeout(
          () => finish(new HaError(ErrorCode.timeout, `${this.name}: waited ${timeoutMs} ms`)),
          timeoutMs,
        );
      }
    });
  }

  /** Connected, and the handshake is over. */
  static readonly isConnected = (s: ResourceSnapshot): boolean => s.conn >= ConnState.Connected;

  /** Connected, both disks UpToDate, nothing left to copy. */
  static readonly isInSync = (s: ResourceSnapshot): boolean =>
    s.conn >= ConnState.Connected &&
    s.volumes.every((v) => v.disk === DiskState.UpToDate && v.peerDisk === DiskState.UpToDate);

  static readonly isPrimary = (s: ResourceSnapshot): boolean => s.role === Role.Primary;

  /** Leave the peer, write clean metadata, give the disks back. The object is of no more use. */
  async down(): Promise<void> {
    if (this.#closed) return;
    await this.secondary();
    await this.command({ verb: "disconnect" });
    await this.onVolumes({ verb: "detach" });
    await this.close();
  }

  /** End at once, as a killed process would, except that descriptors are closed in order. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.host.stop();
    this.removeAllListeners();
  }

  #volume(volume: number): VolumeSettings {
    const found = this.settings.volumes.find((v) => v.volume === volume);
    if (found === undefined) throw new HaError(ErrorCode.configInvalid, `${this.name} has no volume ${volume}`);
    return found;
  }

  #onEvent(event: EngineEvent): void {
    if (event.type === "resync-end" && event.done) {
      this.#resynced.set(event.volume, (this.#resynced.get(event.volume) ?? 0) + event.blocks);
    }
    this.emit("event", event);
  }

  async #callHandler(name: string, env: Readonly<Record<string, string>>): Promise<number> {
    const volume = Number(env["DRBD_VOLUME"] ?? 0);
    this.emit("handler", name, volume, undefined);
    const exitCode = await this.#runHandler(name, env);
    this.emit("handler", name, volume, exitCode);
    return exitCode;
  }

  #runHandler(name: string, env: Readonly<Record<string, string>>): Promise<number> {
    const command = this.settings.handlers[name];
    if (command === undefined) return Promise.resolve(0);
    if (!this.settings.runHandlers) {
      this.emit("note", "error", `handler ${name} is not run: this process was told to run no handlers`);
      return Promise.resolve(127);
    }
    return new Promise((resolve) => {
      this.emit("note", "warn", `running handler ${name}: ${command}`);
      const child = spawn("/bin/sh", ["-c", command], {
        env: { HOME: "/", TERM: "linux", PATH: "/sbin:/usr/sbin:/bin:/usr/bin", ...env },
        stdio: "ignore",
        timeout: HANDLER_LIMIT_MS,
      });
      child.on("error", () => resolve(127));
      child.on("exit", (code) => resolve(code ?? 137));
    });
  }
}

/** Primary where one of them is. */
function highest(roles: readonly Role[]): Role | undefined {
  return roles.includes(Role.Primary) ? Role.Primary : roles[0];
}

function countersOf(v: VolumeSnapshot): VolumeCounters {
  return {
    sentBytes: v.netSentSectors * 512,
    receivedBytes: v.netReceivedSectors * 512,
    writtenBytes: v.diskWrittenSectors * 512,
    readBytes: v.diskReadSectors * 512,
    activityLogWrites: v.alWrites,
    bitmapWrites: v.bitmapWrites,
    localPending: v.localPending,
    peerPending: v.peerPending,
    unacked: v.unacked,
    applicationPending: v.applicationPending,
    epochs: v.epochs,
    openers: v.openers,
  };
}

function hex(uuid: bigint): string {
  return uuid.toString(16).toUpperCase().padStart(16, "0");
}
