import { Prng } from "@hacluster/blockrep/base";
import { ClusterEngine } from "@hacluster/heartbeat/unstable/core/engine";
import type {
  ClusterCommand,
  ClusterEvent,
  ClusterSink,
  ScriptJob,
  ScriptResult,
} from "@hacluster/heartbeat/unstable/core/ports";
import type { HaMessage } from "@hacluster/heartbeat/unstable/wire/message";
import type { World } from "./world.ts";

/** Packets that a socket keeps for a process that does not read. */
const SOCKET_BUFFER = 100;

/** How the scripts of a resource behave just now. */
export type ScriptMood = "well" | "start-fails" | "stop-fails" | "hangs" | "slow" | "dies";

/** One machine: its daemon, its services, its scripts. Services outlive the daemon, nothing outlives the machine. */
export class SimNode {
  readonly name: string;
  readonly world: World;
  readonly running = new Map<string, boolean>();
  /** Services that ended by themselves and were not started since. */
  readonly died = new Set<string>();
  readonly moods = new Map<string, ScriptMood>();
  readonly #uuid: Uint8Array;
  readonly #clockOffsetMs: number;
  machineUp = false;
  pausedUntil = 0;
  generation = 1000;
  engine: ClusterEngine | undefined;
  /** Ended by a stop command, and not to be missed. */
  stopped = false;
  /** Since when its daemon runs, ms. */
  startedMs = 0;
  readonly #pauses: { readonly from: number; readonly until: number }[] = [];
  /** Newest packet that this daemon was given. */
  heardGeneration = 0;
  heardSeq = 0;
  #life = 0;
  #boot = 0;
  #commands = 0;
  #tickAt = Number.POSITIVE_INFINITY;
  #socket: { link: string; message: HaMessage }[] = [];

  constructor(world: World, name: string, prng: Prng) {
    this.world = world;
    this.name = name;
    this.#uuid = prng.bytes(16);
    this.#clockOffsetMs = prng.below(1_000_000);
  }

  get processUp(): boolean {
    return this.engine !== undefined;
  }

  get paused(): boolean {
    return this.world.nowMs < this.pausedUntil;
  }

  /** Alive for others: its daemon runs and is scheduled. */
  get speaks(): boolean {
    return this.processUp && !this.paused;
  }

  boot(): void {
    if (this.machineUp) return;
    this.machineUp = true;
    this.#boot++;
    this.world.log(this.name, "machine boots");
    this.startProcess();
  }

  crashMachine(why: string): void {
    if (!this.machineUp) return;
    this.world.log(this.name, `machine crashes: ${why}`);
    this.killProcess();
    this.machineUp = false;
    this.#boot++;
    this.pausedUntil = 0;
    for (const resource of this.running.keys()) this.running.set(resource, false);
    this.world.checker.servicesChanged(this, undefined);
  }

  killProcess(): void {
    this.engine = undefined;
    this.#life++;
    this.#socket = [];
  }

