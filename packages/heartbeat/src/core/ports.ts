import type { MonitorPolicy } from "../config/model.ts";
import type { HaMessage } from "../wire/message.ts";

export type { MonitorPolicy };

/**
 * What the cluster engine asks of the world and what the world tells it: plain data and two interfaces.
 * The engine is sans-I/O; a daemon or the simulator drives it. All times are integer milliseconds of one monotonic clock.
 */

/** Resource of a haresources line, for example `Filesystem::/dev/drbd0::/srv::ext4`. */
export interface ServiceResource {
  /** As written, the name that logs show. */
  readonly text: string;
  /** Name of the script (`IPaddr2`, `drbddisk`, `apache2`). */
  readonly script: string;
  /** Arguments before the action. */
  readonly args: readonly string[];
  /** Absent: started, and never looked at again, as Heartbeat does. */
  readonly monitor?: MonitorPolicy;
}

/** A haresources line (the parsed one fits): started left to right, stopped right to left. */
export interface ServiceGroup {
  /** Text of the first resource; unique. */
  readonly key: string;
  /** Preferred node, lower case. */
  readonly node: string;
  readonly resources: readonly ServiceResource[];
}

/** Configuration of the engine: ha.cf and haresources in units and types. */
export interface ClusterConfig {
  /** The normal nodes, lower case, two of them, our own included. */
  readonly nodes: readonly string[];
  readonly keepaliveMs: number;
  readonly deadtimeMs: number;
  readonly warntimeMs: number;
  readonly initdeadMs: number;
  /** Longest pause before a missing packet is asked for again. */
  readonly maxRexmitDelayMs: number;
  /** Added to the number of nodes to make `ttl`. */
  readonly hopfudge: number;
  readonly autoFailback: "on" | "off";
  /** Names of the links, one per interface (two media on one interface are one link). */
  readonly links: readonly string[];
  readonly groups: readonly ServiceGroup[];
  /** A STONITH device is configured: nothing of a silent node is taken before `fenceDone(…, "OK")`. */
  readonly fencing: boolean;
  /** Names of the ping nodes (lower case) and groups of them. */
  readonly pingNodes: readonly string[];
  /** A ping node that does not answer for so long is dead. */
  readonly deadpingMs: number;
  /** Give the service groups to the other node when that one sees more ping nodes. */
  readonly ipfail: boolean;
  /** Longest run of one script before it is aborted and counts as failed. */
  readonly scriptTimeoutMs: number;
  /** How often a failing stop is repeated, one second apart, after the first attempt. */
  readonly stopRetries: number;
}

export interface Identity {
  /** Own node name, lower case. */
  readonly node: string;
  /** 16 bytes. Never the peer's. */
  readonly uuid: Uint8Array;
  /** Generation of this start; durable before the engine is made, always higher than any earlier one. */
  readonly generation: number;
  /**
   * Keys of the service groups that an earlier life of this daemon ran, when it ended less than its dead time ago: the
   * other node cannot have taken them. What runs and is not among them is a leftover.
   */
  readonly journal?: readonly string[];
}

/** What came of a reset: done, failed, or a device that cannot reset that node. @see Heartbeat 3.0.6 message stonith */
export type FenceResult = "OK" | "bad" | "badhost";

/** Contents of the fields `ts` and `ld`. Never used for a decision. */
export interface ClockInfo {
  /** Unix time in seconds. */
  unixSeconds(): number;
  /** The line of /proc/loadavg, or `n/a`. */
  loadAverage(): string;
}

export type ScriptAction = "start" | "stop" | "status";

export interface ScriptJob {
  readonly group: string;
  readonly resource: ServiceResource;
  readonly action: ScriptAction;
}

export interface ScriptResult {
  /** Exit status; a script ended by a signal or never found gives a number other than 0. */
  readonly exitCode: number;
  /** Standard output, at most a few KiB; of `status` it decides whether the resource runs. */
  readonly output: string;
}

/** Sets of service groups, seen from the node that speaks: its own, the other's, both. */
export type GroupSet = "none" | "local" | "foreign" | "all";

