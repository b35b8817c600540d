import type { Packet } from "../wire/packets.ts";
import { Admin } from "./admin.ts";
import { Connection } from "./connection.ts";
import { EngineContext } from "./context.ts";
import { OVERSLEPT_MS } from "./limits.ts";
import type {
  AdminCommand,
  CommandId,
  DiskGeometry,
  EngineOptions,
  EngineSink,
  HandlerId,
  IoId,
  RandomSource,
  RequestId,
  ResourceInputs,
  ResourceSnapshot,
  SocketError,
  SocketId,
} from "./ports.ts";
import { Errno } from "./ports.ts";
import { Volume } from "./volume.ts";

/**
 * The replication engine of one resource: everything between an application's block device, a backing disk and a peer,
 * as a machine without I/O of its own. Inputs and outputs are described in `ports.ts`.
 */
export class ResourceEngine implements ResourceInputs {
  readonly #ctx: EngineContext;
  readonly #connection: Connection;
  readonly #admin: Admin;

  constructor(options: EngineOptions, sink: EngineSink, random: RandomSource, nowMs: number) {
    this.#ctx = new EngineContext(options, sink, random, nowMs);
    this.#connection = new Connection(this.#ctx);
    for (const volume of options.volumes) {
      this.#connection.volumes.push(new Volume(this.#ctx, volume, this.#connection));
    }
    this.#admin = new Admin(this.#ctx, this.#connection);
  }

  #volume(number: number): Volume | undefined {
    return this.#connection.volumes.find((v) => v.number === number);
  }

  tick(nowMs: number): void {
    this.#ctx.nowMs = nowMs;
    const deadline = this.nextDeadlineMs();
    if (nowMs < deadline) return;
    if (nowMs - deadline > OVERSLEPT_MS) this.#ctx.awakeSinceMs = nowMs;
    this.#ctx.input(() => {
      this.#connection.tick();
      for (const v of this.#connection.volumes) v.tick();
      this.#admin.tick();
    });
  }

  nextDeadlineMs(): number {
    let next = Math.min(this.#connection.nextDeadlineMs(), this.#admin.nextDeadlineMs());
    for (const v of this.#connection.volumes) next = Math.min(next, v.nextDeadlineMs());
    return next;
  }

  #request(request: RequestId, volume: number, fn: (v: Volume) => void): void {
    const v = this.#volume(volume);
    if (v === undefined) this.#ctx.sink.complete(request, Errno.invalid);
    else this.#ctx.input(() => fn(v));
  }

  read(request: RequestId, volume: number, sector: number, lengthBytes: number): void {
    this.#request(request, volume, (v) => v.writes.read(request, sector, lengthBytes));
  }

  write(request: RequestId, volume: number, sector: number, data: Uint8Array, fua: boolean): void {
    this.#request(request, volume, (v) => v.writes.submit(request, "write", sector, data.length, data, fua));
  }

  flush(request: RequestId, volume: number): void {
    this.#request(request, volume, (v) => v.writes.flush(request));
  }

  discard(request: RequestId, volume: number, sector: number, lengthBytes: number): void {
    this.#request(request, volume, (v) => v.writes.submit(request, "discard", sector, lengthBytes, undefined, false));
  }

  writeZeroes(request: RequestId, volume: number, sector: number, lengthBytes: number, mayUnmap: boolean): void {
    const kind = mayUnmap ? "zero-unmap" : "zero";
    this.#request(request, volume, (v) => v.writes.submit(request, kind, sector, lengthBytes, undefined, false));
  }

  deviceOpeners(volume: number, count: number): void {
    const v = this.#volume(volume);
    if (v !== undefined) v.openers = count;
  }

  diskOpened(volume: number, error: string | undefined, geometry: DiskGeometry | undefined): void {
    const v = this.#volume(volume);
    if (v !== undefined) this.#ctx.input(() => v.attachment.opened(error, geometry));
  }

  ioDone(ioId: IoId, errno: number, bytes?: Uint8Array): void {
    this.#ctx.input(() => {
      for (const v of this.#connection.volumes) if (v.disk.owns(ioId)) v.disk.ioDone(ioId, errno, bytes);
    });
  }

  socketOpened(socket: SocketId): void {
    this.#ctx.input(() => this.#connection.socketOpened(socket));
  }

  socketAccepted(): SocketId | undefined {
    return this.#connection.socketAccepted();
  }

  packetReceived(socket: SocketId, packet: Packet): void {
    this.#ctx.input(() => this.#connection.packetReceived(socket, packet));
  }

  socketClosed(socket: SocketId, error: SocketError): void {
    this.#ctx.input(() => this.#connection.socketClosed(socket, error));
  }

  sendQueue(socket: SocketId, bytes: number): void {
    this.#ctx.input(() => this.#connection.sendQueue(socket, bytes));
  }

  command(command: CommandId, request: AdminCommand): void {
    this.#ctx.input(() => this.#admin.run(command, request));
  }

  handlerDone(handler: HandlerId, exitCode: number): void {
    this.#ctx.input(() => this.#connection.handlerDone(handler, exitCode));
  }

  suspectPeer(): void {
    this.#ctx.input(() => this.#connection.liveness.ping(this.#ctx.nowMs));
  }

  reconfigure(options: EngineOptions): void {
    this.#ctx.input(() => {
      this.#ctx.options = options;
      this.#connection.adopted = undefined;
      for (const { volume, disk } of options.volumes) this.#volume(volume)?.reconfigure(disk);
    });
  }

  snapshot(): ResourceSnapshot {
    const { state } = this.#connection.volume;
    return {
      resource: this.#ctx.options.resource,
      role: state.role,
      peerRole: state.peer,
      conn: state.conn,
      protocol: this.#ctx.options.net.protocol,
      agreedVersion: this.#connection.version,
      suspended: { user: state.susp, noData: state.suspNod, fencing: state.suspFen },
      pause: { user: state.userIsp, peer: state.peerIsp, dependency: state.aftrIsp },
      writeOrdering: this.#connection.volume.diskOptions.diskFlushes ? "f" : "d",
      volumes: this.#connection.volumes.map((v) => v.snapshot()),
    };
  }
}
