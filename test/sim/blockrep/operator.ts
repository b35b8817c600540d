import { ConnState, DiskState, Role } from "@hacluster/blockrep/unstable/wire/state-word";
import { Application } from "./application.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

const ROUND_MS = 100;

/** Brings nodes back, promotes where that is allowed, resolves split brains. Knows more than a person would, and errs at times. */
export class Operator {
  readonly #world: World;
  readonly application: Application;
  readonly #busyUntil: [number, number] = [0, 0];
  readonly #restartAt: [number, number] = [0, 0];
  readonly #victim: [boolean, boolean] = [false, false];
  #standAloneSince = Infinity;
  /** At the end: no mistakes, no writes. */
  calm = false;
  #firstPromotion = true;
  #retired = false;

  constructor(world: World) {
    this.#world = world;
    this.application = new Application(world);
  }

  start(): void {
    this.#world.after(ROUND_MS, () => this.#round());
  }

  mayLose(node: SimNode): boolean {
    return this.#victim[node.index as 0 | 1];
  }

  lost(node: SimNode): void {
    this.#victim[node.index as 0 | 1] = false;
  }

  /** Takes the application off its node and does nothing by itself any more. */
  retire(): void {
    this.calm = true;
    this.#retired = true;
    this.#release(() => {});
  }

  nodeDied(node: SimNode): void {
    this.application.crashed(node);
    this.#busyUntil[node.index as 0 | 1] = 0;
    this.#restartAt[node.index as 0 | 1] = this.#world.nowMs + this.#world.prng.between(50, 3000);
  }

  #command(node: SimNode, request: Parameters<SimNode["command"]>[0], done: (code: number) => void = () => {}): void {
    const index = node.index as 0 | 1;
    this.#busyUntil[index] = this.#world.nowMs + 12_000;
    if (this.#world.tracing) this.#world.trace(`operator ${index}: ${request.verb}`);
    node.command(request, (code, text) => {
      this.#busyUntil[index] = 0;
      this.#world.note(`operator ${index}: ${request.verb} ${code} ${text}`);
      done(code);
    });
  }