export type ClusterCommand =
  /** Give a set to the other node. */
  | { readonly kind: "standby"; readonly set: Exclude<GroupSet, "none"> }
  /** Ask the other node to give us a set (named as we see it). */
  | { readonly kind: "takeover"; readonly set: Exclude<GroupSet, "none"> }
  /** Release everything, say so, and exit. */
  | { readonly kind: "stop" }
  /** Forget failures and start the groups of this node that nobody holds. */
  | { readonly kind: "start" }
  /** An administrator has made sure that the node is down: what waits for its reset goes on. */
  | { readonly kind: "fence-confirm"; readonly node: string }
  /** Make the peer's copy of a replicated resource Outdated; the result has an `exitCode` of DRBD's fence-peer handler. */
  | { readonly kind: "outdate-peer"; readonly resource: string; readonly timeoutMs: number };

export interface CommandResult {
  readonly ok: boolean;
  /** Of `outdate-peer`. @see DRBD 8.4 fence-peer: 3 inconsistent, 4 outdated, 5 unreachable, 6 primary, 7 fenced */
  readonly exitCode?: number;
  /** One sentence: what was done, or why not and what to do. */
  readonly text: string;
}

/** What blockrep says about one of its resources. */
export interface DrbdFacts {
  readonly role: "Primary" | "Secondary" | "Unknown";
  readonly localDisk: string;
  readonly peerDisk: string;
  readonly connected: boolean;
}

export type NodeStatus = "init" | "up" | "active" | "dead";

/** State of a service group on this node. */
export type GroupState = "stopped" | "starting" | "running" | "stopping" | "failed" | "stop-failed";

export type EventLevel = "debug" | "info" | "warn" | "error" | "crit";

/** Stable names of events: match on these, never on the text. */
export type ClusterEventName =
  | "node.status"
  | "node.late"
  | "node.dead"
  | "node.restarted"
  | "node.kind"
  | "node.uuid"
  | "link.status"
  | "own.stall"
  | "message.refused"
  | "packets.lost"
  | "packets.irretrievable"
  | "replay"
  | "config.mismatch"
  | "partition.healed"
  | "peer.declared-us-dead"
  | "fence.needed"
  | "fence.done"
  | "fence.failed"
  | "fence.unconfigured"
  | "fence.check"
  | "ping.status"
  | "ipfail.count"
  | "ipfail.giveup"
  | "monitor.failed"
  | "monitor.expired"
  | "outdate.asked"
  | "outdate.done"
  | "takeover.start"
  | "takeover.done"
  | "takeover.cancelled"
  | "resources.acquire"
  | "resources.hold"
  | "resources.conflict"
  | "resources.unowned"
  | "resources.leftover"
  | "standby.start"
  | "standby.done"
  | "standby.cancelled"
  | "standby.refused"
  | "failback.waiting"
  | "failback.start"
  | "failback.followed"
  | "group.state"
  | "script.start"
  | "script.failed"
  | "script.retry"
  | "script.timeout"
  | "shutdown.start"
  | "shutdown.delayed"
  | "shutdown.done"
  | "shutdown.blocked"
  | "peer.shutdown"
  | "restart";

export interface ClusterEvent {
  readonly name: ClusterEventName;
  readonly level: EventLevel;
  /** For people. */
  readonly text: string;
  /** For machines: node, link, group, resource, from, to, silenceMs, … */
  readonly details: Readonly<Record<string, string | number | boolean>>;
}

/** The engine's only way out. No method may call back into the engine before it returns. */
export interface ClusterSink {
  /** Encode, sign and send on every medium. All fields but `auth` are there. */
  send(message: HaMessage): void;
  /** Run a script; answer with `scriptDone(id, …)` exactly once. */
  runScript(id: number, job: ScriptJob): void;
  /** Kill a running script's process group; `scriptDone` still follows. */
  abortScript(id: number): void;
  /** Reset the node through the STONITH device; answer with `fenceDone(id, …)`. */
  fence(id: number, node: string): void;
  /** Make our own copy of a replicated resource Outdated; answer with `outdateDone(id, …)`. */
  outdate(id: number, resource: string): void;
  event(event: ClusterEvent): void;
  /** The peer is late: let blockrep ping it now. It never cuts a connection that answers. */
  pingPeerNow(resource: string): void;
  commandDone(id: number, result: CommandResult): void;
  /**
   * Everything is released: end this engine and start another one with a new generation after `delayMs` of silence.
   * Nothing more may be sent or fed to this engine.
   */
  restart(reason: string, delayMs: number): void;
  /** A clean stop is complete. */
  exit(reason: string): void;
}

