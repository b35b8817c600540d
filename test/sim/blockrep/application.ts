import { ConnState, DiskState } from "@hacluster/blockrep/unstable/wire/state-word";
import type { Model, WriteRecord } from "./model.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Reads and writes with known content on whichever node is Primary, and believes nothing. */
export class Application {
  readonly #world: World;
  #node: SimNode | undefined;
  #life = 0;
  #open = 0;
  #stopped = false;
  #nextId = 1;
  readonly #running: Set<WriteRecord> = new Set();
  acknowledged = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** The device is there. */
  use(node: SimNode): void {
    this.#node = node;
    this.#life = node.life;
    this.#stopped = false;
    node.engine?.deviceOpeners(0, 1);
    for (let i = this.#open; i < this.#world.scenario.queueDepth; i++) this.#next();
  }

  get node(): SimNode | undefined {
    return this.#node;
  }

  get idle(): boolean {
    return this.#open === 0;
  }

  stop(): void {
    this.#stopped = true;
  }

  closed(): void {
    this.#node?.engine?.deviceOpeners(0, 0);
    this.#node = undefined;
  }

  /** Its node died: whatever ran may have happened or not. */
  crashed(node: SimNode): void {
    if (node !== this.#node) return;
    for (const write of this.#running) write.ended = ++this.#world.stamp;
    this.#running.clear();
    this.#open = 0;
    this.#node = undefined;
  }

  #next(): void {
    const node = this.#node;
    const { prng } = this.#world;
    if (node === undefined || this.#stopped || node.life !== this.#life) return;
    this.#open++;
    const life = this.#life;
    this.#world.after(prng.between(0, this.#world.options.focus !== undefined ? 60 : 160), () => {
      if (node.life !== life || this.#node !== node) return;
      const what = prng.below(100);
      if (what < 68) this.#write(node, "write");
      else if (what < 71) this.#write(node, "discard");
      else if (what < 73) this.#write(node, "zero");
      else if (what < 90) this.#read(node);
      else this.#flush(node);
    });
  }

  #ended(node: SimNode, life: number): void {
    if (node !== this.#node || life !== this.#life) return;
    this.#open--;
    this.#next();
  }

  /** The history that this node's application works on. */
  #model(node: SimNode): Model {
    const volume = node.engine?.snapshot().volumes[0];
    return volume !== undefined && volume.disk < DiskState.UpToDate ? this.#world.other(node).model : node.model;
  }

  #write(node: SimNode, kind: "write" | "discard" | "zero"): void {
    const world = this.#world;
    const { prng } = world;
    const sector = prng.pick(world.scenario.places);
    const count = prng.chance(1, 2) ? 8 : prng.chance(1, 12) ? 160 : prng.between(1, 24);
    const id = this.#nextId++;
    const model = this.#model(node);
    const write: WriteRecord = {
      value: kind === "write" ? id : 0,
      issued: ++world.stamp,
      ended: Infinity,
      acknowledged: false,
      durable: false,
    };
    const life = this.#life;
    const fua = prng.chance(1, 20);
    model.issue(write, sector, count);
    if (world.tracing) world.trace(`${kind} ${id} of ${count} at ${sector} stamp ${write.issued}`);
    this.#running.add(write);
    const done = (errno: number): void => {
      if (node.life !== life) return;
      this.#running.delete(write);
      write.ended = ++world.stamp;
      if (errno === 0) this.#acknowledged(node, model, write, sector, count);
      else if (world.tracing) world.trace(`write ${id} failed ${errno}`);
      this.#ended(node, life);
    };
    node.request((engine, request) => {
      if (kind === "discard") engine.discard(request, 0, sector, count * 512);
      else if (kind === "zero") engine.writeZeroes(request, 0, sector, count * 512, prng.chance(1, 2));
      else engine.write(request, 0, sector, content(id, sector, count), fua);
    }, done);
  }

  /** Whether both disks have what was acknowledged now; otherwise the other falls behind. */
  #judgeHolders(node: SimNode, model: Model): boolean {
    const world = this.#world;
    const snapshot = node.engine?.snapshot();
    const volume = snapshot?.volumes[0];
    if (snapshot === undefined || volume === undefined) return false;
    // a source that does not know yet that its target is done replicates all the same
    const replicates = volume.peerDisk === DiskState.UpToDate || snapshot.conn === ConnState.SyncSource;
    const remote = snapshot.conn >= ConnState.Connected && replicates;
    if (model === node.model && world.shared && !remote) world.fallBehind(world.other(node));
    return remote;
  }

  #acknowledged(node: SimNode, model: Model, write: WriteRecord, sector: number, count: number): void {
    const world = this.#world;
    const remote = this.#judgeHolders(node, model);
    this.acknowledged++;
    if (world.tracing) world.trace(`acknowledged stamp ${write.issued}`);
    write.acknowledged = true;
    model.acknowledge(write, sector, count, world.stamp);
    // the peer had confirmed it, even if it has lost power since
    if (!world.shared && !remote) model.soloAcks++;
  }

  #read(node: SimNode): void {
    const world = this.#world;
    const { prng } = world;
    const sector = prng.pick(world.scenario.places);
    const count = prng.between(1, 24);
    const model = this.#model(node);
    const began = ++world.stamp;
    const life = this.#life;
    node.request(
      (engine, request) => engine.read(request, 0, sector, count * 512),
      (errno, data) => {
        if (node.life !== life) return;
        if (errno === 0 && data !== undefined) this.#checkRead(node, model, data, sector, count, began);
        this.#ended(node, life);
      },
    );
  }

  #checkRead(node: SimNode, model: Model, data: Uint8Array, sector: number, count: number, began: number): void {
    const world = this.#world;
    // the other history may have taken over while the read was under way
    const models = [model, this.#model(node)];
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    for (let i = 0; i < count; i++) {
      const id = view.getUint32(i * 512);
      if (id !== 0 && view.getUint32(i * 512 + 4) !== sector + i) {
        world.violation("D2", `read of sector ${sector + i} on node ${node.index} returned another sector's data`);
        return;
      }
      if (models.some((m) => m.allows(sector + i, id, began))) continue;
      world.violation(
        "D1",
        `sector ${sector + i} on node ${node.index} reads ${id}, expected ${model.describe(sector + i)}`,
      );
      return;
    }
  }

  /** With protocol A an acknowledged flush says nothing about the peer, unless nothing was on its way. */
  #flushReaches(node: SimNode): boolean {
    const { protocol } = this.#world.scenario.options.net;
    return protocol !== "A" || !this.#world.shared || node.engine?.snapshot().volumes[0]?.epochs === 0;
  }

  #flush(node: SimNode): void {
    const world = this.#world;
    const model = this.#model(node);
    const began = ++world.stamp;
    const life = this.#life;
    node.request(
      (engine, request) => engine.flush(request, 0),
      (errno) => {
        if (node.life !== life) return;
        if (errno === 0) {
          this.#judgeHolders(node, model);
          if (world.tracing) world.trace(`flushed stamp ${began}`);
          if (this.#flushReaches(node)) model.flushed(began);
        }
        this.#ended(node, life);
      },
    );
  }
}

export function content(id: number, sector: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count * 512);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < count; i++) {
    view.setUint32(i * 512, id);
    view.setUint32(i * 512 + 4, sector + i);
  }
  return bytes;
}