  #free(node: SimNode): boolean {
    return node.engine !== undefined && !node.paused && this.#world.nowMs >= this.#busyUntil[node.index as 0 | 1];
  }

  #round(): void {
    const world = this.#world;
    if (this.#retired) return;
    world.after(ROUND_MS, () => this.#round());
    for (const node of world.nodes) this.#care(node);
    this.#splitBrain();
    this.#leader();
    this.#verify();
  }

  #care(node: SimNode): void {
    const world = this.#world;
    if (node.engine === undefined) {
      if (world.nowMs < this.#restartAt[node.index as 0 | 1]) return;
      node.machineUp = true;
      this.#bringUp(node);
      return;
    }
    if (!this.#free(node)) return;
    const volume = node.engine.snapshot().volumes[0];
    if (volume?.disk === DiskState.Diskless && node.diskIdle && world.prng.chance(1, 6)) {
      node.applyAl();
      this.#command(node, { verb: "attach" });
    }
  }

  #bringUp(node: SimNode): void {
    const world = this.#world;
    try {
      node.applyAl();
    } catch (error) {
      world.violation(
        "D4",
        `apply-al on node ${node.index}: ${error instanceof Error ? error.message : String(error)}`,
      );
      return;
    }
    node.start();
    world.note(`${node.index} up`);
    this.#command(node, { verb: "attach" }, () => this.#command(node, { verb: "connect" }));
  }

  #snapshots(): [
    ReturnType<NonNullable<SimNode["engine"]>["snapshot"]> | undefined,
    ReturnType<NonNullable<SimNode["engine"]>["snapshot"]> | undefined,
  ] {
    const [a, b] = this.#world.nodes;
    return [a.engine?.snapshot(), b.engine?.snapshot()];
  }

  /** Two nodes that refuse each other: one of them is told to give up its changes. */
  #splitBrain(): void {
    const world = this.#world;
    const [a, b] = this.#snapshots();
    const standAlone = [a, b].some((s) => s?.conn === ConnState.StandAlone);
    if (!standAlone || a === undefined || b === undefined) {
      this.#standAloneSince = Infinity;
      return;
    }
    if (this.#standAloneSince === Infinity) this.#standAloneSince = world.nowMs;
    if (world.nowMs - this.#standAloneSince < 1500 || !world.nodes.every((node) => this.#free(node))) return;
    this.#standAloneSince = Infinity;
    // a Primary that lost its data cannot become a target as long as it is one
    const empty = world.nodes.find((node) => {
      const snapshot = node.engine?.snapshot();
      return snapshot?.role === Role.Primary && snapshot.volumes[0]?.disk !== DiskState.UpToDate;
    });
    if (empty !== undefined) {
      const demote = (): void => this.#command(empty, { verb: "secondary" });
      if (this.application.node === empty) this.#release(demote);
      else demote();
      return;
    }
    // the one whose changes matter less, or the one that is not in use
    const [x, y] = world.nodes;
    const primary = world.nodes.find((node) => node.engine?.snapshot().role === Role.Primary);
    const victim = primary === undefined ? (x.model.soloAcks <= y.model.soloAcks ? x : y) : world.other(primary);
    const survivor = world.other(victim);
    const bothPrimary = a.role === Role.Primary && b.role === Role.Primary;
    const connect = (): void => {
      this.#victim[victim.index as 0 | 1] = true;
      const again = (): void => this.#command(victim, { verb: "connect", discardMyData: true });
      this.#command(victim, { verb: "disconnect" }, again);
      if (survivor.engine?.snapshot().conn === ConnState.StandAlone) this.#command(survivor, { verb: "connect" });
    };
    if (!bothPrimary) {
      connect();
      return;
    }
    if (this.application.node === victim) this.#release(() => this.#command(victim, { verb: "secondary" }));
    else this.#command(victim, { verb: "secondary" });
  }

  /** Compares the blocks where most writes meet, under those writes. */
  #verify(): void {
    const world = this.#world;
    if (world.scenario.options.net.verifyAlg === "" || this.calm || !world.features.chance(1, 25)) return;
    const node = world.nodes[world.features.below(2)] as SimNode;
    const snapshot = node.engine?.snapshot();
    const volume = snapshot?.volumes[0];
    if (!this.#free(node) || snapshot?.conn !== ConnState.Connected) return;
    if (volume?.disk !== DiskState.UpToDate || volume.peerDisk !== DiskState.UpToDate) return;
    this.#command(node, { verb: "verify", startSector: 0, stopSector: 1024 });
  }

  /** The service is started on the other side of a cut link; the old Primary stays what it is. */
  moveAcross(): void {
    const old = this.application.node;
    if (old === undefined || this.#moving || this.calm) return;
    const other = this.#world.other(old);
    if (!this.#free(other)) return;
    this.#moving = true;
    this.#release(() => {
      this.#moving = false;
      this.#busyUntil[old.index as 0 | 1] = this.#world.nowMs + 2000;
      this.#command(other, { verb: "primary" }, (code) => {
        if (code >= 1 && code < 100 && this.application.node === undefined && !this.calm) this.application.use(other);
      });
    });
  }

  #release(then: () => void): void {
    this.application.stop();
    const wait = (): void => {
      if (this.application.node === undefined) return;
      if (!this.application.idle) {
        this.#world.after(20, wait);
        return;
      }
      this.application.closed();
      then();
    };
    wait();
  }

  #leader(): void {
    const world = this.#world;
    const snapshots = this.#snapshots();
    const using = this.application.node;
    if (using !== undefined) {
      // a planned move now and then
      if (!this.calm && !this.#moving && this.#free(using) && world.prng.chance(1, 120)) {
        this.#moving = true;
        this.#release(() => {
          this.#moving = false;
          if (this.#free(using)) this.#command(using, { verb: "secondary" });
        });
      } else if (this.calm) this.application.stop();
      return;
    }
    this.#moving = false;
    if (this.calm) return;
    const primaries = world.nodes.filter((node, i) => snapshots[i]?.role === Role.Primary && node.engine !== undefined);
    const idlePrimary = primaries.find((node) => this.#free(node));
    if (idlePrimary !== undefined && primaries.length === 1) {
      this.application.use(idlePrimary);
      return;
    }
    if (primaries.length > 0) return;
    const order = world.prng.chance(1, 2) ? [...world.nodes] : [...world.nodes].reverse();
    for (const node of order) {
      if (!this.#free(node) || !this.#mayPromote(node)) continue;
      const force = world.scenario.fresh && this.#firstPromotion;
      this.#command(node, force ? { verb: "primary", force: true } : { verb: "primary" }, (code) => {
        if (code < 1 || code >= 100) return;
        if (force) this.#firstPromotion = false;
        if (this.application.node === undefined && !this.calm) this.application.use(node);
      });
      return;
    }
  }

  #moving = false;

  #mayPromote(node: SimNode): boolean {
    const world = this.#world;
    const disk = node.engine?.snapshot().volumes[0]?.disk;
    if (world.scenario.fresh && this.#firstPromotion) return this.#connected(node);
    if (disk !== DiskState.UpToDate) return false;
    const other = world.other(node);
    if (world.shared || other.model.soloAcks === 0) return true;
    // the other has writes that this one misses: a person who does not know may do it all the same
    return world.prng.chance(1, 40);
  }

  #connected(node: SimNode): boolean {
    const snapshot = node.engine?.snapshot();
    return snapshot?.conn === ConnState.Connected && snapshot.volumes[0]?.disk === DiskState.Inconsistent;
  }

  /** D6: a living Primary that could be asked must not be overruled. */
  promoted(node: SimNode): void {
    const world = this.#world;
    const other = world.other(node);
    if (other.engine === undefined || other.paused || !other.machineUp) return;
    const snapshot = other.engine.snapshot();
    const quiet = world.nowMs - Math.max(world.network.healthySinceMs, other.undisturbedSinceMs) > 5000;
    if (snapshot.role !== Role.Primary || !world.network.healthy || !quiet) return;
    if (snapshot.conn === ConnState.StandAlone || node.engine?.snapshot().conn === ConnState.StandAlone) return;
    world.violation("D6", `node ${node.index} became Primary while node ${other.index} is Primary and can be reached`);
  }

  /** Both disks hold the same, and both nodes know it. */
  converged(): boolean {
    const [a, b] = this.#snapshots();
    return [a, b].every(
      (s) =>
        s?.conn === ConnState.Connected &&
        s.volumes[0]?.disk === DiskState.UpToDate &&
        s.volumes[0]?.peerDisk === DiskState.UpToDate &&
        s.volumes[0].unacked === 0 &&
        s.volumes[0].applicationPending === 0 &&
        s.volumes[0].epochs === 0,
    );
  }
}