export interface LinkView {
  readonly link: string;
  readonly up: boolean;
}

export interface NodeView {
  readonly node: string;
  readonly own: boolean;
  readonly status: NodeStatus;
  /** `hacluster` when the peer says so, `heartbeat` for a real one, `unknown` until heard. */
  readonly kind: "hacluster" | "heartbeat" | "unknown";
  /** Milliseconds since its last status, when it was ever heard. */
  readonly lastSeenMs?: number;
  readonly generation?: number;
  readonly links: readonly LinkView[];
  readonly holds: GroupSet | "unknown";
  readonly stable: boolean;
}

export interface GroupView {
  readonly key: string;
  readonly node: string;
  readonly state: GroupState;
  /** Resource that failed, when one did. */
  readonly failedResource?: string;
  /** Failures found by monitoring that are not forgotten yet. */
  readonly failures?: number;
}

export interface PingNodeView {
  readonly node: string;
  /** `init`: never heard, and not waited for long enough yet. */
  readonly status: "init" | "ping" | "dead";
  readonly lastSeenMs?: number;
}

/** A node whose reset is waited for. */
export interface FenceView {
  readonly node: string;
  readonly sinceMs: number;
  readonly attempts: number;
  /** Type of the device; `meatware`: a person is waited for. Added by the driver. */
  readonly device?: string;
  /** What the device said last. */
  readonly text?: string;
}

/** One truth for `status`, the monitor and the metrics. */
export interface ClusterStatus {
  readonly node: string;
  readonly generation: number;
  readonly holds: GroupSet;
  /** `transition` while anything moves, like `cl_status rscstatus`. */
  readonly resources: GroupSet | "transition";
  readonly standby: string;
  readonly nodes: readonly NodeView[];
  readonly groups: readonly GroupView[];
  /** What an auto failback waits for, when it waits. */
  readonly failbackWaitsFor?: string;
  readonly pingNodes: readonly PingNodeView[];
  /** Nothing is taken over before this node is reset. */
  readonly fencing?: FenceView;
  readonly counters: Readonly<Record<string, number>>;
}

/** The engine as drivers see it; `ClusterEngine` implements it. */
export interface ClusterInputs {
  /** Send the first packets. Once, before anything else. */
  start(nowMs: number): void;
  /** Time passes: at least every keepalive/2, and at `nextDeadline()`. */
  tick(nowMs: number): void;
  /** An authenticated message arrived on a link. Never throws, whatever the message says. */
  received(link: string, message: HaMessage, nowMs: number): void;
  mediumUp(link: string, nowMs: number): void;
  mediumDown(link: string, nowMs: number): void;
  sendError(link: string, reason: string, nowMs: number): void;
  scriptDone(id: number, result: ScriptResult, nowMs: number): void;
  fenceDone(id: number, result: FenceResult, text: string, nowMs: number): void;
  /** A ping node, or a member of a group of them, answered. */
  pingHeard(name: string, nowMs: number): void;
  /** `exitCode`: what `outdate` came to, in the words of DRBD's fence-peer handler. */
  outdateDone(id: number, exitCode: number, nowMs: number): void;
  command(id: number, command: ClusterCommand, nowMs: number): void;
  /** New facts about a replicated resource; `undefined`: blockrep does not answer. */
  drbdStatus(resource: string, facts: DrbdFacts | undefined, nowMs: number): void;
  /** Earliest time at which `tick` has something to do. */
  nextDeadline(): number;
  status(nowMs: number): ClusterStatus;
}
