import type { Prng } from "@hacluster/blockrep/base";
import type { ClusterConfig, ClusterEventName, ClusterSink, EventLevel, Identity } from "./ports.ts";

export type EventDetails = Readonly<Record<string, string | number | boolean>>;

/** What all parts of one engine share: configuration, identity, the time of the current input, and the way out. */
export class Context {
  readonly config: ClusterConfig;
  readonly identity: Identity;
  readonly sink: ClusterSink;
  readonly prng: Prng;
  /** The other node; undefined in a cluster of one. */
  readonly peer: string | undefined;
  /** Time of the input being handled, ms. */
  nowMs = 0;
  /** Time of `start()`, ms. */
  startedMs = 0;
  /** Nothing is sent any more: our generation is burnt, the next packet with it would restart the peer as well. */
  muted = false;
  /** The engine has asked to be ended; every further input is ignored. */
  closed = false;
  readonly counters: Record<string, number> = {};

  constructor(config: ClusterConfig, identity: Identity, sink: ClusterSink, prng: Prng) {
    this.config = config;
    this.identity = identity;
    this.sink = sink;
    this.prng = prng;
    this.peer = config.nodes.find((node) => node !== identity.node);
  }

  event(level: EventLevel, name: ClusterEventName, text: string, details: EventDetails = {}): void {
    this.sink.event({ name, level, text, details });
  }

  count(counter: string, by = 1): void {
    this.counters[counter] = (this.counters[counter] ?? 0) + by;
  }
}

/** No deadline. */
export const NEVER: number = Number.POSITIVE_INFINITY;

/** Earliest of the times that are still to come: what is due by now has been looked at and waits for something else. */
export function soonest(nowMs: number, ...timesMs: readonly number[]): number {
  return timesMs.reduce((earliest, timeMs) => (timeMs > nowMs ? Math.min(earliest, timeMs) : earliest), NEVER);
}
