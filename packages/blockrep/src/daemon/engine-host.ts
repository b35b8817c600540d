import { randomBytes, randomInt } from "node:crypto";
import { performance } from "node:perf_hooks";
import { assert } from "../base/assert.ts";
import type { HaError } from "../base/errors.ts";
import {
  type AdminCommand,
  type DiskGeometry,
  type EngineEvent,
  type EngineOptions,
  type EngineSink,
  Errno,
  type RandomSource,
  type ResourceSnapshot,
} from "../core/ports.ts";
import { ResourceEngine } from "../core/resource.ts";
import type { BlockStore } from "../drivers/block-store.ts";
import type { PeerSocketListener, PeerSockets } from "../drivers/peer-sockets.ts";
import type { Dialect } from "../wire/dialect.ts";
import type { Packet } from "../wire/packets.ts";

/** One volume's open devices. With internal metadata `meta` is the same store as `data`. */
export interface OpenDisk {
  readonly geometry: DiskGeometry;
  readonly data: BlockStore;
  readonly meta: BlockStore;
  close(): Promise<void>;
}

export interface HostParts {
  openDisk(volume: number): Promise<OpenDisk>;
  /** Made after the host, since sockets and engine know each other. */
  peerSockets(listener: PeerSocketListener): PeerSockets;
  runHandler(name: string, env: Readonly<Record<string, string>>): Promise<number>;
  onEvent(event: EngineEvent): void;
  /** On: take no more requests of the application. */
  onThrottle(on: boolean): void;
}

export interface CommandOutcome {
  readonly code: number;
  readonly text: string;
}

/** Called once: 0 or a Linux error number. */
export type RequestDone = (errno: number) => void;

interface Request {
  readonly done: RequestDone;
  /** Of a read: where the bytes go. */
  readonly target: Uint8Array | undefined;
}

interface Completion {
  readonly request: Request;
  readonly errno: number;
  readonly data: Uint8Array | undefined;
}

/** Longest sleep between ticks: a missed wake-up costs no more than this. */
const TICK_MAX_MS = 1000;

/** Chance from the operating system: UUIDs and challenges must be unpredictable. */
export const systemRandom: RandomSource = {
  below: (bound) => randomInt(bound),
  u64: () => randomBytes(8).readBigUInt64BE(0),
  bytes: (length) => new Uint8Array(randomBytes(length)),
};

/**
 * Drives one replication engine on the real machine. What arrived together (the requests of one read of an NBD socket,
 * the packets of one read of a peer socket) is one turn: first all of it goes through the engine, then what the engine
 * sends leaves in one system call, so that the peer works beside us, then the engine's I/O is done, and so on until
 * nothing is left. Inputs are never nested: completions wait until the engine has returned.
 */
export class EngineHost implements EngineSink {
  readonly engine: ResourceEngine;
  readonly #parts: HostParts;
  readonly #sockets: PeerSockets;
  readonly #disks = new Map<number, OpenDisk>();
  readonly #closing = new Map<number, Promise<void>>();
  /** By request id, which is used again as soon as the request is answered. */
  readonly #requests: (Request | undefined)[] = [];
  readonly #freeRequests: number[] = [];
  readonly #commands = new Map<number, (outcome: CommandOutcome) => void>();
  /** Operations that the engine asked for in this turn, in the order of its calls. */
  #operations: (() => void)[] = [];
  #completions: Completion[] = [];
  /** Inputs that came while the engine ran. */
  #inputs: (() => void)[] = [];
  #inEngine = false;
  #turns = 0;
  /** The request whose input runs: a read that starts in it reads to where its bytes are wanted. */
  #reading: Request | undefined;
  #nextCommand = 1;
  #timer: NodeJS.Timeout | undefined;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #stopped = false;

