import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { Prng } from "@hacluster/blockrep/base";
import type { HeartbeatConfig } from "../config/model.ts";
import { clusterConfigOf, stonithDeviceOf } from "../core/cluster-config.ts";
import { ClusterEngine } from "../core/engine.ts";
import type {
  ClusterCommand,
  ClusterEvent,
  ClusterSink,
  ClusterStatus,
  CommandResult,
  DrbdFacts,
  Identity,
  ScriptJob,
} from "../core/ports.ts";
import type { FenceDevice } from "../drivers/fencing/device.ts";
import { openFenceDevice } from "../drivers/fencing/open-device.ts";
import { inflate } from "../drivers/inflate.ts";
import type { Journal } from "../drivers/journal.ts";
import { type MediaReport, MediaSet } from "../drivers/media.ts";
import { PingSet } from "../drivers/ping.ts";
import type { ResourceRunner } from "../drivers/resource-runner.ts";
import type { ActionResult } from "../drivers/resources/resource.ts";
import { decodeDatagram, encodeMessage } from "../wire/codec.ts";
import { type HaMessage, MessageType } from "../wire/message.ts";

export interface ClusterNodeOptions {
  readonly config: HeartbeatConfig;
  readonly identity: Identity;
  readonly runner: ResourceRunner;
  onEvent(event: ClusterEvent): void;
  onMediaReport(report: MediaReport): void;
  /** What a script said. */
  onScriptOutput(job: ScriptJob, result: ActionResult): void;
  /** warntime has passed: let blockrep ping its peer at once. */
  pingPeerNow(resource: string): void;
  /** Make our copy of a replicated resource Outdated; the exit code of a fence-peer handler. */
  outdate(resource: string): Promise<number>;
  /** Where to remember what runs, for the next life of the daemon. */
  readonly journal?: Journal;
  /** Everything is released; start another node with a new generation after the delay. */
  onRestart(reason: string, delayMs: number): void;
  onExit(reason: string): void;
}

/** Longest sleep between two ticks. */
const TICK_MAX_MS = 250;
/** Refused datagrams are counted; one in this many is logged, so that a stranger cannot fill the disk. */
const REFUSAL_LOG_EVERY = 1000;
/** @see Heartbeat 3.0.6: it looks at its STONITH device every hour */
const FENCE_CHECK_MS = 3_600_000;

/**
 * One node of the cluster on the real machine: drives the engine with links, scripts and the clock. Inputs are never
 * nested.
 */
export class ClusterNode implements ClusterSink {
  readonly engine: ClusterEngine;
  readonly #options: ClusterNodeOptions;
  readonly #commands = new Map<number, (result: CommandResult) => void>();
  #media: MediaSet | undefined;
  #pending: (() => void)[] = [];
  #running = false;
  #stopped = false;
  readonly #scripts = new Map<number, AbortController>();
  #nextCommand = 1;
  #timer: NodeJS.Timeout | undefined;
  #refused = 0;
  readonly #fence: FenceDevice | undefined;
  readonly #ping: PingSet;
  #fenceCheck: NodeJS.Timeout | undefined;
  /** The state of a group has changed since the journal was written. */
  #journalStale = true;

