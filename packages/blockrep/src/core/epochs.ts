import type { Packet } from "../wire/packets.ts";
import type { WritePart } from "./write-path.ts";

/** Writes between two barriers, as their sender keeps them. The peer acknowledges an epoch as a whole, with its size. */
export class SendEpoch {
  readonly number: number;
  readonly parts: WritePart[] = [];
  /** Sent with P_BARRIER; nothing joins any more. */
  closed = false;
  /** When its barrier went out, for the request timer. */
  barrierSentMs = 0;
  /** Parts before this one have their answer; an answer is never taken back. */
  answered = 0;
  /** One of its writes was completed to the application: a later flush has to wait for this epoch. */
  hasCompleted = false;

  constructor(number: number) {
    this.number = number;
  }
}

/**
 * The sender's transfer log: replicated writes whose epoch the peer has not acknowledged yet.
 * An epoch is closed when its first write completes to the application (later writes may depend on it), when it is full,
 * at an application's flush, and when writes stop or start to be replicated; never does it hold both kinds.
 */
export class TransferLog {
  readonly #send: (packet: Packet) => void;
  readonly #maxEpochSize: number;
  readonly #now: () => number;
  #number: number;
  /** Oldest first; the last one is open or closed. */
  readonly epochs: SendEpoch[] = [];

  constructor(send: (packet: Packet) => void, maxEpochSize: number, firstNumber: number, now: () => number) {
    this.#send = send;
    this.#maxEpochSize = maxEpochSize;
    this.#number = firstNumber;
    this.#now = now;
  }

  get writes(): number {
    let n = 0;
    for (const epoch of this.epochs) n += epoch.parts.length;
    return n;
  }

