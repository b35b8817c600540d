import { type Context, NEVER, soonest } from "./context.ts";
import type { PingNodeView } from "./ports.ts";

interface PingNode {
  readonly name: string;
  status: "init" | "ping" | "dead";
  lastHeardMs: number;
  /** Time in which this process did not listen, taken off the silence. */
  deafMs: number;
}

/** A stretch without input longer than this part of deadping proves little: answers wait in the ping process's pipe. */
const LOOKS_BEFORE_DEATH = 4;

/**
 * Hosts that are asked for an ICMP echo to tell a dead peer from a cut-off node. A ping node owns nothing; it counts as a node
 * when a start waits until everyone is heard or dead.
 * Deviation: one that was never heard is dead after deadping, a real node waits initdead for it.
 * @see Heartbeat 3.0.6 ping nodes
 */
export class PingNodes {
  readonly #context: Context;
  readonly #nodes: PingNode[];
  /** Called after each change of a status, with the number of living ping nodes. */
  onChange: () => void = () => undefined;

  constructor(context: Context) {
    this.#context = context;
    this.#nodes = context.config.pingNodes.map((name) => ({ name, status: "init", lastHeardMs: 0, deafMs: 0 }));
  }

  start(): void {
    for (const node of this.#nodes) node.lastHeardMs = this.#context.nowMs;
  }

  get alive(): number {
    return this.#nodes.filter((node) => node.status === "ping").length;
  }

  /** Each was heard, or waited for long enough. */
  get decided(): boolean {
    return this.#nodes.every((node) => node.status !== "init");
  }

  heard(name: string): void {
    const node = this.#nodes.find((each) => each.name === name);
    if (node === undefined) return;
    node.lastHeardMs = this.#context.nowMs;
    node.deafMs = 0;
    this.#set(node, "ping");
  }

  /** Time passed between two inputs. */
  passed(durationMs: number): void {
    const countsMs = this.#context.config.deadpingMs / LOOKS_BEFORE_DEATH;
    if (durationMs <= countsMs) return;
    for (const node of this.#nodes) node.deafMs += durationMs - countsMs;
  }

  tick(): void {
    for (const node of this.#nodes) {
      if (node.status !== "dead" && this.#context.nowMs >= this.#deadAtMs(node)) this.#set(node, "dead");
    }
  }

  deadline(): number {
    const times = this.#nodes.map((node) => (node.status === "dead" ? NEVER : this.#deadAtMs(node)));
    return soonest(this.#context.nowMs, ...times);
  }

  views(): readonly PingNodeView[] {
    return this.#nodes.map(({ name, status, lastHeardMs }) => ({
      node: name,
      status,
      ...(status === "init" ? {} : { lastSeenMs: this.#context.nowMs - lastHeardMs }),
    }));
  }

  #deadAtMs(node: PingNode): number {
    return node.lastHeardMs + node.deafMs + this.#context.config.deadpingMs;
  }

  #set(node: PingNode, to: "ping" | "dead"): void {
    if (node.status === to) return;
    const from = node.status;
    node.status = to;
    const silenceMs = Math.round(this.#context.nowMs - node.lastHeardMs);
    const text =
      to === "ping" ? `ping node ${node.name} answers` : `ping node ${node.name} is dead (silent for ${silenceMs} ms)`;
    this.#context.event(to === "dead" ? "warn" : "info", "ping.status", text, { node: node.name, from, to });
    this.onChange();
  }
}