  constructor(options: ClusterNodeOptions) {
    this.#options = options;
    const clock = { unixSeconds: () => Math.floor(Date.now() / 1000), loadAverage };
    this.engine = new ClusterEngine(
      clusterConfigOf(options.config, options.identity.node),
      options.identity,
      this,
      new Prng(randomInt(2 ** 47)),
      clock,
      performance.now(),
    );
    const { haCf, hacluster } = options.config;
    const device = stonithDeviceOf(haCf, options.identity.node);
    const resetMs = hacluster?.fenceTimeoutMs;
    this.#fence =
      device === undefined ? undefined : openFenceDevice(device, { limits: resetMs === undefined ? {} : { resetMs } });
    this.#ping = new PingSet(haCf.pingNodes, {
      intervalMs: haCf.keepaliveMs,
      deadpingMs: haCf.deadpingMs,
      onReply: (name) => this.#input((now) => this.engine.pingHeard(name, now)),
      onTrouble: (host, reason) =>
        options.onEvent({
          name: "ping.status",
          level: "warn",
          text: `ping node ${host} cannot be asked: ${reason}`,
          details: { node: host },
        }),
    });
  }

  async start(): Promise<void> {
    this.#media = await MediaSet.open(this.#options.config.haCf.media, {
      datagram: (link, bytes) => this.#received(link, bytes),
      report: (report) => this.#mediaReport(report),
    });
    this.#input((now) => this.engine.start(now));
    this.#ping.start();
    if (this.#fence !== undefined) {
      void this.#checkFence(this.#fence);
      this.#fenceCheck = setInterval(() => void this.#checkFence(this.#fence), FENCE_CHECK_MS);
    }
  }

  /** A device that does not work is better known before it is needed. */
  async #checkFence(device: FenceDevice | undefined): Promise<void> {
    if (device === undefined) return;
    const trouble = await device.check();
    if (this.#stopped) return;
    this.#options.onEvent({
      name: "fence.check",
      level: trouble === undefined ? "info" : "error",
      text:
        trouble === undefined
          ? `STONITH device ${device.name} is well`
          : `STONITH device ${device.name} does not work, a dead node could not be taken over from: ${trouble}`,
      details: { device: device.name, ok: trouble === undefined },
    });
  }

  command(command: ClusterCommand): Promise<CommandResult> {
    return new Promise((resolve) => {
      const id = this.#nextCommand++;
      this.#commands.set(id, resolve);
      this.#input((now) => this.engine.command(id, command, now));
    });
  }

  drbdStatus(resource: string, facts: DrbdFacts | undefined): void {
    this.#input((now) => this.engine.drbdStatus(resource, facts, now));
  }

  status(): ClusterStatus {
    const status = this.engine.status(performance.now());
    if (status.fencing === undefined || this.#fence === undefined) return status;
    return { ...status, fencing: { ...status.fencing, device: this.#fence.name } };
  }

  /** Datagrams that were refused since the start. */
  get refused(): number {
    return this.#refused;
  }

  /** No more input, no more packets. Releases nothing: that is what the `stop` command is for. */
  async close(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearInterval(this.#fenceCheck);
    this.#ping.close();
    this.#media?.close();
    await Promise.resolve();
  }

  // ------------------------------------------------------------------------------------------------------- sink

  send(message: HaMessage): void {
    if (this.#stopped) return;
    const { authkeys, haCf } = this.#options.config;
    if (message.type === MessageType.status) this.#options.journal?.alive();
    this.#media?.send(encodeMessage(message, authkeys, haCf.msgfmt));
  }

  runScript(id: number, job: ScriptJob): void {
    const { script, args } = job.resource;
    const abort = new AbortController();
    this.#scripts.set(id, abort);
    this.#options.runner
      .run({ script, args }, job.action, abort.signal)
      .finally(() => this.#scripts.delete(id))
      .then((result) => {
        // the engine goes by Heartbeat's rule, the text; for agents with an exit code the runner has decided already
        const output = result.running === undefined ? result.output : result.running ? "running" : "stopped";
        this.#options.onScriptOutput(job, result);
        this.#input((now) => this.engine.scriptDone(id, { exitCode: result.exitCode, output }, now));
      })
      .catch((error: unknown) => {
        this.#input((now) => this.engine.scriptDone(id, { exitCode: 1, output: String(error) }, now));
      });
  }

  abortScript(id: number): void {
    this.#scripts.get(id)?.abort();
  }

  fence(id: number, node: string): void {
    const device = this.#fence;
    if (device === undefined) return; // the engine asks only where a device is configured
    if (device.name === "meatware") {
      this.#options.onEvent({
        name: "fence.needed",
        level: "crit",
        text: `OPERATOR INTERVENTION REQUIRED: make sure that ${node} is off, then run "hacluster fence-confirm ${node}" here; nothing is taken over before`,
        details: { node, device: device.name },
      });
    }
    void device
      .reset(node)
      .then(({ result, text }) => this.#input((now) => this.engine.fenceDone(id, result, text, now)));
  }

  event(event: ClusterEvent): void {
    if (event.name === "group.state") this.#journalStale = true;
    this.#options.onEvent(event);
    // switches and neighbours may have learnt the other node's word for our addresses meanwhile
    if (event.name === "partition.healed" || (event.name === "link.status" && event.details["up"] === true)) {
      this.#options.runner.announceAll();
      void this.#options.runner.checkConflicts();
    }
  }

  outdate(id: number, resource: string): void {
    const done = (exitCode: number): void => this.#input((now) => this.engine.outdateDone(id, exitCode, now));
    this.#options.outdate(resource).then(done, () => done(1));
  }

  pingPeerNow(resource: string): void {
    this.#options.pingPeerNow(resource);
  }

  commandDone(id: number, result: CommandResult): void {
    const resolve = this.#commands.get(id);
    this.#commands.delete(id);
    resolve?.(result);
  }

  restart(reason: string, delayMs: number): void {
    this.#options.onRestart(reason, delayMs);
  }

  exit(reason: string): void {
    this.#options.onExit(reason);
  }

  // ------------------------------------------------------------------------------------------------------ inputs

  #received(link: string, datagram: Uint8Array): void {
    const decoded = decodeDatagram(datagram, this.#options.config.authkeys, { inflate });
    if ("refusal" in decoded) {
      if (this.#refused++ % REFUSAL_LOG_EVERY === 0) {
        this.#options.onEvent({
          name: "message.refused",
          level: "warn",
          text: `datagram on ${link} refused: ${decoded.refusal.detail} (${this.#refused} so far)`,
          details: { link, code: decoded.refusal.code, count: this.#refused },
        });
      }
      return;
    }
    this.#input((now) => this.engine.received(link, decoded.message, now));
  }

  #mediaReport(report: MediaReport): void {
    const { link } = report;
    switch (report.kind) {
      case "open":
        this.#input((now) => this.engine.mediumUp(link, now));
        break;
      case "waiting":
      case "unsupported":
        this.#input((now) => this.engine.mediumDown(link, now));
        break;
      case "send-failed":
        this.#input((now) => this.engine.sendError(link, report.reason, now));
        break;
      case "send-recovered":
        break;
    }
    this.#options.onMediaReport(report);
  }

  #input(input: (nowMs: number) => void): void {
    if (this.#stopped) return;
    if (this.#running) {
      this.#pending.push(() => input(performance.now()));
      return;
    }
    this.#running = true;
    try {
      input(performance.now());
      while (this.#pending.length > 0) {
        const pending = this.#pending;
        this.#pending = [];
        for (const next of pending) next();
      }
    } finally {
      this.#running = false;
    }
    if (this.#journalStale) this.#record();
    this.#schedule();
  }

  /** Write down what runs, or may. */
  #record(): void {
    this.#journalStale = false;
    const { journal, identity, config } = this.#options;
    const groups = this.engine
      .status(performance.now())
      .groups.filter((group) => group.state !== "stopped" && group.state !== "failed");
    journal?.record({
      node: identity.node,
      generation: identity.generation,
      deadtimeMs: config.haCf.deadtimeMs,
      groups: groups.map((group) => group.key),
    });
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    const sleepMs = Math.min(TICK_MAX_MS, Math.max(0, this.engine.nextDeadline() - performance.now()));
    this.#timer = setTimeout(() => this.#input((now) => this.engine.tick(now)), Math.ceil(sleepMs));
  }
}

function loadAverage(): string {
  try {
    return readFileSync("/proc/loadavg", "latin1").trim();
  } catch {
    return "n/a";
  }
}
