import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { createServer, connect as netConnect, type Server, type Socket } from "node:net";
import { ErrorCode, HaError } from "../base/errors.ts";
import { adoptSocket } from "../drivers/in-place-socket.ts";
import { SlabPool } from "../drivers/slab.ts";
import type { BlockBackend } from "./backend.ts";
import { type ConnectionHost, NbdConnection } from "./connection.ts";
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  NBD_PAYLOAD_MAX,
} from "./constants.ts";
import type { ExportInfo } from "./handshake.ts";

/** Clients at once. Each may hold some megabytes, so this bounds the server's memory. */
export const NBD_CONNECTIONS_MAX = 16;
/** A client that has not chosen an export by then is dropped. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** How long `close` waits for requests under way before it cuts the connections. */
const CLOSE_GRACE_MS = 3000;

/** One device under one name. */
export interface NbdExport {
  readonly name: string;
  readonly backend: BlockBackend;
  /** For people; shown by `nbdinfo`. */
  readonly description?: string;
}

export interface NbdServerOptions {
  /** Path of the Unix socket; a stale one is removed, a live one is an error. It gets mode 0600. */
  readonly path: string;
  /** What is offered; a client that names no export gets the first. */
  readonly exports: readonly NbdExport[];
  /** The number of clients that use an export changed. */
  readonly onConnectionsChanged?: (count: number) => void;
  /** A client was refused or dropped for what it sent; for a rate-limited log. */
  readonly onRefused?: (reason: string) => void;
  /** False: receive by data events, with a copy, as if this Node did not let a socket read into our memory. */
  readonly receiveInPlace?: boolean;
}

/** Serves block devices to NBD clients on a Unix socket. */
export class NbdServer {
  readonly path: string;
  readonly #options: NbdServerOptions;
  readonly #server: Server;
  readonly #pool: SlabPool = new SlabPool();
  readonly #connections: Set<NbdConnection> = new Set<NbdConnection>();
  #users = 0;
  #closing: Promise<void> | undefined = undefined;
  #onEmpty: (() => void) | undefined = undefined;

  private constructor(options: NbdServerOptions) {
    this.path = options.path;
    this.#options = options;
    this.#server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /**
   * Listens on `options.path`.
   * @throws HaError HA_DAEMON_RUNNING when another process answers there, HA_STORE_IO when the path cannot be used
   */
  static async listen(options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    await removeStaleSocket(options.path);
    await new Promise<void>((resolve, reject) => {
      const failed = (error: Error): void => reject(cannotListen(options.path, error));
      server.#server.once("error", failed);
      // the mask of the moment of creation decides: nobody else may connect between bind and chmod
      const mask = process.umask(0o177);
      try {
        server.#server.listen(options.path, () => {
          server.#server.off("error", failed);
          resolve();
        });
      } finally {
        process.umask(mask);
      }
    });
    chmodSync(options.path, 0o600);
    return server;
  }

  /** Clients that have chosen an export and are not gone. */
  get connections(): number {
    return this.#users;
  }

  /**
   * Takes no new client, lets those there finish what is under way, disconnects them, removes the socket.
   * @param graceMs how long to wait for requests under way; then the connections are cut, and what the backend still
   * works on stays unanswered
   */
  close(graceMs: number = CLOSE_GRACE_MS): Promise<void> {
    this.#closing ??= this.#close(graceMs);
    return this.#closing;
  }

  async #close(graceMs: number): Promise<void> {
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    if (this.#connections.size > 0) {
      const empty = new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
      for (const connection of this.#connections) connection.shutdown("the server is closing");
      let timer: NodeJS.Timeout | undefined;
      const cut = new Promise<void>((resolve) => {
        timer = setTimeout(() => {
          for (const connection of this.#connections) connection.destroy("the server is closing");
          resolve();
        }, graceMs);
      });
      // a disk that never answers keeps its requests' memory, but must not keep a server from closing
      await Promise.race([empty, cut]);
      clearTimeout(timer);
    }
    await stopped;
  }

  #accept(accepted: Socket): void {
    if (this.#connections.size >= NBD_CONNECTIONS_MAX || this.#closing !== undefined) {
      this.#options.onRefused?.(`more than ${NBD_CONNECTIONS_MAX} clients`);
      accepted.destroy();
      return;
    }
    const timer = setTimeout(() => {
      this.#options.onRefused?.("the client did not choose an export in time");
      connection.destroy("handshake timeout");
    }, HANDSHAKE_TIMEOUT_MS);
    const host: ConnectionHost = {
      pool: this.#pool,
      exports: this.#options.exports.map(describe),
      backend: (name) => (this.#options.exports.find((e) => e.name === name) as NbdExport).backend,
      began: () => {
        clearTimeout(timer);
        this.#changeUsers(1);
      },
      ended: (gone) => {
        clearTimeout(timer);
        this.#connections.delete(gone);
        if (gone.inTransmission) this.#changeUsers(-1);
        if (this.#connections.size === 0) this.#onEmpty?.();
      },
      refused: (reason) => this.#options.onRefused?.(reason),
    };
    const connection = new NbdConnection(host);
    this.#connections.add(connection);
    const inPlace = this.#options.receiveInPlace ?? true;
    connection.start(adoptSocket(accepted, connection, { allowHalfOpen: true, inPlace }));
  }

  #changeUsers(by: number): void {
    this.#users += by;
    this.#options.onConnectionsChanged?.(this.#users);
  }
}

function describe(offer: NbdExport): ExportInfo {
  const { backend } = offer;
  const { minimum, preferred } = backend.blockSizes;
  let flags =
    NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN;
  if (backend.readOnly) flags |= NBD_FLAG_READ_ONLY;
  if (backend.canTrim) flags |= NBD_FLAG_SEND_TRIM;
  if (backend.canZeroFast) flags |= NBD_FLAG_SEND_FAST_ZERO;
  return {
    name: offer.name,
    description: offer.description ?? "",
    sizeBytes: backend.sizeBytes,
    flags,
    blockSizes: { minimum, preferred, maximum: NBD_PAYLOAD_MAX },
  };
}

/** A socket file that nobody answers on is left over from a process that died. */
async function removeStaleSocket(path: string): Promise<void> {
  try {
    if (!lstatSync(path).isSocket()) {
      throw new HaError(ErrorCode.storeIo, `${path} exists and is not a socket; remove it or choose another path`, {
        path,
      });
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  const alive = await new Promise<boolean>((resolve) => {
    const probe = netConnect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", () => resolve(false));
  });
  if (alive) {
    throw new HaError(ErrorCode.daemonRunning, `another process serves ${path}; stop it first`, { path });
  }
  unlinkSync(path);
}

function cannotListen(path: string, error: Error): HaError {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  const hint =
    code === "ENOENT"
      ? "make its folder first"
      : path.length > 100
        ? "a Unix socket's path has at most 107 bytes; choose a shorter one"
        : "check the folder's owner and mode";
  return new HaError(ErrorCode.storeIo, `cannot listen on ${path}: ${error.message}; ${hint}`, { path, code }, error);
}
