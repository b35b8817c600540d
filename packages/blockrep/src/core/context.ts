import { assert } from "../base/assert.ts";
import { LATER_MAX } from "./limits.ts";
import type { EngineOptions, EngineSink, IoId, Mutations, RandomSource } from "./ports.ts";

/** What every part of the engine shares. One per resource. */
export class EngineContext {
  /** Replaced as a whole when the administrator changes the configuration. */
  options: EngineOptions;
  readonly sink: EngineSink;
  readonly random: RandomSource;
  readonly mutations: Mutations;
  nowMs: number;
  /** Since when this process comes to its deadlines in time: what was silent before may just not have been read. */
  awakeSinceMs: number = -Infinity;
  #lastIo = 0;
  #queue: (() => void)[] = [];
  #running = false;

  constructor(options: EngineOptions, sink: EngineSink, random: RandomSource, nowMs: number) {
    this.options = options;
    this.sink = sink;
    this.random = random;
    this.mutations = options.mutations ?? {};
    this.nowMs = nowMs;
  }

  readonly nextIo = (): IoId => ++this.#lastIo;

  /**
   * Runs a function within the present input, after what runs now: completions reach each other through here, so that no
   * part of the engine is entered while it is in the middle of something.
   */
  readonly later = (fn: () => void): void => {
    this.#queue.push(fn);
  };

  /** Runs one input and everything it put off. */
  input(fn: () => void): void {
    if (this.#running) {
      this.#queue.push(fn);
      return;
    }
    this.#running = true;
    try {
      fn();
      for (let i = 0; i < this.#queue.length; i++) {
        assert(i < LATER_MAX, "an input comes to an end");
        (this.#queue[i] as () => void)();
      }
    } finally {
      this.#queue = [];
      this.#running = false;
    }
  }

  note(level: "info" | "warn" | "error", text: string): void {
    this.sink.event({ type: "note", level, text });
  }
}
