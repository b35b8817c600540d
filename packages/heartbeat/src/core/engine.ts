import { ErrorCode, HaError, type Prng } from "@hacluster/blockrep/base";
import { missingMandatoryField } from "../wire/common-fields.ts";
import { type HaField, HaMessage, isUnsequenced, MessageType } from "../wire/message.ts";
import { Context, NEVER, soonest } from "./context.ts";
import { setName } from "./group-set.ts";
import { isIpfailMessage } from "./ipfail.ts";
import { Membership } from "./membership.ts";
import { isOutdateMessage, OutdatePeer } from "./outdate-peer.ts";
import { OwnStream } from "./own-stream.ts";
import { formatReport, KIND_FIELD, REPORT_FIELD } from "./peer-report.ts";
import { PeerResources } from "./peer-resources.ts";
import { PeerStream } from "./peer-stream.ts";
import { PingNodes } from "./ping-nodes.ts";
import type {
  ClockInfo,
  ClusterCommand,
  ClusterConfig,
  ClusterInputs,
  ClusterSink,
  ClusterStatus,
  DrbdFacts,
  FenceResult,
  Identity,
  NodeView,
  ScriptResult,
} from "./ports.ts";
import { ResourceProtocol } from "./resource-protocol.ts";
import { ResourceState } from "./resource-state.ts";
import { ServiceGroups } from "./service-groups.ts";

/** A medium that cannot send says so at most this often. */
const SEND_ERROR_EVENT_MS = 60_000;
/** Messages of strangers are reported at most this often. */
const STRANGER_EVENT_MS = 60_000;

/**
 * One node of the cluster, without I/O: membership, reliable messages, and the resource protocol of Heartbeat 3 (haresources,
 * auto_failback on or off), stricter where the peer is a hacluster node too.
 *
 * The driver feeds inputs one at a time and carries out what the sink is told. After `restart` or `exit` the engine is over.
 */
export class ClusterEngine implements ClusterInputs {
  readonly #context: Context;
  readonly #own: OwnStream;
  readonly #stream: PeerStream | undefined;
  readonly #membership: Membership;
  readonly #groups: ServiceGroups;
  readonly #peer: PeerResources;
  readonly #state: ResourceState;
  readonly #protocol: ResourceProtocol;
  readonly #ping: PingNodes;
  readonly #outdate: OutdatePeer;
  readonly #sendErrorMs = new Map<string, number>();
  #strangerMs = Number.NEGATIVE_INFINITY;
  #peerUuid: Uint8Array | undefined;
  #started = false;

