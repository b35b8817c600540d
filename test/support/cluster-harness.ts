import { Prng } from "@hacluster/blockrep/base";
import { ClusterEngine } from "@hacluster/heartbeat/unstable/core/engine";
import type {
  ClusterConfig,
  ClusterEvent,
  CommandResult,
  ScriptAction,
  ScriptJob,
  ServiceGroup,
} from "@hacluster/heartbeat/unstable/core/ports";
import { type HaField, HaMessage } from "@hacluster/heartbeat/unstable/wire/message";

export function serviceGroup(node: string, ...texts: string[]): ServiceGroup {
  const resources = texts.map((text) => {
    const [script, ...args] = text.split("::");
    return { text, script: script as string, args };
  });
  return { key: texts[0] as string, node, resources };
}

export const CONFIG: ClusterConfig = {
  nodes: ["nodo1", "nodo2"],
  keepaliveMs: 500,
  deadtimeMs: 3000,
  warntimeMs: 2000,
  initdeadMs: 10_000,
  maxRexmitDelayMs: 250,
  hopfudge: 1,
  autoFailback: "on",
  links: ["eth0"],
  groups: [serviceGroup("nodo1", "IPaddr2::192.168.0.29", "dummy::A"), serviceGroup("nodo2", "dummy::C", "dummy::D")],
  fencing: false,
  pingNodes: [],
  deadpingMs: 3000,
  ipfail: false,
  scriptTimeoutMs: 5000,
  stopRetries: 10,
};

/** What a script of a test does: exit code and output, or nothing at all for one that hangs. */
export type ScriptBehaviour = (job: ScriptJob) => { exitCode: number; output: string } | undefined;

/** One engine on a virtual clock, with resources that start and stop; everything it does is recorded. */
export class Harness {
  readonly engine: ClusterEngine;
  readonly sent: HaMessage[] = [];
  readonly events: ClusterEvent[] = [];
  readonly scripts: string[] = [];
  readonly running = new Set<string>();
  readonly aborted: number[] = [];
  readonly outdates: string[] = [];
  readonly fences: number[] = [];
  readonly pings: string[] = [];
  readonly results = new Map<number, CommandResult>();
  restart: { reason: string; delayMs: number } | undefined;
  exit: string | undefined;
  nowMs = 0;
  behaviour: (action: ScriptAction, resource: string) => "well" | "fails" | "hangs" = () => "well";
  scriptMs = 10;
  /** Ping nodes that answer this node. */
  readonly answering = new Set<string>();
  readonly #pending: { at: number; run: () => void }[] = [];
  #seq = 0;

  constructor(node: string, overrides: Partial<ClusterConfig> = {}, journal: readonly string[] = []) {
    const config = { ...CONFIG, ...overrides };
    this.engine = new ClusterEngine(
      config,
      { node, uuid: new Uint8Array(16).fill(node === "nodo1" ? 1 : 2), generation: 100, journal },
      {
        send: (message) => this.sent.push(message),
        runScript: (id, job) => this.#run(id, job),
        abortScript: (id) => this.aborted.push(id),
        fence: (id) => this.fences.push(id),
        event: (event) => this.events.push(event),
        outdate: (id, resource) => this.outdates.push(`${id} ${resource}`),
        pingPeerNow: (resource) => this.pings.push(resource),
        commandDone: (id, result) => this.results.set(id, result),
        restart: (reason, delayMs) => {
          this.restart = { reason, delayMs };
        },
        exit: (reason) => {
          this.exit = reason;
        },
      },
      new Prng(1),
      { unixSeconds: () => 1_700_000_000, loadAverage: () => "0.00 0.00 0.00 1/1 1" },
      0,
    );
  }

  start(): void {
    this.engine.start(this.nowMs);
  }

  /** Let time pass in steps of `stepMs`. */
  advance(durationMs: number, stepMs = 50): void {
    const until = this.nowMs + durationMs;
    while (this.nowMs < until) {
      this.nowMs = Math.min(until, this.nowMs + stepMs);
      this.#due();
      for (const name of this.answering) this.engine.pingHeard(name, this.nowMs);
      this.engine.tick(this.nowMs);
    }
  }

  /** A message of the other node, with the common fields of generation `hg`; numbers go up by themselves. */
  peer(t: string, own: Record<string, string> = {}, options: { hg?: string; seq?: number; src?: string } = {}): void {
    const seq = options.seq ?? this.#seq + 1;
    if (!t.startsWith("NS_")) this.#seq = Math.max(this.#seq, seq);
    const common: Record<string, string> = {
      src: options.src ?? "nodo2",
      hg: options.hg ?? "7",
      ts: "65000000",
      ttl: "3",
    };
    if (!t.startsWith("NS_")) common["seq"] = seq.toString(16);
    this.feed(HaMessage.of(t, { ...own, ...common }));
  }

  feed(message: HaMessage, link = "eth0"): void {
    this.engine.received(link, message, this.nowMs);
  }

  /** The peer is alive for a while: a status each half second. */
  alive(durationMs: number, st = "active", own: Record<string, string> = {}): void {
    const until = this.nowMs + durationMs;
    while (this.nowMs < until) {
      this.peer("status", { st, dt: "bb8", protocol: "1", ...own });
      this.advance(Math.min(500, until - this.nowMs));
    }
  }

  /** Messages sent since the last call, as `t field=value …`; statuses and NS_ messages left out unless asked for. */
  take(all = false): string[] {
    return this.sent
      .splice(0)
      .filter((message) => all || !(message.type === "status" || message.type.startsWith("NS_")))
      .map(brief);
  }

  level(name: string): readonly ClusterEvent[] {
    return this.events.filter((event) => event.name === name);
  }

  #due(): void {
    for (;;) {
      const index = this.#pending.findIndex((each) => each.at <= this.nowMs);
      if (index < 0) return;
      const [due] = this.#pending.splice(index, 1);
      due?.run();
    }
  }

  #run(id: number, job: ScriptJob): void {
    const name = job.resource.text;
    this.scripts.push(`${name} ${job.action}`);
    const mood = this.behaviour(job.action, name);
    if (mood === "hangs") return;
    this.#pending.push({
      at: this.nowMs + this.scriptMs,
      run: () => {
        if (job.action === "start" && mood === "well") this.running.add(name);
        if (job.action === "stop" && mood === "well") this.running.delete(name);
        const output = job.action === "status" ? (this.running.has(name) ? "running" : "stopped") : "";
        this.engine.scriptDone(id, { exitCode: mood === "well" ? 0 : 1, output }, this.nowMs);
      },
    });
  }
}

const COMMON = new Set(["t", "src", "srcuuid", "seq", "hg", "ts", "ld", "ttl", "hacluster", "hcstate", "destuuid"]);

export function brief(message: HaMessage): string {
  const own = message.fields
    .filter((field: HaField) => !COMMON.has(field.name) && field.type === 0)
    .map((field: HaField) => `${field.name}=${typeof field.value === "string" ? field.value : "(nested)"}`);
  return [message.type, ...own].join(" ");
}
