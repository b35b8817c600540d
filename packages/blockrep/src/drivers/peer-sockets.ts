import { connect, createServer, type Server, type Socket } from "node:net";
import type { SocketError } from "../core/ports.ts";
import { type Dialect, INITIAL_DIALECT } from "../wire/dialect.ts";
import { Framer } from "../wire/framer.ts";
import type { SocketKind } from "../wire/layout.ts";
import type { DataPacket, Packet } from "../wire/packets.ts";
import { adoptSocket, type InPlaceReader, onread } from "./in-place-socket.ts";
import { ReceiveMemory, ReceiveWindow } from "./receive-window.ts";
import { SendBatch } from "./send-batch.ts";
import { SlabPool } from "./slab.ts";

export interface PeerAddress {
  readonly host: string;
  readonly port: number;
}

/** What the sockets tell; each call becomes one input of the engine. */
export interface PeerSocketListener {
  /** Around packets that arrived together: what they cause is best done together too. */
  beginTurn(): void;
  endTurn(): void;
  opened(socket: number): void;
  /** @returns the id of the new socket; undefined: not wanted, close it */
  accepted(): number | undefined;
  packet(socket: number, packet: Packet): void;
  closed(socket: number, error: SocketError): void;
  sendQueue(socket: number, bytes: number): void;
}

export interface PeerSocketOptions {
  readonly local: PeerAddress;
  readonly peer: PeerAddress;
  readonly dialTimeoutMs: number;
  /** Something about listening that an operator has to know (the port is taken). */
  readonly onTrouble: (text: string) => void;
}

/** The first packet of a socket, sent by who dialled it, says what the socket is for. */
const SOCKET_OF_FIRST: Readonly<Partial<Record<Packet["kind"], SocketKind>>> = {
  P_INITIAL_DATA: "data",
  P_INITIAL_META: "meta",
};

/** Packets whose data the engine gives back. */
const LENT: Readonly<Partial<Record<Packet["kind"], true>>> = {
  P_DATA: true,
  P_DATA_REPLY: true,
  P_RS_DATA_REPLY: true,
};
/** Other fields that are views of what was received; the engine may keep them, so they get memory of their own. */
const BYTE_FIELDS = ["data", "digest", "words", "code", "challenge", "response", "probe"] as const;

interface Peer {
  readonly id: number;
  socket: Socket;
  readonly window: ReceiveWindow;
  readonly framer: Framer;
  readonly batch: SendBatch;
  sendDialect: Dialect;
  reportedQueue: number;
  /** The features are exchanged. */
  dialectKnown: boolean;
  /** Chunks that arrived while reading was paused. */
  readonly backlog: Uint8Array[];
  /** Reading was stopped, and has to be begun again. */
  stopped: boolean;
}

/** The kernel's own backlog for this listener. */
const BACKLOG = 5;
/** A listener that cannot bind tries again: the address may belong to an interface that comes up later. */
const LISTEN_RETRY_MS = 1000;
/** Time for the last acks and replies on the meta socket to leave. */
const META_DRAIN_MS = 100;
/** The engine hears of the send queue when it moved by this much. */
const QUEUE_STEP_BYTES = 256 * 1024;

/**
 * The TCP connections to the peer: dials, accepts, frames, sends in batches (one writev for all packets of one turn).
 * It decides nothing: which socket is data or meta, and which one survives a crossing, is the engine's business.
 */
export class PeerSockets {
  readonly #options: PeerSocketOptions;
  readonly #listener: PeerSocketListener;
  readonly #peers = new Map<number, Peer>();
  readonly #waiting: Peer[] = [];
  readonly #received: ReceiveMemory = new ReceiveMemory();
  readonly #sendPool: SlabPool = new SlabPool();
  #server: Server | undefined;
  #listenTimer: NodeJS.Timeout | undefined;
  #paused = false;
  #closed = false;

  constructor(options: PeerSocketOptions, listener: PeerSocketListener) {
    this.#options = options;
    this.#listener = listener;
  }

