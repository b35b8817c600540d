import { existsSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { type ControlReply, type ControlRequest, type ControlValue, encodeFrame, FrameReader } from "./protocol.ts";

export type ControlHandler = (
  method: string,
  params: { readonly [key: string]: ControlValue },
  signal: AbortSignal,
) => Promise<ControlValue>;

/** Unread bytes that one client may let pile up before it is dropped: a stuck monitor must not cost the daemon memory. */
const CLIENT_BACKLOG_MAX = 8 * 1024 * 1024;

/** What a client that names no topics hears of. */
const DEFAULT_TOPIC = "events";

/**
 * The daemon's side of a control socket. Requests of one client run side by side; when the client goes away, the
 * signal of its requests is aborted. Events reach every client that asked with the method "subscribe", which takes a
 * list of topics.
 */
export class ControlServer {
  readonly path: string;
  readonly #handler: ControlHandler;
  readonly #subscribers = new Map<Socket, ReadonlySet<string>>();
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;

  constructor(path: string, handler: ControlHandler) {
    this.path = path;
    this.#handler = handler;
  }

  /** @throws HaError HA_DAEMON_RUNNING when another process answers on the path; a stale socket file is removed. */
  async listen(): Promise<void> {
    mkdirSync(dirname(this.path), { recursive: true, mode: 0o755 });
    if (existsSync(this.path)) {
      if (await answers(this.path)) {
        throw new HaError(ErrorCode.daemonRunning, `another daemon answers on ${this.path}`, { path: this.path });
      }
      rmSync(this.path);
    }
    const server = createServer((socket) => this.#serve(socket));
    this.#server = server;
    const umask = process.umask(0o177); // the socket is for root alone: whoever connects commands the node
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(this.path, () => {
          server.off("error", reject);
          resolve();
        });
      });
    } finally {
      process.umask(umask);
    }
  }

  /** Somebody would hear of this topic. */
  hasSubscribers(topic: string = DEFAULT_TOPIC): boolean {
    for (const topics of this.#subscribers.values()) if (topics.has(topic)) return true;
    return false;
  }

  publish(event: string, data: ControlValue, topic: string = DEFAULT_TOPIC): void {
    if (!this.hasSubscribers(topic)) return;
    const frame = encodeFrame({ event, data });
    for (const [socket, topics] of this.#subscribers) {
      if (!topics.has(topic)) continue;
      if (socket.writableLength > CLIENT_BACKLOG_MAX) socket.destroy();
      else socket.write(frame);
    }
  }

  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of this.#sockets) socket.end();
    const grace = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, 200);
    await closed;
    clearTimeout(grace);
  }

  #serve(socket: Socket): void {
    const reader = new FrameReader();
    const gone = new AbortController();
    this.#sockets.add(socket);
    socket.on("data", (chunk: Buffer) => {
      let values: unknown[];
      try {
        values = reader.push(chunk);
      } catch {
        socket.destroy();
        return;
      }
      for (const value of values) {
        if (isRequest(value)) void this.#answer(socket, value, gone.signal);
        else socket.destroy();
      }
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.#sockets.delete(socket);
      this.#subscribers.delete(socket);
      gone.abort();
    });
  }

  async #answer(socket: Socket, request: ControlRequest, signal: AbortSignal): Promise<void> {
    let reply: ControlReply;
    try {
      if (request.method === "subscribe") this.#subscribers.set(socket, topicsOf(request.params["topics"]));
      reply = { id: request.id, result: await this.#handler(request.method, request.params, signal) };
    } catch (error) {
      reply =
        error instanceof HaError
          ? { id: request.id, error: { code: error.code, message: error.message, details: error.details } }
          : {
              id: request.id,
              error: {
                code: "HA_INTERNAL",
                message: error instanceof Error ? error.message : String(error),
                details: {},
              },
            };
    }
    if (!socket.destroyed) socket.write(encodeFrame(reply));
  }
}

function topicsOf(value: ControlValue | undefined): ReadonlySet<string> {
  return new Set(Array.isArray(value) ? value.map(String) : [DEFAULT_TOPIC]);
}

function isRequest(value: unknown): value is ControlRequest {
  if (typeof value !== "object" || value === null) return false;
  const request = value as Partial<ControlRequest>;
  return typeof request.id === "number" && typeof request.method === "string" && typeof request.params === "object";
}

async function answers(path: string): Promise<boolean> {
  const { connect } = await import("node:net");
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
