import { Prng } from "@hacluster/blockrep/base";
import { NET_DEFAULTS } from "@hacluster/blockrep/unstable/core/net-defaults";
import type {
  AdminCommand,
  EngineEvent,
  EngineOptions,
  EngineSink,
  ResourceSnapshot,
  VolumeOptions,
  VolumeSnapshot,
} from "@hacluster/blockrep/unstable/core/ports";
import { ResourceEngine } from "@hacluster/blockrep/unstable/core/resource";
import { recoverAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { initialisedAl, type MetaRegion } from "@hacluster/blockrep/unstable/meta/create";
import { layoutFor, type MetaLayout } from "@hacluster/blockrep/unstable/meta/layout";
import {
  decodeSuperblock,
  encodeSuperblock,
  freshSuperblock,
  MdFlag,
  type Superblock,
} from "@hacluster/blockrep/unstable/meta/superblock";
import { encodePacket } from "@hacluster/blockrep/unstable/wire/codec";
import { type Dialect, INITIAL_DIALECT } from "@hacluster/blockrep/unstable/wire/dialect";
import { Framer } from "@hacluster/blockrep/unstable/wire/framer";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import type { VirtualClock } from "./virtual-clock.ts";

/** Size of a test's device unless it says otherwise: 8 MiB, as in the recorded conversations (2038 bits). */
export const DEVICE_SECTORS = 16384;

export type NetOverrides = Partial<EngineOptions["net"]>;
export type DiskOverrides = Partial<VolumeOptions["disk"]>;

export interface NodeOptions {
  readonly net?: NetOverrides;
  readonly disk?: DiskOverrides;
  readonly engine?: Partial<EngineOptions>;
  /** Sectors of the backing devices, metadata included; one volume per entry. */
  readonly devices?: readonly number[];
}

export function engineOptions(options: NodeOptions): EngineOptions {
  const devices = options.devices ?? [DEVICE_SECTORS];
  return {
    resource: "r0",
    net: {
      ...NET_DEFAULTS,
      connectIntMs: 1000,
      ...options.net,
    },
    volumes: devices.map((_, volume) => ({
      volume,
      minor: volume,
      disk: {
        meta: { kind: "internal" },
        sizeSectors: 0,
        onIoError: "detach",
        fencing: "dont-care",
        alExtents: 257,
        diskFlushes: true,
        mdFlushes: true,
        resyncRateKib: 1_000_000,
        cPlanAhead: 0,
        cDelayTarget: 10,
        cFillTargetSectors: 100,
        cMaxRateKib: 1_000_000,
        cMinRateKib: 250,
        diskTimeoutMs: 0,
        ...options.disk,
      },
    })),
    onNoDataAccessible: "io-error",
    handlers: [],
    protocolMin: 100,
    protocolMax: 101,
    ...options.engine,
  };
}

/** Where a node's sockets lead. */
export interface Wire {
  dial(from: EngineNode, socket: number): void;
  closed(from: EngineNode, socket: number): void;
  send(from: EngineNode, socket: number, packet: Packet, encoded: Uint8Array): void;
}

/** An engine on disks in memory, in virtual time. What it says and what happens to it is on record. */
export class EngineNode implements EngineSink {
  readonly name: string;
  readonly clock: VirtualClock;
  readonly engine: ResourceEngine;
  readonly wire: Wire;
  readonly layouts: readonly MetaLayout[];
  /** Contents of the backing devices; the tests may look and write here. */
  readonly disks: readonly Uint8Array[];
  readonly sent: Packet[] = [];
  readonly events: EngineEvent[] = [];
  readonly handlerCalls: string[] = [];
  /** Exit codes of handlers; a number, or a promise-like that the test resolves by calling the stored function. */
  handler: (name: string) => number | undefined = () => 0;
  readonly openHandlers: Map<string, (exitCode: number) => void> = new Map();
  listening = false;
  /** Operations on data of this kind fail, or wait until the test lets them go. */
  failing: "read" | "write" | "flush" | undefined;
  holding = false;
  readonly #held: (() => void)[] = [];
  readonly #framers: Map<number, Framer> = new Map();
  readonly #dialects: Map<number, Dialect> = new Map();
  readonly #requests: Map<number, (errno: number, data?: Uint8Array) => void> = new Map();
  readonly #commands: Map<number, (code: number, text: string) => void> = new Map();
  #last = 0;
  #armed = Infinity;
  dataReads = 0;
  throttled: Set<string> = new Set();

  constructor(name: string, clock: VirtualClock, wire: Wire, options: NodeOptions, seed: number) {
    this.name = name;
    this.clock = clock;
    this.wire = wire;
    const devices = options.devices ?? [DEVICE_SECTORS];
    this.layouts = devices.map((sectors) => layoutFor("internal", sectors));
    this.disks = devices.map((sectors) => new Uint8Array(sectors * 512));
    const prng = new Prng(seed);
    const random = {
      below: (n: number): number => prng.below(n),
      u64: (): bigint => prng.u64(),
      bytes: (n: number): Uint8Array => prng.bytes(n),
    };
    this.engine = new ResourceEngine(engineOptions(options), this, random, clock.nowMs);
  }

  // Metadata

  #put(volume: number, region: MetaRegion): void {
    const disk = this.disks[volume] as Uint8Array;
    if ("zero" in region) disk.fill(0, region.offset, region.offset + region.zero);
    else disk.set(region.bytes, region.offset);
  }

  /** create-md; with `synced` as after an initial sync with these fields. */
  createMd(synced?: Partial<Superblock>, volume = 0): void {
    const layout = this.layouts[volume] as MetaLayout;
    for (const region of initialisedAl(layout)) this.#put(volume, region);
    this.#put(volume, { offset: layout.bitmapSector * 512, zero: layout.bitmapSectors * 512 });
    const flags = synced === undefined ? {} : { flags: MdFlag.alClean | MdFlag.consistent | MdFlag.wasUpToDate };
    const size = synced === undefined ? {} : { laSizeSectors: layout.dataSectorsMax };
    const superblock = { ...freshSuperblock(layout, 1n), ...flags, ...size, ...synced };
    this.#put(volume, { offset: layout.superblockSector * 512, bytes: encodeSuperblock(superblock) });
  }

  superblock(volume = 0): Superblock {
    const at = (this.layouts[volume] as MetaLayout).superblockSector * 512;
    return decodeSuperblock((this.disks[volume] as Uint8Array).subarray(at, at + 4096));
  }

  applyAl(volume = 0): void {
    const layout = this.layouts[volume] as MetaLayout;
    const disk = this.disks[volume] as Uint8Array;
    const recovery = recoverAl(
      this.superblock(volume),
      disk.subarray(layout.alSector * 512, layout.superblockSector * 512),
      layout,
    );
    for (const region of [...recovery.bitmapRegions, ...recovery.regions]) this.#put(volume, region);
  }

  // Inputs

  input(fn: () => void): void {
    this.engine.tick(this.clock.nowMs);
    fn();
    this.#arm();
  }

  #arm(): void {
    const next = this.engine.nextDeadlineMs();
    if (next === Infinity || next >= this.#armed) return;
    this.#armed = next;
    this.clock.at(Math.max(next, this.clock.nowMs), () => {
      if (this.#armed !== next) return;
      this.#armed = Infinity;
      this.input(() => {});
    });
  }

  /** Resolved in virtual time: look at `code` after the clock ran. */
  command(request: AdminCommand): { code: number | undefined; text: string } {
    const outcome: { code: number | undefined; text: string } = { code: undefined, text: "" };
    const id = ++this.#last;
    this.#commands.set(id, (code, text) => {
      outcome.code = code;
      outcome.text = text;
    });
    this.input(() => this.engine.command(id, request));
    return outcome;
  }

  #request(run: (id: number) => void, after: () => void): { errno: number | undefined; data: Uint8Array | undefined } {
    const outcome: { errno: number | undefined; data: Uint8Array | undefined } = { errno: undefined, data: undefined };
    const id = ++this.#last;
    this.#requests.set(id, (errno, data) => {
      outcome.errno = errno;
      outcome.data = data === undefined ? undefined : data.slice();
      after();
    });
    this.input(() => run(id));
    return outcome;
  }

  /** Writes `sectors` sectors of `fill`. Its memory is scribbled over as soon as the write is complete. */
  write(
    sector: number,
    sectors: number,
    fill: number,
    options: { volume?: number; fua?: boolean } = {},
  ): { errno: number | undefined } {
    const data = new Uint8Array(sectors * 512).fill(fill);
    return this.#request(
      (id) => this.engine.write(id, options.volume ?? 0, sector, data, options.fua === true),
      () => data.fill(0xee),
    );
  }

  read(sector: number, sectors: number, volume = 0): { errno: number | undefined; data: Uint8Array | undefined } {
    return this.#request(
      (id) => this.engine.read(id, volume, sector, sectors * 512),
      () => {},
    );
  }

  flush(volume = 0): { errno: number | undefined } {
    return this.#request(
      (id) => this.engine.flush(id, volume),
      () => {},
    );
  }

  zero(sector: number, sectors: number, volume = 0): { errno: number | undefined } {
    return this.#request(
      (id) => this.engine.writeZeroes(id, volume, sector, sectors * 512, true),
      () => {},
    );
  }

  sendQueue(bytes: number): void {
    for (const [socket, framer] of this.#framers) {
      if (framer.socket === "data") this.input(() => this.engine.sendQueue(socket, bytes));
    }
  }

  /** Bytes that the peer sent on a socket. */
  receive(socket: number, encoded: Uint8Array): void {
    const framer = this.#framer(socket);
    framer.push(encoded.slice());
    for (;;) {
      framer.dialect = this.#dialects.get(socket) ?? INITIAL_DIALECT;
      const packet = framer.next();
      if (packet === undefined) return;
      if (packet.kind === "P_INITIAL_DATA") framer.socket = "data";
      if (packet.kind === "P_INITIAL_META") framer.socket = "meta";
      this.input(() => this.engine.packetReceived(socket, packet));
    }
  }

  #framer(socket: number): Framer {
    let framer = this.#framers.get(socket);
    if (framer === undefined) {
      framer = new Framer({ socket: "first" });
      this.#framers.set(socket, framer);
    }
    return framer;
  }

  get snapshot(): ResourceSnapshot {
    return this.engine.snapshot();
  }

  get volume(): VolumeSnapshot {
    return this.snapshot.volumes[0] as VolumeSnapshot;
  }

  /** Kinds of the packets sent since the record was cleared, without pings. */
  get sentKinds(): string[] {
    return this.sent.map((packet) => packet.kind).filter((kind) => kind !== "P_PING" && kind !== "P_PING_ACK");
  }

  dataOf(sector: number, sectors: number, volume = 0): Uint8Array {
    return (this.disks[volume] as Uint8Array).slice(sector * 512, (sector + sectors) * 512);
  }

  get data(): Uint8Array {
    return this.dataOf(0, (this.layouts[0] as MetaLayout).dataSectorsMax);
  }

  // Disk

  #io(ioId: number, kind: "read" | "write" | "flush", work: () => Uint8Array | undefined): void {
    const fails = this.failing === kind;
    const run = (): void => {
      const bytes = fails ? undefined : work();
      this.input(() => this.engine.ioDone(ioId, fails ? 5 : 0, bytes));
    };
    if (this.holding) this.#held.push(run);
    else this.clock.after(0, run);
  }

  /** Lets the operations go on that `holding` stopped. */
  releaseIo(): void {
    this.holding = false;
    for (const run of this.#held.splice(0)) this.clock.after(0, run);
  }

  openDisk(volume: number): void {
    const bytes = (this.disks[volume] as Uint8Array).length;
    const geometry = {
      dataDeviceBytes: bytes,
      metaDeviceBytes: bytes,
      logicalBlockSize: 512,
      physicalBlockSize: 512,
      discard: true,
    };
    this.clock.after(0, () => this.input(() => this.engine.diskOpened(volume, undefined, geometry)));
  }

  closeDisk(): void {}

  readData(ioId: number, volume: number, sector: number, lengthBytes: number): void {
    this.dataReads++;
    this.#io(ioId, "read", () => this.dataOf(sector, lengthBytes / 512, volume));
  }

  writeData(ioId: number, volume: number, sector: number, bytes: Uint8Array): void {
    this.#io(ioId, "write", () => {
      (this.disks[volume] as Uint8Array).set(bytes, sector * 512);
      return undefined;
    });
  }

  discardData(ioId: number, volume: number, sector: number, lengthBytes: number): void {
    this.zeroData(ioId, volume, sector, lengthBytes);
  }

  zeroData(ioId: number, volume: number, sector: number, lengthBytes: number): void {
    this.#io(ioId, "write", () => {
      (this.disks[volume] as Uint8Array).fill(0, sector * 512, sector * 512 + lengthBytes);
      return undefined;
    });
  }

  flushData(ioId: number): void {
    this.#io(ioId, "flush", () => undefined);
  }

  readMeta(ioId: number, volume: number, byteOffset: number, lengthBytes: number): void {
    const bytes = (this.disks[volume] as Uint8Array).slice(byteOffset, byteOffset + lengthBytes);
    this.clock.after(0, () => this.input(() => this.engine.ioDone(ioId, 0, bytes)));
  }

  writeMeta(ioId: number, volume: number, byteOffset: number, bytes: Uint8Array): void {
    this.clock.after(0, () => {
      (this.disks[volume] as Uint8Array).set(bytes, byteOffset);
      this.input(() => this.engine.ioDone(ioId, 0));
    });
  }

  flushMeta(ioId: number): void {
    this.flushData(ioId);
  }

  // Network

  dial(socketId: number): void {
    this.wire.dial(this, socketId);
  }

  listen(on: boolean): void {
    this.listening = on;
  }

  closeSocket(socketId: number): void {
    this.wire.closed(this, socketId);
  }

  setDialect(socketId: number, receive: Dialect): void {
    this.#dialects.set(socketId, receive);
  }

  send(socketId: number, packet: Packet): void {
    const framer = this.#framer(socketId);
    if (packet.kind === "P_INITIAL_DATA") framer.socket = "data";
    if (packet.kind === "P_INITIAL_META") framer.socket = "meta";
    this.sent.push(packet);
    const lasting = this.#dialects.get(socketId) ?? INITIAL_DIALECT;
    this.wire.send(this, socketId, packet, encodePacket(packet, lasting));
  }

  // Answers

  complete(request: number, errno: number, data?: Uint8Array): void {
    const done = this.#requests.get(request);
    this.#requests.delete(request);
    done?.(errno, data);
  }

  commandDone(command: number, code: number, text: string): void {
    this.#commands.get(command)?.(code, text);
    this.#commands.delete(command);
  }

  runHandler(handler: number, name: string): void {
    this.handlerCalls.push(name);
    const finish = (exitCode: number): void =>
      this.clock.after(0, () => this.input(() => this.engine.handlerDone(handler, exitCode)));
    const exitCode = this.handler(name);
    if (exitCode === undefined) this.openHandlers.set(name, finish);
    else finish(exitCode);
  }

  event(event: EngineEvent): void {
    this.events.push(event);
  }

  throttle(what: "application" | "data-socket", on: boolean): void {
    if (on) this.throttled.add(what);
    else this.throttled.delete(what);
  }

  releaseBytes(bytes: Uint8Array): void {
    bytes.fill(0xdd); // recycled: whoever still reads it reads garbage
  }
}