  listen(on: boolean): void {
    clearTimeout(this.#listenTimer);
    if (!on) {
      this.#server?.close();
      this.#server = undefined;
      return;
    }
    if (this.#server !== undefined || this.#closed) return;
    const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => this.#accept(socket));
    this.#server = server;
    server.on("error", (error: NodeJS.ErrnoException) => {
      if (this.#server !== server) return;
      this.#server = undefined;
      const { host, port } = this.#options.local;
      this.#options.onTrouble(`cannot listen on ${host}:${port} (${error.code ?? error.message}); trying again`);
      this.#listenTimer = setTimeout(() => this.listen(true), LISTEN_RETRY_MS);
    });
    server.listen({
      host: this.#options.local.host,
      port: this.#options.local.port,
      backlog: BACKLOG,
      exclusive: true,
    });
  }

  dial(id: number): void {
    const { local, peer, dialTimeoutMs } = this.#options;
    const entry = this.#entry(id);
    const socket = connect({
      host: peer.host,
      port: peer.port,
      localAddress: local.host,
      noDelay: true,
      onread: onread(this.#reader(entry)),
    });
    this.#adopt(entry, socket);
    const timer = setTimeout(() => this.#fail(entry, "timeout"), dialTimeoutMs);
    socket.once("connect", () => {
      clearTimeout(timer);
      this.#listener.opened(id);
    });
    socket.once("close", () => clearTimeout(timer));
  }

  setDialect(id: number, receive: Dialect, send: Dialect): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    peer.framer.dialect = receive;
    peer.sendDialect = send;
    peer.dialectKnown = true;
    // never from inside the input that told us: the packets that waited are inputs of their own
    if (peer.framer.unread > 0 || peer.backlog.length > 0) setImmediate(() => this.#deliver(peer));
  }

  send(id: number, packet: Packet): void {
    const peer = this.#peers.get(id);
    if (peer === undefined || peer.socket.destroyed) return;
    if (peer.batch.isEmpty) this.#waiting.push(peer);
    const kind = SOCKET_OF_FIRST[packet.kind];
    if (kind !== undefined) peer.framer.socket = kind;
    peer.batch.add(packet, peer.sendDialect);
  }

  /** Everything queued by `send` leaves now. @returns whether there was anything */
  flushSends(): boolean {
    if (this.#waiting.length === 0) return false;
    while (this.#waiting.length > 0) {
      const peer = this.#waiting.pop() as Peer;
      if (peer.socket.destroyed) peer.batch.close();
      else {
        peer.batch.flush(peer.socket);
        this.#reportQueue(peer);
      }
    }
    return true;
  }

  /** The engine needs these received bytes no longer. */
  releaseBytes(bytes: Uint8Array): void {
    this.#received.release(bytes);
  }

  pauseReading(on: boolean): void {
    this.#paused = on;
    for (const peer of this.#peers.values()) {
      if (peer.framer.socket !== "data") continue;
      if (on) {
        peer.stopped = true;
        peer.socket.pause();
      } else setImmediate(() => this.#deliver(peer));
    }
  }

  closeSocket(id: number): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    this.#peers.delete(id);
    if (!peer.batch.isEmpty && !peer.socket.destroyed) peer.batch.flush(peer.socket);
    peer.batch.close();
    if (peer.socket.writableLength === 0) peer.socket.destroySoon();
    // what still waits on the data socket may point into memory that is recycled once its request is completed
    else if (peer.framer.socket === "data") peer.socket.destroy();
    else {
      peer.socket.end();
      setTimeout(() => peer.socket.destroy(), META_DRAIN_MS).unref();
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.flushSends();
    this.listen(false);
    for (const id of [...this.#peers.keys()]) this.closeSocket(id);
    await Promise.resolve();
  }

  #accept(accepted: Socket): void {
    const id = this.#listener.accepted();
    if (id === undefined) {
      accepted.destroy();
      return;
    }
    const entry = this.#entry(id);
    this.#adopt(entry, adoptSocket(accepted, this.#reader(entry), { allowHalfOpen: false }));
  }

  #entry(id: number): Peer {
    const window = new ReceiveWindow(this.#received);
    const framer = new Framer({ allocate: window.allocate });
    return {
      id,
      socket: undefined as unknown as Socket, // set by #adopt, before anything can arrive
      window,
      framer,
      batch: new SendBatch(this.#sendPool),
      sendDialect: INITIAL_DIALECT,
      reportedQueue: 0,
      dialectKnown: false,
      backlog: [],
      stopped: false,
    };
  }

  #adopt(peer: Peer, socket: Socket): void {
    peer.socket = socket;
    this.#peers.set(peer.id, peer);
    socket.on("drain", () => this.#reportQueue(peer));
    socket.on("end", () => this.#fail(peer, "closed"));
    socket.on("error", (error: NodeJS.ErrnoException) => this.#fail(peer, socketError(error)));
    socket.on("close", () => this.#fail(peer, "closed"));
  }

  #reader(peer: Peer): InPlaceReader {
    return {
      buffer: () => peer.window.target(peer.framer),
      received: (chunk) => {
        // paused in the middle of a chunk, and the stream had one more under way
        if (peer.backlog.length > 0 || !peer.window.feed(peer.framer, chunk)) peer.backlog.push(new Uint8Array(chunk));
        else this.#deliver(peer);
        if (this.#holdsBack(peer)) peer.stopped = true;
        return !peer.stopped;
      },
    };
  }

  #holdsBack(peer: Peer): boolean {
    return this.#paused && peer.framer.socket === "data";
  }

  #deliver(peer: Peer): void {
    this.#listener.beginTurn();
    try {
      while (this.#peers.get(peer.id) === peer && this.#deliverOne(peer));
    } finally {
      this.#listener.endTurn();
    }
    if (peer.stopped && this.#peers.get(peer.id) === peer && !this.#holdsBack(peer)) {
      peer.stopped = false;
      peer.socket.resume();
    }
  }

  /** @returns false when there is nothing more to deliver now */
  #deliverOne(peer: Peer): boolean {
    const { framer } = peer;
    if (this.#holdsBack(peer)) return false;
    // the meta socket speaks the agreed dialect from its second packet on, and that is agreed on the data socket
    if (framer.socket === "meta" && !peer.dialectKnown) return false;
    let packet: Packet | undefined;
    try {
      packet = framer.next();
    } catch {
      this.#fail(peer, "malformed");
      return false;
    }
    if (packet === undefined) {
      const chunk = peer.backlog.shift();
      if (chunk === undefined) return false;
      framer.push(chunk);
      return true;
    }
    const kind = SOCKET_OF_FIRST[packet.kind];
    if (kind !== undefined) framer.socket = kind;
    if (LENT[packet.kind] === true) this.#received.lend((packet as DataPacket).data);
    else packet = withOwnBytes(packet);
    peer.window.payloadDone();
    this.#listener.packet(peer.id, packet);
    return true;
  }

  #fail(peer: Peer, error: SocketError): void {
    if (this.#peers.get(peer.id) !== peer) return;
    this.#peers.delete(peer.id);
    peer.socket.destroy();
    this.#listener.closed(peer.id, error);
  }

  #reportQueue(peer: Peer): void {
    if (this.#peers.get(peer.id) !== peer) return;
    const bytes = peer.socket.writableLength;
    if (bytes === peer.reportedQueue) return;
    if (bytes !== 0 && Math.abs(bytes - peer.reportedQueue) < QUEUE_STEP_BYTES) return;
    peer.reportedQueue = bytes;
    this.#listener.sendQueue(peer.id, bytes);
  }
}

/** Acks, barriers and all else without bytes are returned as they are. */
function withOwnBytes(packet: Packet): Packet {
  let own: Record<string, unknown> | undefined;
  const fields = packet as unknown as Readonly<Record<string, unknown>>;
  for (const name of BYTE_FIELDS) {
    const bytes = fields[name];
    if (!(bytes instanceof Uint8Array)) continue;
    own ??= { ...fields };
    own[name] = new Uint8Array(bytes);
  }
  return own === undefined ? packet : (own as unknown as Packet);
}

function socketError(error: NodeJS.ErrnoException): SocketError {
  switch (error.code) {
    case "ECONNREFUSED":
      return "refused";
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
      return "unreachable";
    case "ECONNRESET":
    case "EPIPE":
      return "reset";
    case "ETIMEDOUT":
      return "timeout";
    default:
      return "error";
  }
}