  startProcess(): void {
    if (!this.machineUp || this.processUp) return;
    this.generation++;
    this.#life++;
    this.stopped = false;
    this.startedMs = this.world.nowMs;
    this.heardGeneration = 0;
    this.heardSeq = 0;
    const { world } = this;
    this.engine = new ClusterEngine(
      world.configOf(this),
      { node: this.name, uuid: this.#uuid, generation: this.generation },
      this.#sink(this.#life),
      new Prng(world.prng.u32()),
      { unixSeconds: () => 1_700_000_000 + Math.floor(world.nowMs / 1000), loadAverage: () => "0.1" },
      this.clock(),
    );
    world.log(this.name, `daemon starts with generation ${this.generation}`);
    this.engine.start(this.clock());
    world.feedDrbd(this);
    this.scheduleTick();
  }

  clock(): number {
    return this.world.nowMs + this.#clockOffsetMs;
  }

  /** How long the daemon has been able to hear since a moment, ms. */
  listeningMs(sinceMs: number): number {
    const from = Math.max(sinceMs, this.startedMs);
    let listening = this.world.nowMs - from;
    let counted = from;
    for (const pause of this.#pauses) {
      const begin = Math.max(pause.from, counted);
      const end = Math.min(pause.until, this.world.nowMs);
      if (end > begin) listening -= end - begin;
      counted = Math.max(counted, end);
    }
    return listening;
  }

  command(command: ClusterCommand): void {
    if (!this.speaks) return;
    this.world.log(this.name, `command ${JSON.stringify(command)}`);
    this.engine?.command(++this.#commands, command, this.clock());
    this.scheduleTick();
  }

  pause(durationMs: number): void {
    this.pausedUntil = Math.max(this.pausedUntil, this.world.nowMs + durationMs);
    this.#pauses.push({ from: this.world.nowMs, until: this.pausedUntil });
    this.world.log(this.name, `process pauses for ${durationMs} ms`);
    this.world.after(durationMs, () => {
      if (this.paused || this.engine === undefined) return;
      this.world.log(this.name, "process goes on");
      if (this.world.prng.chance(1, 2)) this.engine.tick(this.clock());
      for (const { link, message } of this.#socket.splice(0)) this.engine?.received(link, message, this.clock());
      this.#tickAt = Number.POSITIVE_INFINITY;
      this.scheduleTick();
    });
  }

  receive(link: string, message: HaMessage): void {
    if (this.engine === undefined) return;
    if (this.paused) {
      if (this.#socket.length < SOCKET_BUFFER) this.#socket.push({ link, message });
      return;
    }
    const generation = message.hex("hg") ?? 0;
    if (generation >= this.heardGeneration) {
      this.heardSeq = generation > this.heardGeneration ? 0 : this.heardSeq;
      this.heardGeneration = generation;
      this.heardSeq = Math.max(this.heardSeq, message.hex("seq") ?? 0);
    }
    this.engine.received(link, message, this.clock());
    this.scheduleTick();
  }

  scheduleTick(): void {
    const engine = this.engine;
    if (engine === undefined) return;
    const { world } = this;
    const at = Math.min(
      Math.max(world.nowMs + 1, Math.ceil(engine.nextDeadline() - this.#clockOffsetMs)),
      world.nowMs + world.scenario.config.keepaliveMs / 2,
    );
    if (this.#tickAt > world.nowMs && this.#tickAt <= at) return;
    this.#tickAt = at;
    const life = this.#life;
    world.at(at, () => {
      if (life !== this.#life || this.#tickAt !== at || this.paused) return;
      this.#tickAt = Number.POSITIVE_INFINITY;
      this.engine?.tick(this.clock());
      this.scheduleTick();
    });
  }

  pingAnswers(): void {
    if (!this.processUp) return;
    const life = this.#life;
    this.#feed(() => {
      if (life !== this.#life) return;
      for (const name of this.world.scenario.config.pingNodes) this.engine?.pingHeard(name, this.clock());
    });
  }

  /** A service ends by itself; nobody is told. */
  serviceDies(resource: string): void {
    if (!this.isRunning(resource)) return;
    this.world.log(this.name, `${resource} dies`);
    this.world.faultNow();
    this.running.set(resource, false);
    this.died.add(resource);
  }

  isRunning(resource: string): boolean {
    return this.running.get(resource) === true;
  }

  #sink(life: number): ClusterSink {
    const { world } = this;
    const alive = (): boolean => life === this.#life;
    return {
      send: (message) => world.network.send(this, message),
      runScript: (id, job) => this.#script(id, job, life),
      abortScript: (id) => world.after(5, () => this.#answer(life, id, { exitCode: 137, output: "" })),
      fence: (id, node) =>
        world.fence(this, node, (ok) => {
          if (alive())
            this.#feed(() => this.engine?.fenceDone(id, ok ? "OK" : "bad", ok ? "reset" : "no answer", this.clock()));
        }),
      event: (event) => this.#event(event),
      outdate: () => undefined,
      pingPeerNow: () => undefined,
      commandDone: (id, result) => world.log(this.name, `command ${id} done: ${result.ok} ${result.text}`),
      restart: (reason, delayMs) => {
        world.log(this.name, `restart in ${delayMs} ms: ${reason}`);
        const boot = this.#boot;
        this.killProcess();
        if (world.options.mutation === "no-return") return;
        world.after(delayMs, () => {
          if (boot === this.#boot) this.startProcess();
        });
      },
      exit: (reason) => {
        world.log(this.name, `exit: ${reason}`);
        this.killProcess();
        this.stopped = true;
      },
    };
  }

  #event(event: ClusterEvent): void {
    if (event.level === "debug" && this.world.options.trace === undefined) return;
    // a failure that outlasts the bad mood is still of it
    // what failed on one node stays on the other, whatever that one sees
    if (event.name === "script.failed" || event.details["move"] === true)
      this.world.pingSettledMs = Number.POSITIVE_INFINITY;
    if (event.name === "script.failed" || event.name === "script.timeout") this.world.faultNow();
    this.world.log(this.name, `${event.level} ${event.name}: ${event.text}`);
  }

  /** Deliver an answer to the daemon, or when it is scheduled again. */
  #feed(input: () => void): void {
    const { world } = this;
    if (this.paused) {
      const life = this.#life;
      world.at(this.pausedUntil + 1, () => {
        if (life === this.#life) this.#feed(input);
      });
      return;
    }
    input();
    this.scheduleTick();
  }

  #answer(life: number, id: number, result: ScriptResult): void {
    if (life !== this.#life) return;
    this.#feed(() => this.engine?.scriptDone(id, result, this.clock()));
  }

  #script(id: number, job: ScriptJob, life: number): void {
    const { world } = this;
    const name = job.resource.text;
    const mood = this.moods.get(name) ?? "well";
    if (mood === "hangs" && job.action !== "status") return;
    const durations = { status: [1, 10], start: [5, 150], stop: [5, 80] } as const;
    const [low, high] = durations[job.action];
    const durationMs =
      mood === "slow" && job.action !== "status" ? world.prng.between(500, 2500) : world.prng.between(low, high);
    const boot = this.#boot;
    if (job.action === "start") world.checker.startBegins(this, job.group, name);
    world.after(durationMs, () => {
      if (boot !== this.#boot) return;
      this.#scriptEnds(id, job, life, mood);
    });
  }

  /** The script ends on the machine, whether or not the daemon that started it still listens. */
  #scriptEnds(id: number, job: ScriptJob, life: number, mood: ScriptMood): void {
    const { world } = this;
    const name = job.resource.text;
    let exitCode = 0;
    let output = "";
    if (job.action === "status") {
      const running = this.isRunning(name) || world.options.mutation === "blind-monitor";
      output = running ? "running" : "stopped";
      exitCode = running ? 0 : 3;
    } else if (mood === "start-fails" && job.action === "start") exitCode = 1;
    else if (mood === "stop-fails" && job.action === "stop" && this.isRunning(name)) {
      exitCode = world.options.mutation === "lying-stop" ? 0 : 1;
    } else {
      this.running.set(name, job.action === "start");
      if (job.action === "start") this.died.delete(name);
      world.log(this.name, `${name} ${job.action === "start" ? "started" : "stopped"}`);
      world.checker.servicesChanged(this, { group: job.group, resource: name, started: job.action === "start" });
      const boot = this.#boot;
      if (mood === "dies" && job.action === "start")
        world.after(400, () => {
          if (boot === this.#boot && this.moods.get(name) === "dies") this.serviceDies(name);
        });
    }
    this.#answer(life, id, { exitCode, output });
  }
}
