import { type EngineSink, Errno, type IoId } from "./ports.ts";

export type IoCallback = (errno: number, bytes?: Uint8Array) => void;

/** One kind of flush: one running, one waiting, and the waiting one covers any number of requests. */
interface FlushQueue {
  running: IoCallback[] | undefined;
  waiting: IoCallback[];
}

/**
 * The backing device as the engine uses it: gives every operation an id, merges flushes, and answers everything with an
 * error once the disk was given up, so that nobody waits for a device that does not answer.
 */
export class Disk {
  readonly #sink: EngineSink;
  readonly #volume: number;
  readonly #nextId: () => IoId;
  readonly #later: (fn: () => void) => void;
  readonly #onFlushError: (errno: number) => void;
  readonly #pending: Map<IoId, IoCallback> = new Map();
  #data: FlushQueue = { running: undefined, waiting: [] };
  #meta: FlushQueue = { running: undefined, waiting: [] };
  #open = false;
  /** One flush serves data and metadata. */
  internalMeta = true;
  readSectors = 0;
  writtenSectors = 0;

  constructor(
    sink: EngineSink,
    volume: number,
    nextId: () => IoId,
    later: (fn: () => void) => void,
    onFlushError: (errno: number) => void,
  ) {
    this.#sink = sink;
    this.#volume = volume;
    this.#nextId = nextId;
    this.#later = later;
    this.#onFlushError = onFlushError;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** The operation that waits longest; ids grow. Undefined: none waits. */
  get oldestPending(): IoId | undefined {
    for (const id of this.#pending.keys()) return id;
    return undefined;
  }

  /** The newest operation so far. */
  lastIo: IoId = 0;

  get pendingCount(): number {
    return this.#pending.size;
  }

  open(internalMeta: boolean): void {
    this.#open = true;
    this.internalMeta = internalMeta;
    this.#data = { running: undefined, waiting: [] };
    this.#meta = { running: undefined, waiting: [] };
  }

  /** Gives the device up. What runs is answered with EIO now; its late answers are ignored. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    const callbacks = [...this.#pending.values()];
    this.#pending.clear();
    const waiting = [...this.#data.waiting, ...this.#meta.waiting];
    this.#data.waiting = [];
    this.#meta.waiting = [];
    for (const callback of [...callbacks, ...waiting]) this.#later(() => callback(Errno.io));
  }

  read(sector: number, lengthBytes: number, done: IoCallback): void {
    const id = this.#start(done);
    if (id === undefined) return;
    this.readSectors += lengthBytes >>> 9;
    this.#sink.readData(id, this.#volume, sector, lengthBytes);
  }

  write(sector: number, bytes: Uint8Array, fua: boolean, done: IoCallback): void {
    const id = this.#start(done);
    if (id === undefined) return;
    this.writtenSectors += bytes.length >>> 9;
    this.#sink.writeData(id, this.#volume, sector, bytes, fua);
  }

  discard(sector: number, lengthBytes: number, done: IoCallback): void {
    const id = this.#start(done);
    if (id !== undefined) this.#sink.discardData(id, this.#volume, sector, lengthBytes);
  }

  zero(sector: number, lengthBytes: number, mayUnmap: boolean, done: IoCallback): void {
    const id = this.#start(done);
    if (id !== undefined) this.#sink.zeroData(id, this.#volume, sector, lengthBytes, mayUnmap);
  }

  readMeta(byteOffset: number, lengthBytes: number, done: IoCallback): void {
    const id = this.#start(done);
    if (id !== undefined) this.#sink.readMeta(id, this.#volume, byteOffset, lengthBytes);
  }

  writeMeta(byteOffset: number, bytes: Uint8Array, done: IoCallback): void {
    const id = this.#start(done);
    if (id !== undefined) this.#sink.writeMeta(id, this.#volume, byteOffset, bytes);
  }

  /** Done when every write that was complete at the time of the call is on stable storage. */
  flush(done: IoCallback): void {
    this.#flush(this.#data, done);
  }

  flushMeta(done: IoCallback): void {
    this.#flush(this.internalMeta ? this.#data : this.#meta, done);
  }

  /** The driver's answer. */
  ioDone(id: IoId, errno: number, bytes?: Uint8Array): void {
    const callback = this.#pending.get(id);
    if (callback === undefined) return;
    this.#pending.delete(id);
    callback(errno, bytes);
  }

  owns(id: IoId): boolean {
    return this.#pending.has(id);
  }

  #start(done: IoCallback): IoId | undefined {
    if (!this.#open) {
      this.#later(() => done(Errno.io));
      return undefined;
    }
    const id = this.#nextId();
    this.lastIo = id;
    this.#pending.set(id, done);
    return id;
  }

  #flush(queue: FlushQueue, done: IoCallback): void {
    if (!this.#open) {
      this.#later(() => done(Errno.io));
      return;
    }
    queue.waiting.push(done);
    if (queue.running === undefined) this.#runFlush(queue);
  }

  #runFlush(queue: FlushQueue): void {
    const batch = queue.waiting;
    queue.running = batch;
    queue.waiting = [];
    const id = this.#start((errno) => this.#flushDone(queue, batch, errno)) as IoId;
    if (queue === this.#meta) this.#sink.flushMeta(id, this.#volume);
    else this.#sink.flushData(id, this.#volume);
  }

  #flushDone(queue: FlushQueue, batch: IoCallback[], errno: number): void {
    queue.running = undefined;
    // The page cache forgets after a failed fdatasync that anything was dirty: a second one that succeeds proves nothing.
    if (errno !== 0 && this.#open) this.#onFlushError(errno);
    for (const callback of batch) callback(errno);
    if (queue.waiting.length > 0 && queue.running === undefined && this.#open) this.#runFlush(queue);
  }
}
