import { connect, createServer, type Server, type Socket } from "node:net";
import type { SocketError } from "../core/ports.ts";
import { encodeHead } from "../wire/codec.ts";
import { type Dialect, INITIAL_DIALECT } from "../wire/dialect.ts";
import { Framer } from "../wire/framer.ts";
import type { SocketKind } from "../wire/layout.ts";
import type { Packet } from "../wire/packets.ts";

export interface PeerAddress {
  readonly host: string;
  readonly port: number;
}

export interface PeerSocketListener {
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

interface Peer {
  readonly id: number;
  readonly socket: Socket;
  readonly framer: Framer;
  sendDialect: Dialect;
  corked: boolean;
  reportedQueue: number;
  /** The features are exchanged. */
  dialectKnown: boolean;
  /** Chunks that arrived while reading was paused. */
  readonly backlog: Buffer[];
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
  readonly #corked: Peer[] = [];
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
    const socket = connect({ host: peer.host, port: peer.port, localAddress: local.host, noDelay: true });
    const entry = this.#adopt(id, socket);
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
    if (!peer.corked) {
      peer.corked = true;
      peer.socket.cork();
      this.#corked.push(peer);
    }
    const kind = SOCKET_OF_FIRST[packet.kind];
    if (kind !== undefined) peer.framer.socket = kind;
    const { head, data } = encodeHead(packet, peer.sendDialect);
    peer.socket.write(head);
    if (data !== undefined) peer.socket.write(data);
  }

  /** End of a turn: everything queued by `send` leaves now. */
  flushSends(): void {
    while (this.#corked.length > 0) {
      const peer = this.#corked.pop() as Peer;
      peer.corked = false;
      if (peer.socket.destroyed) continue;
      peer.socket.uncork();
      this.#reportQueue(peer);
    }
  }

  pauseReading(on: boolean): void {
    this.#paused = on;
    for (const peer of this.#peers.values()) {
      if (peer.framer.socket !== "data") continue;
      if (on) peer.socket.pause();
      else {
        setImmediate(() => {
          this.#deliver(peer);
          if (!this.#paused) peer.socket.resume();
        });
      }
    }
  }

  closeSocket(id: number): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    this.#peers.delete(id);
    if (peer.corked) {
      peer.corked = false;
      peer.socket.uncork();
    }
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

  #accept(socket: Socket): void {
    const id = this.#listener.accepted();
    if (id === undefined) {
      socket.destroy();
      return;
    }
    this.#adopt(id, socket);
    socket.resume();
  }

  #adopt(id: number, socket: Socket): Peer {
    const peer: Peer = {
      id,
      socket,
      framer: new Framer(),
      sendDialect: INITIAL_DIALECT,
      corked: false,
      reportedQueue: 0,
      dialectKnown: false,
      backlog: [],
    };
    this.#peers.set(id, peer);
    socket.on("data", (chunk: Buffer) => {
      if (peer.framer.unread > 0) {
        // paused in the middle of a chunk, and the stream had one more under way
        peer.backlog.push(chunk);
        return;
      }
      peer.framer.push(chunk);
      this.#deliver(peer);
    });
    socket.on("drain", () => this.#reportQueue(peer));
    socket.on("end", () => this.#fail(peer, "closed"));
    socket.on("error", (error: NodeJS.ErrnoException) => this.#fail(peer, socketError(error)));
    socket.on("close", () => this.#fail(peer, "closed"));
    return peer;
  }

  #deliver(peer: Peer): void {
    while (this.#peers.get(peer.id) === peer) {
      if (this.#paused && peer.framer.socket === "data") return;
      // the meta socket speaks the agreed dialect from its second packet on, and that is agreed on the data socket
      if (peer.framer.socket === "meta" && !peer.dialectKnown) return;
      let packet: Packet | undefined;
      try {
        packet = peer.framer.next();
      } catch {
        this.#fail(peer, "malformed");
        return;
      }
      if (packet === undefined) {
        const chunk = peer.backlog.shift();
        if (chunk === undefined) return;
        peer.framer.push(chunk);
        continue;
      }
      const kind = SOCKET_OF_FIRST[packet.kind];
      if (kind !== undefined) peer.framer.socket = kind;
      this.#listener.packet(peer.id, packet);
    }
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