  /**
   * @throws HaError HA_CONFIG_INVALID when our node is not among the configured ones; HA_UNSUPPORTED for more than two nodes
   */
  constructor(
    config: ClusterConfig,
    identity: Identity,
    sink: ClusterSink,
    prng: Prng,
    clock: ClockInfo,
    nowMs: number,
  ) {
    if (!config.nodes.includes(identity.node)) {
      throw new HaError(
        ErrorCode.configInvalid,
        `this node is called ${identity.node}, the configured nodes are ${config.nodes.join(", ")}`,
        { node: identity.node },
      );
    }
    if (new Set(config.nodes).size > 2) {
      throw new HaError(ErrorCode.unsupported, `haresources clusters have two nodes, not ${config.nodes.length}`);
    }
    const context = new Context(config, identity, sink, prng);
    context.nowMs = nowMs;
    context.startedMs = nowMs;
    this.#context = context;
    this.#own = new OwnStream(context, clock);
    this.#stream = context.peer === undefined ? undefined : new PeerStream(context, this.#own, context.peer);
    this.#groups = new ServiceGroups(context);
    this.#membership = new Membership(context, {
      post: (message) => this.#post(message),
      peerIsHacluster: () => this.#peer.kind === "hacluster",
      peerDied: () => {
        this.#stream?.declaredDead();
        this.#protocol.peerDied();
      },
      linkDied: () => this.#protocol.ipfail.linkDied(),
      ready: () => {
        if (this.#ping.decided) this.#protocol.ready();
      },
    });
    this.#ping = new PingNodes(context);
    this.#peer = new PeerResources(context, this.#membership);
    this.#state = new ResourceState(context, this.#membership, this.#groups, this.#peer, (message) =>
      this.#post(message),
    );
    this.#state.sawGeneration = () => this.#stream?.generation ?? 0;
    this.#state.pings = () => (config.ipfail ? this.#ping.alive : undefined);
    this.#protocol = new ResourceProtocol(this.#state, this.#ping);
    this.#outdate = new OutdatePeer(context, this.#membership, this.#peer, {
      send: (message) => this.#post(message),
      peerFenced: () => this.#protocol.peerFenced,
    });
  }

  start(nowMs: number): void {
    this.#context.nowMs = nowMs;
    this.#context.startedMs = nowMs;
    this.#started = true;
    this.#membership.start();
    this.#ping.start();
    this.#protocol.start();
    this.#settle();
  }

  tick(nowMs: number): void {
    this.#input(nowMs, () => undefined);
  }

  received(link: string, message: HaMessage, nowMs: number): void {
    this.#input(nowMs, () => this.#receive(link, message));
  }

  mediumUp(link: string, nowMs: number): void {
    this.#input(nowMs, () => this.#membership.mediumUp(link));
  }

  mediumDown(link: string, nowMs: number): void {
    this.#input(nowMs, () => this.#membership.mediumDown(link));
  }

  sendError(link: string, reason: string, nowMs: number): void {
    this.#input(nowMs, () => {
      this.#context.count("sendErrors");
      const last = this.#sendErrorMs.get(link) ?? Number.NEGATIVE_INFINITY;
      if (nowMs - last < SEND_ERROR_EVENT_MS || !this.#context.config.links.includes(link)) return;
      this.#sendErrorMs.set(link, nowMs);
      this.#context.event("warn", "link.status", `cannot send on ${link}: ${reason}`, { link });
    });
  }

  scriptDone(id: number, result: ScriptResult, nowMs: number): void {
    this.#input(nowMs, () => {
      if (!this.#groups.scriptDone(id, result)) this.#context.count("unknownScripts");
    });
  }

  fenceDone(id: number, result: FenceResult, text: string, nowMs: number): void {
    this.#input(nowMs, () => this.#protocol.fenceDone(id, result, text));
  }

  pingHeard(name: string, nowMs: number): void {
    this.#input(nowMs, () => this.#ping.heard(name));
  }

  outdateDone(id: number, exitCode: number, nowMs: number): void {
    this.#input(nowMs, () => this.#outdate.outdateDone(id, exitCode));
  }

  command(id: number, command: ClusterCommand, nowMs: number): void {
    if (this.#context.closed) {
      this.#context.sink.commandDone(id, { ok: false, text: "this node is ending" });
      return;
    }
    this.#input(nowMs, () => {
      if (command.kind === "outdate-peer") this.#outdate.ask(id, command.resource, command.timeoutMs);
      else this.#protocol.command(id, command);
    });
  }

  drbdStatus(resource: string, facts: DrbdFacts | undefined, nowMs: number): void {
    this.#input(nowMs, () => {
      if (facts === undefined) this.#state.facts.delete(resource);
      else this.#state.facts.set(resource, facts);
    });
  }

  nextDeadline(): number {
    if (this.#context.closed) return NEVER;
    return soonest(
      this.#context.nowMs,
      this.#membership.deadline(),
      this.#stream?.deadline() ?? NEVER,
      this.#groups.deadline(),
      this.#protocol.deadline(),
      this.#ping.deadline(),
      this.#outdate.deadline(),
    );
  }

  status(nowMs: number): ClusterStatus {
    const { identity, peer, config, counters } = this.#context;
    const own: NodeView = {
      node: identity.node,
      own: true,
      status: this.#membership.own,
      kind: "hacluster",
      generation: identity.generation,
      links: [],
      holds: setName(this.#state.hold),
      stable: this.#state.settled,
    };
    const nodes: NodeView[] = [own];
    if (peer !== undefined) {
      const heard = this.#membership.peerHeard;
      nodes.push({
        node: peer,
        own: false,
        status: this.#membership.peer,
        kind: this.#peer.kind,
        ...(heard ? { lastSeenMs: nowMs - this.#membership.peerLastStatusMs } : {}),
        ...(heard ? { generation: this.#stream?.generation ?? 0 } : {}),
        links: this.#membership.links(),
        holds: this.#peer.trusted ? setName(this.#peer.holds) : "unknown",
        stable: this.#peer.stable,
      });
    }
    const move = this.#state.move;
    return {
      node: identity.node,
      generation: identity.generation,
      holds: setName(this.#state.hold),
      resources: this.#state.settled ? setName(this.#state.hold) : "transition",
      standby: move === undefined ? "none" : `${move.phase} ${setName(move.set)}`,
      nodes: config.nodes.flatMap((name) => nodes.filter((view) => view.node === name)),
      groups: this.#groups.runners.map((runner) => ({
        key: runner.group.key,
        node: runner.group.node,
        state: runner.state,
        ...(runner.failedResource === undefined ? {} : { failedResource: runner.failedResource }),
        ...(runner.failures === 0 ? {} : { failures: runner.failures }),
      })),
      ...(this.#protocol.failbackWaitsFor === undefined ? {} : { failbackWaitsFor: this.#protocol.failbackWaitsFor }),
      pingNodes: this.#ping.views(),
      ...(this.#protocol.fencing === undefined ? {} : { fencing: this.#protocol.fencing }),
      counters: { ...counters, packetsMissing: this.#stream?.missing ?? 0 },
    };
  }

  #input(nowMs: number, handle: () => void): void {
    const context = this.#context;
    if (context.closed || !this.#started) return;
    // a monotonic clock does not go back; a driver that does is held at the last time
    const beforeMs = context.nowMs;
    context.nowMs = Math.max(beforeMs, nowMs);
    this.#membership.passed(context.nowMs - beforeMs);
    this.#ping.passed(context.nowMs - beforeMs);
    const silenceMs = context.muted ? undefined : this.#membership.fatalSilenceMs();
    if (silenceMs !== undefined) {
      context.event(
        "crit",
        "own.stall",
        `this process did not run for ${silenceMs} ms: the other node has declared us dead. Releasing everything and restarting`,
        { silenceMs },
      );
      this.#protocol.stepDown(`own stall of ${silenceMs} ms`);
    }
    if (context.closed) return;
    handle();
    this.#settle();
  }

  #settle(): void {
    const context = this.#context;
    if (context.closed) return;
    this.#groups.tick();
    this.#ping.tick();
    this.#membership.tick();
    this.#stream?.tick();
    this.#outdate.tick();
    this.#protocol.step();
    if (!context.closed) this.#reportChange();
  }

  /** A hacluster peer hears of a change at once, not with the next keepalive. */
  #reportChange(): void {
    if (this.#peer.real || !this.#state.probed || this.#context.muted) return;
    if (formatReport(this.#state.report()) === this.#state.lastReport) return;
    if (this.#state.phase === "stable") this.#state.announce();
    else this.#membership.sendStatus();
  }

  #post(message: HaMessage): void {
    let complete = message;
    if (!isUnsequenced(message.type)) {
      complete = message.with(KIND_FIELD, "1");
      if (this.#state.probed) {
        const report = formatReport(this.#state.report());
        this.#state.lastReport = report;
        complete = complete.with(REPORT_FIELD, report);
      }
    }
    this.#own.post(complete, message.get("dest") === this.#context.peer ? this.#peerUuid : undefined);
  }

  #receive(link: string, message: HaMessage): void {
    const context = this.#context;
    const stream = this.#stream;
    const missing = missingMandatoryField(message);
    const src = (message.get("src") ?? "").toLowerCase();
    if (missing !== undefined || stream === undefined) {
      this.#stranger(`a message without ${missing ?? "peer"}`);
      return;
    }
    if (src === context.identity.node) {
      context.count("ownMessages");
      return;
    }
    if (src !== context.peer) {
      this.#stranger(`bad node ${src.slice(0, 64)}`);
      return;
    }
    const generation = message.hex("hg") ?? 0;
    if (generation === 0) {
      this.#stranger("a message without generation");
      return;
    }
    if (isUnsequenced(message.type)) {
      if (generation !== stream.generation) context.count("replays");
      else this.#reliability(message, stream);
      return;
    }
    const seq = message.hex("seq") ?? 0;
    const isStatus = message.type === MessageType.status;
    const verdict = stream.judge(generation, seq, isStatus);
    if (verdict === "drop") return;
    this.#membership.heardOn(link);
    if (verdict === "duplicate") return;
    context.count("messagesReceived");
    this.#membership.heardNew();
    this.#learnUuid(message.binary("srcuuid"));
    if (verdict === "restarted") this.#peerRestarted(generation);
    if (verdict === "returned") {
      this.#membership.peerReturned();
      this.#protocol.partitionHealed();
    }
    this.#peer.observe(message, seq);
    if (isStatus) this.#membership.peerStatus(message);
    else if (this.#forUs(message)) this.#handle(message, seq);
  }

  #handle(message: HaMessage, seq: number): void {
    if (message.type === MessageType.requestNodes) {
      // dest before t, trailing blank, one blank for an empty list: as the original sends it
      const nodelist = `${this.#context.config.nodes.join(" ")} `;
      const fields: HaField[] = [
        { name: "dest", type: 0, value: this.#context.peer ?? "" },
        { name: "t", type: 0, value: MessageType.replyNodes },
        { name: "nodelist", type: 0, value: nodelist },
        { name: "delnodelist", type: 0, value: " " },
      ];
      this.#post(new HaMessage(fields));
    } else if (message.type === MessageType.replyNodes) this.#membership.repnodes(message.get("nodelist") ?? "");
    else if (isIpfailMessage(message.type)) this.#protocol.ipfail.received(message);
    else if (isOutdateMessage(message.type)) this.#outdate.received(message);
    else this.#protocol.received(message, seq);
  }

  #forUs(message: HaMessage): boolean {
    const dest = message.get("dest");
    return dest === undefined || dest.toLowerCase() === this.#context.identity.node;
  }

  #reliability(message: HaMessage, stream: PeerStream): void {
    if (!this.#forUs(message)) return;
    switch (message.type) {
      case MessageType.retransmitRequest:
        this.#own.retransmit(message, this.#peerUuid);
        break;
      case MessageType.acknowledgement:
        this.#own.acknowledged(message.hex("ackseq") ?? 0);
        break;
      case MessageType.retransmitRefusal:
        stream.irretrievable(message.hex("firstseq") ?? 0);
        break;
      default:
        break;
    }
  }

  #peerRestarted(generation: number): void {
    this.#context.event("warn", "node.restarted", `Heartbeat restart on node ${this.#context.peer}`, {
      node: this.#context.peer ?? "",
      generation,
    });
    this.#membership.peerRestarted();
    this.#protocol.peerRestarted();
  }

  #learnUuid(uuid: Uint8Array | undefined): void {
    if (uuid === undefined || uuid.length !== 16 || uuid.every((byte) => byte === 0)) return;
    const text = hexOf(uuid);
    if (text === hexOf(this.#context.identity.uuid)) {
      if (this.#context.counters["sameUuid"] === undefined)
        this.#context.event(
          "error",
          "node.uuid",
          `${this.#context.peer} has the same uuid as this node: the machines were cloned; remove hb_uuid on one of them and restart it`,
          { node: this.#context.peer ?? "" },
        );
      this.#context.count("sameUuid");
      return;
    }
    if (this.#peerUuid !== undefined && text === hexOf(this.#peerUuid)) return;
    if (this.#peerUuid !== undefined)
      this.#context.event("warn", "node.uuid", `node ${this.#context.peer} changed its uuid to ${text}`, {
        node: this.#context.peer ?? "",
        uuid: text,
      });
    this.#peerUuid = uuid;
  }

  #stranger(what: string): void {
    const context = this.#context;
    context.count("messagesRefused");
    if (context.nowMs - this.#strangerMs < STRANGER_EVENT_MS) return;
    this.#strangerMs = context.nowMs;
    context.event("warn", "message.refused", `message refused: ${what}`, { reason: what });
  }
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
