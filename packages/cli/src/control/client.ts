import { connect, type Socket } from "node:net";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { type ControlEvent, type ControlReply, type ControlValue, encodeFrame, FrameReader } from "./protocol.ts";

interface Waiting {
  readonly resolve: (value: ControlValue) => void;
  readonly reject: (error: Error) => void;
}

/** The command's side of a control socket: requests with replies, and events after `subscribe`. */
export class ControlClient {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  readonly #reader = new FrameReader();
  #nextId = 1;
  #onEvent: ((event: ControlEvent) => void) | undefined;
  #onClose: (() => void) | undefined;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#closed());
  }

  /** @throws HaError HA_DAEMON_NOT_RUNNING when nobody listens on the path. */
  static async open(path: string): Promise<ControlClient> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (cause: NodeJS.ErrnoException) => {
        const why = cause.code === "EACCES" ? "permission denied (run it as root)" : "no daemon answers there";
        reject(new HaError(ErrorCode.daemonNotRunning, `${path}: ${why}`, { path }, cause));
      });
    });
    return new ControlClient(socket, path);
  }

  /** One request on a connection of its own. */
  static async call(
    path: string,
    method: string,
    params: { readonly [key: string]: ControlValue } = {},
  ): Promise<ControlValue> {
    const client = await ControlClient.open(path);
    try {
      return await client.request(method, params);
    } finally {
      client.close();
    }
  }

  request(method: string, params: { readonly [key: string]: ControlValue } = {}): Promise<ControlValue> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(this.#lost());
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(encodeFrame({ id, method, params }));
    });
  }

  /** Hear of events, those of some topics or the daemon's usual ones, until the connection ends. */
  async subscribe(
    onEvent: (event: ControlEvent) => void,
    onClose?: () => void,
    topics?: readonly string[],
  ): Promise<void> {
    this.#onEvent = onEvent;
    this.#onClose = onClose;
    await this.request("subscribe", topics === undefined ? {} : { topics });
  }

  close(): void {
    this.#onClose = undefined;
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    let values: unknown[];
    try {
      values = this.#reader.push(chunk);
    } catch {
      this.#socket.destroy();
      return;
    }
    for (const value of values) {
      if (typeof value !== "object" || value === null) continue;
      if ("event" in value) {
        this.#onEvent?.(value as ControlEvent);
        continue;
      }
      const reply = value as ControlReply;
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.error !== undefined) {
        const { code, message, details } = reply.error;
        waiting?.reject(new HaError(code as ErrorCode, message, details as HaError["details"]));
      } else waiting?.resolve(reply.result ?? null);
    }
  }

  #closed(): void {
    for (const waiting of this.#waiting.values()) waiting.reject(this.#lost());
    this.#waiting.clear();
    this.#onClose?.();
  }

  #lost(): HaError {
    return new HaError(ErrorCode.daemonNotRunning, `${this.#path}: the daemon closed the connection`, {
      path: this.#path,
    });
  }
}
