import type { AdminCommand, EngineEvent, EngineSink, RandomSource } from "@hacluster/blockrep/unstable/core/ports";
import { ResourceEngine } from "@hacluster/blockrep/unstable/core/resource";
import { AL_EXTENT_FREE, decodeAlBlock } from "@hacluster/blockrep/unstable/meta/activity-log-block";
import { recoverAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { initialisedAl, type MetaRegion } from "@hacluster/blockrep/unstable/meta/create";
import { layoutFor, type MetaLayout } from "@hacluster/blockrep/unstable/meta/layout";
import {
  decodeSuperblock,
  encodeSuperblock,
  freshSuperblock,
  type Superblock,
} from "@hacluster/blockrep/unstable/meta/superblock";
import type { Dialect } from "@hacluster/blockrep/unstable/wire/dialect";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import { checkMetadataTruth } from "./metadata-truth.ts";
import type { Model } from "./model.ts";
import type { Endpoint } from "./network.ts";
import { Store } from "./store.ts";
import type { World } from "./world.ts";

/** After every so many writes of metadata it is checked whether they tell the truth: a check costs a millisecond. */
const TRUTH_EVERY = 16;
/** Reads above this size do not carry bytes: filling megabytes with a few numbers would be most of a run. */
const REAL_BYTES_MAX = 16384;
/** Stands for the bytes of a large read; recognised on the way back to a disk. */
const ZEROES = new Uint8Array(1024 * 1024);
/** What a view of ZEROES really holds: sectors of the disk it was read from and their write; nothing: zeroes. */
const CONTENTS: WeakMap<Uint8Array, readonly (readonly [number, number])[]> = new WeakMap();

/** One machine: its disk, which survives, and the process on it, which may not. */
export class SimNode implements EngineSink {
  readonly world: World;
  readonly index: number;
  readonly store: Store;
  readonly layout: MetaLayout;
  engine: ResourceEngine | undefined;
  life = 0;
  machineUp = true;
  paused = false;
  listening = false;
  model: Model;
  readonly endpoints: Map<number, Endpoint> = new Map();
  /** Faults of the disk that wait for their operation. */
  failNext: "read" | "write" | "flush" | undefined;
  slowMs = 0;
  /** Called when the next flush has been handed to the disk. */
  onFlush: (() => void) | undefined;
  #resumed: (() => void)[] = [];
  #deadlineMs = Infinity;
  #deadlineEvent = 0;
  #commands: Map<number, (code: number, text: string) => void> = new Map();
  #requests: Map<number, (errno: number, data?: Uint8Array) => void> = new Map();
  #lastCommand = 0;
  #lastRequest = 0;
  /** Writes handed to the kernel of this machine and not complete, by time of arrival. */
  readonly #inFlight: Set<() => void> = new Set();
  /** Data writes with the disk, by operation: first sector and number. */
  readonly writing: Map<number, readonly [number, number]> = new Map();
  #metaWrites = 0;
  /** What the slots of the activity log hold, to see evictions. */
  readonly #slots: Map<number, number> = new Map();
  #diskBusy = 0;
  #closing: (() => void) | undefined;
  downSinceMs = 0;
  lastPowerLossMs = -1;
  /** Since when this process runs without a pause. */
  undisturbedSinceMs = 0;

  constructor(world: World, index: number, model: Model) {
    this.world = world;
    this.index = index;
    this.model = model;
    this.layout = layoutFor("internal", world.scenario.deviceSectors);
    this.store = new Store(this.layout.dataSectorsMax, world.scenario.deviceSectors);
  }

  /** No operation of the process is with the disk. */
  get diskIdle(): boolean {
    return this.#diskBusy === 0;
  }

  // Metadata from outside, as the command line does it

  #putRegion(region: MetaRegion): void {
    const first = region.offset / 512;
    if ("zero" in region) {
      for (let i = 0; i < region.zero / 512; i++) this.store.put(first + i, new Uint8Array(512), this.world.prng);
      return;
    }
    // regions of the bitmap may begin inside a sector
    const start = Math.floor(first);
    const end = Math.ceil((region.offset + region.bytes.length) / 512);
    const bytes = this.store.bytes(start, end - start);
    bytes.set(region.bytes, region.offset - start * 512);
    for (let i = 0; i < end - start; i++)
      this.store.put(start + i, bytes.slice(i * 512, i * 512 + 512), this.world.prng);
  }

  #flushNow(): void {
    this.store.flushed(this.store.cachedSectors());
  }

  /** Metadata as after create-md, or as after an initial sync that is long over. */
  createMetadata(synced: Partial<Superblock> | undefined): void {
    const { layout } = this;
    const fresh = freshSuperblock(layout, 1n + BigInt(this.index));
    for (const region of initialisedAl(layout)) this.#putRegion(region);
    const superblock = synced === undefined ? fresh : { ...fresh, ...synced };
    this.#putRegion({ offset: layout.superblockSector * 512, bytes: encodeSuperblock(superblock) });
    this.#flushNow();
  }

  applyAl(): void {
    const { layout } = this;
    const superblock = decodeSuperblock(this.store.bytes(layout.superblockSector, 8));
    const area = this.store.bytes(layout.alSector, layout.superblockSector - layout.alSector);
    const recovery = recoverAl(superblock, area, layout);
    if (recovery.extents.length > 0) this.world.cover("activity log replayed");
    this.#slots.clear();
    for (const region of recovery.bitmapRegions) this.#putRegion(region);
    this.#flushNow();
    for (const region of recovery.regions) this.#putRegion(region);
    this.#flushNow();
  }

  // Life and death

  start(): void {
    const { world } = this;
    this.life++;
    this.undisturbedSinceMs = world.nowMs;
    this.listening = false;
    this.#diskBusy = 0;
    this.#closing = undefined;
    const { prng } = world;
    const random: RandomSource = { below: (n) => prng.below(n), u64: () => prng.u64(), bytes: (n) => prng.bytes(n) };
    this.engine = new ResourceEngine(world.scenario.options, this, random, world.nowMs);
  }

  /** kill -9: the kernel keeps what it was given. */
  processCrash(): void {
    if (this.engine === undefined) return;
    this.engine = undefined;
    this.life++;
    this.downSinceMs = this.world.nowMs;
    for (const apply of [...this.#inFlight]) if (this.world.prng.chance(1, 2)) apply();
    this.#forget();
    this.world.network.processDied(this);
  }

  powerLoss(): void {
    if (!this.machineUp) return;
    checkMetadataTruth(this.world);
    this.engine = undefined;
    this.life++;
    this.machineUp = false;
    this.lastPowerLossMs = this.world.nowMs;
    this.downSinceMs = this.world.nowMs;
    for (const apply of [...this.#inFlight]) if (this.world.prng.chance(1, 2)) apply();
    this.store.powerLoss(this.world.prng);
    this.#forget();
    this.world.network.machineDied(this);
  }

  #forget(): void {
    this.#inFlight.clear();
    this.writing.clear();
    this.#commands.clear();
    this.#requests.clear();
    this.#deadlineMs = Infinity;
    this.paused = false;
    this.#resumed = [];
    this.failNext = undefined;
    this.onFlush = undefined;
    this.slowMs = 0;
  }

  pause(ms: number): void {
    if (this.engine === undefined || this.paused) return;
    this.paused = true;
    const { life } = this;
    this.world.after(ms, () => {
      if (this.life !== life) return;
      this.paused = false;
      this.undisturbedSinceMs = this.world.nowMs;
      for (const fn of this.#resumed.splice(0)) if (this.life === life) fn();
      this.input(() => {});
    });
  }

  whenResumed(fn: () => void): void {
    this.#resumed.push(fn);
  }

  /** Feeds the engine, at the present time, unless its process sleeps. */
  input(fn: () => void): void {
    if (this.engine === undefined) return;
    if (this.paused) {
      this.#resumed.push(() => this.input(fn));
      return;
    }
    this.engine.tick(this.world.nowMs);
    fn();
    this.#arm();
  }

  #arm(): void {
    if (this.engine === undefined) return;
    const next = this.engine.nextDeadlineMs();
    if (next === this.#deadlineMs || next === Infinity) return;
    this.#deadlineMs = next;
    const event = ++this.#deadlineEvent;
    const { life } = this;
    this.world.at(Math.max(next, this.world.nowMs), () => {
      if (this.life !== life || event !== this.#deadlineEvent) return;
      this.#deadlineMs = Infinity;
      this.input(() => {});
    });
  }

  command(request: AdminCommand, done: (code: number, text: string) => void = () => {}): void {
    const id = ++this.#lastCommand;
    this.#commands.set(id, done);
    this.input(() => this.engine?.command(id, request));
  }

  request(run: (engine: ResourceEngine, id: number) => void, done: (errno: number, data?: Uint8Array) => void): void {
    const id = ++this.#lastRequest;
    this.#requests.set(id, done);
    this.input(() => {
      if (this.engine !== undefined) run(this.engine, id);
    });
  }

  accept(): number | undefined {
    return this.engine?.socketAccepted();
  }

  // EngineSink: disk

  openDisk(volume: number): void {
    const open = (): void => {
      const bytes = this.world.scenario.deviceSectors * 512;
      const geometry = {
        dataDeviceBytes: bytes,
        metaDeviceBytes: bytes,
        logicalBlockSize: 512,
        physicalBlockSize: 4096,
        discard: true,
      };
      this.#later(1, () => this.engine?.diskOpened(volume, undefined, geometry));
    };
    if (this.#diskBusy > 0) this.#closing = open;
    else open();
  }

  closeDisk(): void {}

  #later(ms: number, fn: () => void): void {
    const { life } = this;
    this.world.after(ms, () => {
      if (this.life === life) this.input(fn);
    });
  }

  #io(ioId: number, kind: "read" | "write" | "flush", work: () => Uint8Array | undefined, alsoOnCrash: boolean): void {
    const { world, life } = this;
    this.#diskBusy++;
    const fails = this.failNext === kind;
    if (fails) this.failNext = undefined;
    const apply = (): void => {
      work();
    };
    if (alsoOnCrash && !fails) this.#inFlight.add(apply);
    const ms = world.delay(0, 2) + (this.slowMs > 0 ? world.prng.below(this.slowMs) : 0);
    world.after(ms, () => {
      if (this.life !== life) return;
      this.#inFlight.delete(apply);
      this.writing.delete(ioId);
      let bytes: Uint8Array | undefined;
      if (fails) {
        if (kind === "flush") this.store.flushFailed(world.prng);
        world.diskFailed(this);
      } else bytes = work();
      this.input(() => this.engine?.ioDone(ioId, fails ? 5 : 0, bytes));
      this.#diskBusy--;
      if (this.#diskBusy === 0 && this.#closing !== undefined) {
        const open = this.#closing;
        this.#closing = undefined;
        open();
      }
    });
  }

  readData(ioId: number, _volume: number, sector: number, lengthBytes: number): void {
    this.#io(ioId, "read", () => this.readBack(sector, lengthBytes >>> 9), false);
  }

  /** Bytes of data sectors: the number of the write, and the sector's own, so that misplaced data is recognised. */
  readBack(sector: number, count: number): Uint8Array {
    const contents = this.store.contents(sector, count);
    // digests are made of real bytes
    const real = count * 512 <= REAL_BYTES_MAX || this.world.scenario.options.net.csumsAlg !== "";
    if (contents.length === 0 || !real) {
      const bytes = ZEROES.subarray(0, count * 512);
      if (contents.length > 0) CONTENTS.set(bytes, contents);
      return bytes;
    }
    const bytes = new Uint8Array(count * 512);
    const view = new DataView(bytes.buffer);
    for (const [s, id] of contents) {
      view.setUint32((s - sector) * 512, id);
      view.setUint32((s - sector) * 512 + 4, s);
    }
    return bytes;
  }

  writeData(ioId: number, _volume: number, sector: number, bytes: Uint8Array, fua: boolean): void {
    const count = bytes.length / 512;
    this.writing.set(ioId, [sector, count]);
    this.world.options.stage?.disk(this.index, `write ${bytes.length} bytes at sector ${sector}${fua ? ", FUA" : ""}`);
    this.#io(
      ioId,
      "write",
      () => {
        if (bytes.buffer === ZEROES.buffer) this.#putContents(sector, count, CONTENTS.get(bytes) ?? []);
        else this.#putData(sector, bytes);
        if (fua) this.store.flushed(Array.from({ length: count }, (_, i) => sector + i));
        return undefined;
      },
      true,
    );
  }

  #putContents(sector: number, count: number, contents: readonly (readonly [number, number])[]): void {
    const kept = new Set<number>();
    for (const [s, id] of contents) {
      if (s < sector || s >= sector + count)
        this.world.violation("D2", `node ${this.index}: data of sector ${s} written to ${sector}`);
      kept.add(s);
      this.store.put(s, id, this.world.prng);
    }
    for (const [s] of this.store.contents(sector, count)) if (!kept.has(s)) this.store.put(s, 0, this.world.prng);
  }

  #putData(sector: number, bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = 0; i < bytes.length / 512; i++) {
      const id = view.getUint32(i * 512);
      if (id === 0) {
        if (this.store.id(sector + i) !== 0) this.store.put(sector + i, 0, this.world.prng);
        continue;
      }
      const own = view.getUint32(i * 512 + 4);
      if (own !== sector + i)
        this.world.violation("D2", `node ${this.index}: data of sector ${own} written to ${sector + i}`);
      this.store.put(sector + i, id, this.world.prng);
    }
  }

  discardData(ioId: number, _volume: number, sector: number, lengthBytes: number): void {
    this.zeroData(ioId, 0, sector, lengthBytes);
  }

  zeroData(ioId: number, _volume: number, sector: number, lengthBytes: number): void {
    this.writing.set(ioId, [sector, lengthBytes / 512]);
    const apply = (): undefined => {
      this.store.putZeroes(sector, lengthBytes / 512, this.world.prng);
      return undefined;
    };
    this.#io(ioId, "write", apply, true);
  }

  flushData(ioId: number): void {
    this.world.options.stage?.disk(this.index, "flush");
    const covered = this.store.cachedSectors();
    const apply = (): undefined => {
      this.store.flushed(covered);
      return undefined;
    };
    this.#io(ioId, "flush", apply, false);
    const { onFlush } = this;
    this.onFlush = undefined;
    onFlush?.();
  }

  readMeta(ioId: number, _volume: number, byteOffset: number, lengthBytes: number): void {
    this.#io(ioId, "read", () => this.store.bytes(byteOffset / 512, lengthBytes / 512), false);
  }

  #logWritten(bytes: Uint8Array): void {
    const block = decodeAlBlock(bytes);
    if (block?.type !== "update") return;
    for (const { slot, extent } of block.updates) {
      const before = this.#slots.get(slot) ?? AL_EXTENT_FREE;
      if (before !== AL_EXTENT_FREE) this.world.cover(extent === AL_EXTENT_FREE ? "extent retired" : "eviction");
      this.#slots.set(slot, extent);
    }
  }

  #metaName(byteOffset: number): string {
    const { alSector, superblockSector } = this.layout;
    const sector = byteOffset / 512;
    if (sector >= superblockSector && sector < superblockSector + 8) return "superblock";
    return sector >= alSector && sector < superblockSector ? "activity log" : "bitmap page";
  }

  writeMeta(ioId: number, _volume: number, byteOffset: number, bytes: Uint8Array): void {
    this.world.options.stage?.disk(this.index, `write ${this.#metaName(byteOffset)}`);
    const apply = (): undefined => {
      for (let i = 0; i < bytes.length / 512; i++) {
        this.store.put(byteOffset / 512 + i, bytes.subarray(i * 512, i * 512 + 512), this.world.prng);
      }
      this.#metaWrites++;
      if (this.#metaName(byteOffset) === "activity log") this.#logWritten(bytes);
      if (this.#metaWrites % TRUTH_EVERY === 0) this.world.after(0, () => checkMetadataTruth(this.world));
      return undefined;
    };
    this.#io(ioId, "write", apply, true);
  }

  flushMeta(ioId: number): void {
    this.flushData(ioId);
  }

  // EngineSink: network

  dial(socketId: number): void {
    this.world.network.dial(this, socketId);
  }

  listen(on: boolean): void {
    this.listening = on;
  }

  closeSocket(socketId: number): void {
    const end = this.endpoints.get(socketId);
    if (end !== undefined) this.world.network.close(end);
  }

  setDialect(socketId: number, receive: Dialect, send: Dialect): void {
    const end = this.endpoints.get(socketId);
    if (end !== undefined) this.world.network.setDialect(end, receive, send);
  }

  send(socketId: number, packet: Packet): void {
    const end = this.endpoints.get(socketId);
    if (end === undefined) return;
    if (this.world.tracing) this.world.trace(`${this.index} send ${packet.kind}`);
    this.world.options.stage?.packet(this.index, packet);
    this.world.network.purpose(end, packet);
    this.world.network.send(end, packet);
  }

  // EngineSink: answers

  complete(request: number, errno: number, data?: Uint8Array): void {
    const done = this.#requests.get(request);
    this.#requests.delete(request);
    done?.(errno, data);
  }

  commandDone(command: number, code: number, text: string): void {
    const done = this.#commands.get(command);
    this.#commands.delete(command);
    // the answer may lead to the next command, which must not nest
    const { life } = this;
    this.world.after(0, () => {
      if (this.life === life) done?.(code, text);
    });
  }

  runHandler(handler: number, name: string): void {
    const { world } = this;
    if (name !== "fence-peer") {
      this.#later(1, () => this.engine?.handlerDone(handler, 0));
      return;
    }
    this.#later(world.prng.between(20, 800), () => {
      const works = world.prng.chance(3, 4);
      if (works) world.kill(world.other(this));
      this.engine?.handlerDone(handler, works ? 7 : 1);
    });
  }

  event(event: EngineEvent): void {
    this.world.options.stage?.event(this.index, event);
    this.world.engineEvent(this, event);
  }

  throttle(): void {}

  releaseBytes(): void {}
}