  /** The epoch that a write which is about to be sent joins. */
  join(part: WritePart): SendEpoch {
    let epoch = this.epochs.at(-1);
    if (epoch === undefined || epoch.closed) {
      epoch = new SendEpoch(this.#number);
      this.#number = (this.#number + 1) >>> 0;
      this.epochs.push(epoch);
    }
    epoch.parts.push(part);
    return epoch;
  }

  /** After the write was sent: a full epoch takes no more. */
  joined(epoch: SendEpoch): void {
    if (epoch.parts.length >= this.#maxEpochSize) this.close();
  }

  /** Ends the current epoch, if it holds writes, and tells the peer. */
  close(): void {
    const epoch = this.epochs.at(-1);
    if (epoch === undefined || epoch.closed) return;
    epoch.closed = true;
    epoch.barrierSentMs = this.#now();
    this.#send({ kind: "P_BARRIER", volume: 0, barrier: epoch.number });
  }

  /** A write of this epoch was completed to the application. */
  completed(epoch: SendEpoch): void {
    epoch.hasCompleted = true;
    if (!epoch.closed) this.close();
  }

  /** The newest epoch that a flush has to wait for. */
  lastCompleted(): SendEpoch | undefined {
    return this.epochs.findLast((epoch) => epoch.hasCompleted);
  }

  /** @returns the acknowledged epoch, or undefined when the answer does not fit what was sent */
  acknowledge(barrier: number, setSize: number): SendEpoch | undefined {
    const epoch = this.epochs[0];
    if (epoch === undefined || !epoch.closed || epoch.number !== barrier || epoch.parts.length !== setSize) {
      return undefined;
    }
    this.epochs.shift();
    return epoch;
  }

  /** The connection is gone: nothing will be acknowledged. */
  clear(): SendEpoch[] {
    return this.epochs.splice(0);
  }
}

/** An epoch as its receiver counts it. */
export interface ReceivedEpoch {
  /** Set when P_BARRIER came. */
  barrier: number | undefined;
  size: number;
  active: number;
  bytes: number;
}

/** When a receiver flushes for barriers that nobody is known to wait for. All of it 0: at once. */
export interface FlushPatience {
  readonly delayMs: number;
  readonly writes: number;
  readonly bytes: number;
}

/**
 * The receiver's side: counts what arrives between barriers, and acknowledges a barrier, in order, when every write of the
 * epoch is finished and flushed. One flush serves all epochs that are finished when it begins. A peer that says when it
 * waits for an acknowledgement (`hurry`) allows to collect epochs for a while: flushing each would write the same
 * pages to the disk again and again, and every flush costs the writes beside it.
 */
export class ReceivedEpochs {
  readonly #flush: (done: (ok: boolean) => void) => void;
  readonly #acknowledge: (barrier: number, setSize: number) => void;
  readonly #patience: () => FlushPatience;
  readonly #now: () => number;
  #current: ReceivedEpoch = newEpoch();
  #closed: ReceivedEpoch[] = [];
  /** Somebody waits for this one and all before it. */
  #wanted: ReceivedEpoch | undefined;
  /** When the finished ones are flushed at the latest. */
  #dueMs = Infinity;
  /** `failed`: nothing is acknowledged any more on this connection. */
  #state: "idle" | "flushing" | "failed" = "idle";
  /** Changes with every connection; answers to an older one are dropped. */
  #generation = 0;

  constructor(
    flush: (done: (ok: boolean) => void) => void,
    acknowledge: (barrier: number, setSize: number) => void,
    patience: () => FlushPatience,
    now: () => number,
  ) {
    this.#flush = flush;
    this.#acknowledge = acknowledge;
    this.#patience = patience;
    this.#now = now;
  }

  /** Epochs whose barrier has come but is not acknowledged. */
  get waiting(): number {
    return this.#closed.length;
  }

  get dueMs(): number {
    return this.#dueMs;
  }

  /** Every epoch before this one is acknowledged. */
  isOldest(epoch: ReceivedEpoch): boolean {
    return this.#closed.length === 0 || this.#closed[0] === epoch;
  }

  /** A write arrived; failed ones count too. */
  begin(bytes: number): ReceivedEpoch {
    this.#current.size++;
    this.#current.active++;
    this.#current.bytes += bytes;
    return this.#current;
  }

  /** A write is finished and its own ack is sent. */
  end(epoch: ReceivedEpoch): void {
    epoch.active--;
    if (epoch.barrier !== undefined && epoch.active === 0) this.#advance();
  }

  barrier(barrier: number): void {
    const epoch = this.#current;
    this.#current = newEpoch();
    if (epoch.size === 0) return; // never acknowledged, never sent by a kernel
    epoch.barrier = barrier;
    this.#closed.push(epoch);
    this.#advance();
  }

  /** The peer waits for the acknowledgement of everything that was closed so far. */
  hurry(): void {
    this.#wanted = this.#closed.at(-1) ?? this.#wanted;
    this.#advance();
  }

  tick(): void {
    if (this.#now() >= this.#dueMs) this.#advance();
  }

  reset(): void {
    this.#generation++;
    this.#current = newEpoch();
    this.#closed = [];
    this.#wanted = undefined;
    this.#dueMs = Infinity;
    this.#state = "idle";
  }

  #advance(): void {
    if (this.#state !== "idle") return;
    let ready = 0;
    let writes = 0;
    let bytes = 0;
    for (const epoch of this.#closed) {
      if (epoch.active > 0) break;
      ready++;
      writes += epoch.size;
      bytes += epoch.bytes;
    }
    if (ready === 0) return;
    const patience = this.#patience();
    const due =
      this.#wanted !== undefined ||
      writes >= patience.writes ||
      bytes >= patience.bytes ||
      this.#now() >= this.#dueMs ||
      patience.delayMs === 0;
    if (due) this.#run(ready);
    else if (this.#dueMs === Infinity) this.#dueMs = this.#now() + patience.delayMs;
  }

  #run(ready: number): void {
    const generation = this.#generation;
    this.#dueMs = Infinity;
    this.#state = "flushing";
    this.#flush((ok) => {
      if (generation !== this.#generation) return;
      this.#state = ok ? "idle" : "failed";
      if (!ok) return;
      for (const epoch of this.#closed.splice(0, ready)) {
        if (epoch === this.#wanted) this.#wanted = undefined;
        this.#acknowledge(epoch.barrier as number, epoch.size);
        if (generation !== this.#generation) return;
      }
      this.#advance();
    });
  }
}

function newEpoch(): ReceivedEpoch {
  return { barrier: undefined, size: 0, active: 0, bytes: 0 };
}