  constructor(options: EngineOptions, parts: HostParts) {
    this.#parts = parts;
    this.engine = new ResourceEngine(options, this, systemRandom, performance.now());
    this.#sockets = parts.peerSockets({
      beginTurn: () => this.beginTurn(),
      endTurn: () => this.endTurn(),
      opened: (socket) => this.#input(() => this.engine.socketOpened(socket)),
      accepted: () => {
        let id: number | undefined;
        this.#input(() => {
          id = this.engine.socketAccepted();
        });
        return id;
      },
      packet: (socket, packet) => this.#packet(socket, packet),
      closed: (socket, error) => this.#input(() => this.engine.socketClosed(socket, error)),
      sendQueue: (socket, bytes) => this.#input(() => this.engine.sendQueue(socket, bytes)),
    });
    this.#schedule();
  }

  /** Requests follow that came together; each call is matched by one of `endTurn`. */
  beginTurn(): void {
    if (this.#turns++ > 0 || this.#stopped) return;
    this.#inEngine = true;
    this.engine.tick(performance.now());
    this.#inEngine = false;
  }

  endTurn(): void {
    if (this.#turns > 1) {
      this.#turns--;
      return;
    }
    try {
      this.#work();
    } finally {
      this.#turns = 0;
    }
    this.#schedule();
  }

  command(request: AdminCommand): Promise<CommandOutcome> {
    return new Promise((resolve) => {
      const id = this.#nextCommand++;
      this.#commands.set(id, resolve);
      this.#input(() => this.engine.command(id, request));
    });
  }

  /** Fills `target`. */
  read(volume: number, sector: number, target: Uint8Array, done: RequestDone): void {
    const request: Request = { done, target };
    const id = this.#request(request);
    this.#input(() => {
      this.#reading = request;
      this.engine.read(id, volume, sector, target.length);
      this.#reading = undefined;
    });
  }

  write(volume: number, sector: number, data: Uint8Array, fua: boolean, done: RequestDone): void {
    const id = this.#request({ done, target: undefined });
    if (this.#inEngine || this.#stopped) {
      this.#input(() => this.engine.write(id, volume, sector, data, fua));
      return;
    }
    this.beginTurn();
    this.#inEngine = true;
    try {
      this.engine.write(id, volume, sector, data, fua);
    } finally {
      this.#inEngine = false;
      this.endTurn();
    }
  }

  flush(volume: number, done: RequestDone): void {
    const id = this.#request({ done, target: undefined });
    this.#input(() => this.engine.flush(id, volume));
  }

  discard(volume: number, sector: number, lengthBytes: number, done: RequestDone): void {
    const id = this.#request({ done, target: undefined });
    this.#input(() => this.engine.discard(id, volume, sector, lengthBytes));
  }

  writeZeroes(volume: number, sector: number, lengthBytes: number, mayUnmap: boolean, done: RequestDone): void {
    const id = this.#request({ done, target: undefined });
    this.#input(() => this.engine.writeZeroes(id, volume, sector, lengthBytes, mayUnmap));
  }

  deviceOpeners(volume: number, count: number): void {
    this.#input(() => this.engine.deviceOpeners(volume, count));
  }

  reconfigure(options: EngineOptions): void {
    this.#input(() => this.engine.reconfigure(options));
  }

  suspectPeer(): void {
    this.#input(() => this.engine.suspectPeer());
  }

  snapshot(): ResourceSnapshot {
    return this.engine.snapshot();
  }

  /** Stop ticking and close what is open; the engine has been brought down before. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#sockets.close();
    for (const volume of [...this.#disks.keys()]) this.closeDisk(volume);
    await Promise.all(this.#closing.values());
  }

  // ------------------------------------------------------------------------------------------------ sink: disk

  openDisk(volume: number): void {
    const previous = this.#closing.get(volume) ?? Promise.resolve();
    previous
      .then(() => this.#parts.openDisk(volume))
      .then(
        (disk) => {
          this.#disks.set(volume, disk);
          this.#input(() => this.engine.diskOpened(volume, undefined, disk.geometry));
        },
        (error: unknown) => {
          const reason = error instanceof Error ? error.message : String(error);
          this.#input(() => this.engine.diskOpened(volume, reason, undefined));
        },
      );
  }

  closeDisk(volume: number): void {
    const disk = this.#disks.get(volume);
    if (disk === undefined) return;
    this.#disks.delete(volume);
    const closing = disk.close().finally(() => {
      if (this.#closing.get(volume) === closing) this.#closing.delete(volume);
    });
    this.#closing.set(volume, closing);
  }

  readData(ioId: number, volume: number, sector: number, lengthBytes: number): void {
    const wanted = this.#reading?.target;
    const target = wanted?.length === lengthBytes ? wanted : Buffer.allocUnsafeSlow(lengthBytes);
    this.#operations.push(() => this.#read(ioId, this.#disks.get(volume)?.data, sector * 512, target));
  }

  writeData(ioId: number, volume: number, sector: number, bytes: Uint8Array, fua: boolean): void {
    this.#operations.push(() => {
      const store = this.#disks.get(volume)?.data;
      if (store === undefined) this.#ioDone(ioId, EIO);
      else if (fua) {
        store.write(sector * 512, bytes, (error) => {
          if (error !== undefined) this.#ioDone(ioId, errnoOf(error));
          else store.flush((flushError) => this.#ioDone(ioId, errnoOf(flushError)));
        });
      } else store.write(sector * 512, bytes, (error) => this.#ioDone(ioId, errnoOf(error)));
    });
  }

  discardData(ioId: number, volume: number, sector: number, lengthBytes: number): void {
    this.#operations.push(() => {
      const store = this.#disks.get(volume)?.data;
      if (store === undefined) this.#ioDone(ioId, EIO);
      else store.discard(sector * 512, lengthBytes, (error) => this.#ioDone(ioId, errnoOf(error)));
    });
  }

  zeroData(ioId: number, volume: number, sector: number, lengthBytes: number, mayUnmap: boolean): void {
    this.#operations.push(() => {
      const store = this.#disks.get(volume)?.data;
      if (store === undefined) this.#ioDone(ioId, EIO);
      else if (mayUnmap) store.discard(sector * 512, lengthBytes, (error) => this.#ioDone(ioId, errnoOf(error)));
      else store.zero(sector * 512, lengthBytes, (error) => this.#ioDone(ioId, errnoOf(error)));
    });
  }

  flushData(ioId: number, volume: number): void {
    this.#operations.push(() => this.#flush(ioId, this.#disks.get(volume)?.data));
  }

  readMeta(ioId: number, volume: number, byteOffset: number, lengthBytes: number): void {
    const target = Buffer.allocUnsafeSlow(lengthBytes);
    this.#operations.push(() => this.#read(ioId, this.#disks.get(volume)?.meta, byteOffset, target));
  }

  writeMeta(ioId: number, volume: number, byteOffset: number, bytes: Uint8Array): void {
    this.#operations.push(() => {
      const store = this.#disks.get(volume)?.meta;
      if (store === undefined) this.#ioDone(ioId, EIO);
      else store.write(byteOffset, bytes, (error) => this.#ioDone(ioId, errnoOf(error)));
    });
  }

  flushMeta(ioId: number, volume: number): void {
    this.#operations.push(() => this.#flush(ioId, this.#disks.get(volume)?.meta));
  }

  #read(ioId: number, store: BlockStore | undefined, offset: number, target: Uint8Array): void {
    if (store === undefined) {
      this.#ioDone(ioId, EIO);
      return;
    }
    store.read(offset, target, (error) => {
      this.#ioDone(ioId, errnoOf(error), error === undefined ? target : undefined);
    });
  }

  #flush(ioId: number, store: BlockStore | undefined): void {
    if (store === undefined) this.#ioDone(ioId, EIO);
    else store.flush((error) => this.#ioDone(ioId, errnoOf(error)));
  }

  #ioDone(ioId: number, errno: number, bytes?: Uint8Array): void {
    if (this.#stopped) return;
    if (this.#inEngine) {
      this.#inputs.push(() => this.#ioDone(ioId, errno, bytes));
      return;
    }
    this.beginTurn();
    this.#inEngine = true;
    try {
      this.engine.ioDone(ioId, errno, bytes);
    } finally {
      this.#inEngine = false;
      this.endTurn();
    }
  }

  // --------------------------------------------------------------------------------------------- sink: network

  dial(socketId: number): void {
    this.#sockets.dial(socketId);
  }

  listen(on: boolean): void {
    this.#sockets.listen(on);
  }

  closeSocket(socketId: number): void {
    this.#sockets.closeSocket(socketId);
  }

  setDialect(socketId: number, receive: Dialect, send: Dialect): void {
    this.#sockets.setDialect(socketId, receive, send);
  }

  send(socketId: number, packet: Packet): void {
    this.#sockets.send(socketId, packet);
  }

  throttle(what: "application" | "data-socket", on: boolean): void {
    if (what === "application") this.#parts.onThrottle(on);
    else this.#sockets.pauseReading(on);
  }

  releaseBytes(bytes: Uint8Array): void {
    this.#sockets.releaseBytes(bytes);
  }

  // ------------------------------------------------------------------------------------------------- sink: rest

  complete(id: number, errno: number, data?: Uint8Array): void {
    const request = this.#requests[id];
    if (request === undefined) return;
    this.#requests[id] = undefined;
    this.#freeRequests.push(id);
    this.#completions.push({ request, errno, data });
  }

  commandDone(command: number, code: number, text: string): void {
    const resolve = this.#commands.get(command);
    this.#commands.delete(command);
    resolve?.({ code, text });
  }

  runHandler(handler: number, name: string, env: Readonly<Record<string, string>>): void {
    this.#parts.runHandler(name, env).then(
      (exitCode) => this.#input(() => this.engine.handlerDone(handler, exitCode)),
      () => this.#input(() => this.engine.handlerDone(handler, 127)),
    );
  }

  event(event: EngineEvent): void {
    this.#parts.onEvent(event);
  }

  // ------------------------------------------------------------------------------------------------------ inputs

  #request(request: Request): number {
    const id = this.#freeRequests.pop() ?? this.#requests.length;
    this.#requests[id] = request;
    return id;
  }

  #input(input: () => void): void {
    if (this.#stopped) return;
    if (this.#inEngine) {
      this.#inputs.push(input);
      return;
    }
    this.beginTurn();
    this.#inEngine = true;
    try {
      input();
    } finally {
      this.#inEngine = false;
      this.endTurn();
    }
  }

  #packet(socket: number, packet: Packet): void {
    if (this.#stopped) return;
    assert(!this.#inEngine && this.#turns > 0, "packets come in a turn");
    this.#inEngine = true;
    try {
      this.engine.packetReceived(socket, packet);
    } finally {
      this.#inEngine = false;
    }
  }

  /** Everything that the inputs of this turn caused, until nothing is left. */
  #work(): void {
    for (;;) {
      const sent = this.#sockets.flushSends();
      if (this.#operations.length > 0) {
        const operations = this.#operations;
        this.#operations = [];
        for (const operation of operations) operation();
      } else if (this.#completions.length > 0) {
        const completions = this.#completions;
        this.#completions = [];
        for (const { request, errno, data } of completions) {
          if (data !== undefined && data !== request.target) request.target?.set(data);
          request.done(errno);
        }
      } else if (this.#inputs.length > 0) {
        const inputs = this.#inputs;
        this.#inputs = [];
        for (const input of inputs) this.#input(input);
      } else if (!sent) return;
    }
  }

  #schedule(): void {
    if (this.#stopped) return;
    const now = performance.now();
    const dueMs = Math.min(this.engine.nextDeadlineMs(), now + TICK_MAX_MS);
    // a timer that fires somewhat early only ticks in vain; re-arming it for each request would cost more
    if (this.#timer !== undefined && this.#timerDueMs <= dueMs) return;
    clearTimeout(this.#timer);
    this.#timerDueMs = dueMs;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#input(() => {});
      },
      Math.max(0, Math.ceil(dueMs - now)),
    );
  }
}

const EIO = Errno.io;

/** A store's error as the number that the engine passes on: only "no space" is told apart from an I/O error. */
function errnoOf(error: HaError | undefined): number {
  if (error === undefined) return Errno.ok;
  return error.details["errno"] === "ENOSPC" ? Errno.noSpace : EIO;
}
