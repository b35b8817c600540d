import { encodePacket } from "@hacluster/blockrep/unstable/wire/codec";
import { type Dialect, INITIAL_DIALECT } from "@hacluster/blockrep/unstable/wire/dialect";
import { Framer } from "@hacluster/blockrep/unstable/wire/framer";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Packets above this size travel as values: encoding megabytes of zeroes would be most of a run. */
const ENCODED_BYTES_MAX = 16384;

/** One end of a connection, owned by a process. */
export class Endpoint {
  readonly node: SimNode;
  /** Counts process starts: an endpoint of a dead process is deaf. */
  readonly life: number;
  socketId: number;
  peer: Endpoint | undefined;
  closed = false;
  receiveDialect: Dialect = INITIAL_DIALECT;
  sendDialect: Dialect = INITIAL_DIALECT;
  readonly framer: Framer = new Framer();
  /** Deliveries keep their order: none happens before this time. */
  lastArrivalMs = 0;
  /** What came on a meta socket before its dialect was agreed on the data socket: a driver leaves it unread. */
  readonly early: (() => void)[] = [];
  dialectKnown = false;
  /** Waits for the other direction of a cut link. */
  readonly stalled: (() => void)[] = [];

  constructor(node: SimNode, socketId: number) {
    this.node = node;
    this.life = node.life;
    this.socketId = socketId;
  }

  get alive(): boolean {
    return !this.closed && this.node.engine !== undefined && this.node.life === this.life;
  }
}

/** TCP between two machines: ordered streams with delay that a cut holds up, a reset breaks and a dead machine swallows. */
export class Network {
  readonly #world: World;
  /** Index of the sending node: nothing it sends arrives. */
  readonly cut: [boolean, boolean] = [false, false];
  /** Since when both directions work. */
  healthySinceMs = 0;
  readonly #open: Set<Endpoint> = new Set();

  constructor(world: World) {
    this.#world = world;
  }

  setCut(from: number, on: boolean): void {
    this.cut[from] = on;
    if (!this.cut[0] && !this.cut[1]) this.healthySinceMs = this.#world.nowMs;
    if (on) return;
    for (const end of this.#open) {
      if (end.node.index !== from) continue;
      for (const resume of end.stalled.splice(0)) resume();
    }
  }

  get healthy(): boolean {
    return !this.cut[0] && !this.cut[1];
  }

  dial(from: SimNode, socketId: number): void {
    const world = this.#world;
    const life = from.life;
    const to = world.nodes[1 - from.index] as SimNode;
    world.after(world.delay(1, 3), () => {
      if (from.life !== life || from.engine === undefined) return;
      if (!to.machineUp || this.cut[0] || this.cut[1]) return; // silence; the dialler's own timeout ends it
      if (to.engine === undefined || !to.listening || to.paused) {
        if (!to.paused) from.input(() => from.engine?.socketClosed(socketId, "refused"));
        return;
      }
      const accepted = to.accept();
      if (accepted === undefined) {
        from.input(() => from.engine?.socketClosed(socketId, "refused"));
        return;
      }
      const near = new Endpoint(from, socketId);
      const far = new Endpoint(to, accepted);
      near.peer = far;
      far.peer = near;
      this.#open.add(near);
      this.#open.add(far);
      from.endpoints.set(socketId, near);
      to.endpoints.set(accepted, far);
      from.input(() => from.engine?.socketOpened(socketId));
    });
  }

  send(end: Endpoint, packet: Packet): void {
    const size = "data" in packet && packet.data !== undefined ? packet.data.length : 0;
    const encoded = size <= ENCODED_BYTES_MAX ? encodePacket(packet, end.sendDialect) : undefined;
    this.#deliver(end, (far) => this.#arrive(far, packet, encoded));
  }

  #arrive(far: Endpoint, packet: Packet, encoded: Uint8Array | undefined): void {
    const { node } = far;
    if (far.framer.socket === "meta" && (!far.dialectKnown || far.early.length > 0)) {
      far.early.push(() => this.#arrive(far, packet, encoded));
      return;
    }
    if (packet.kind === "P_INITIAL_DATA") far.framer.socket = "first";
    let received = packet;
    if (encoded !== undefined) {
      far.framer.dialect = far.receiveDialect;
      far.framer.push(encoded);
      const decoded = far.framer.next();
      if (decoded === undefined || far.framer.unread > 0) throw new Error(`codec: ${packet.kind} did not survive`);
      received = decoded;
    }
    if (received.kind === "P_INITIAL_DATA") far.framer.socket = "data";
    if (received.kind === "P_INITIAL_META") far.framer.socket = "meta";
    node.input(() => node.engine?.packetReceived(far.socketId, received));
  }

  setDialect(end: Endpoint, receive: Dialect, send: Dialect): void {
    end.receiveDialect = receive;
    end.sendDialect = send;
    end.dialectKnown = true;
    if (end.early.length === 0) return;
    // never from inside the input that told us
    this.#world.after(0, () => {
      for (const arrive of end.early.splice(0)) if (end.alive) arrive();
    });
  }

  /** The dialler knows what its socket is for without being told. */
  purpose(end: Endpoint, packet: Packet): void {
    if (packet.kind === "P_INITIAL_DATA") end.framer.socket = "data";
    if (packet.kind === "P_INITIAL_META") end.framer.socket = "meta";
  }

  #deliver(end: Endpoint, arrive: (far: Endpoint) => void): void {
    const world = this.#world;
    if (this.cut[end.node.index as 0 | 1] || end.stalled.length > 0) {
      end.stalled.push(() => this.#deliver(end, arrive));
      return;
    }
    const at = Math.max(end.lastArrivalMs, world.nowMs + world.delay(0, 2));
    end.lastArrivalMs = at;
    world.at(at, () => {
      const far = end.peer as Endpoint;
      if (far.closed) return;
      if (!far.node.machineUp) return;
      if (!far.alive) {
        // the machine is back and knows nothing of this connection
        this.#reset(end);
        return;
      }
      if (far.node.paused) {
        far.node.whenResumed(() => {
          if (far.alive) arrive(far);
        });
        return;
      }
      arrive(far);
    });
  }

  /** A close by this side: the other learns of it behind what was sent. */
  close(end: Endpoint): void {
    if (end.closed) return;
    this.#deliver(end, (far) => this.#closedByPeer(far, "closed"));
    end.closed = true;
    this.#open.delete(end);
    end.node.endpoints.delete(end.socketId);
  }

  #reset(end: Endpoint): void {
    if (end.alive) this.#closedByPeer(end, "reset");
  }

  #closedByPeer(end: Endpoint, error: "closed" | "reset"): void {
    end.closed = true;
    this.#open.delete(end);
    end.node.endpoints.delete(end.socketId);
    end.node.input(() => end.node.engine?.socketClosed(end.socketId, error));
  }

  /** A process died on a living machine: its kernel closes its sockets. */
  processDied(node: SimNode): void {
    for (const end of [...node.endpoints.values()]) this.close(end);
    node.endpoints.clear();
  }

  /** Power off: nobody says anything. */
  machineDied(node: SimNode): void {
    for (const end of node.endpoints.values()) this.#open.delete(end);
    node.endpoints.clear();
  }

  /** A reset in the middle of the stream: what is on the way is lost. */
  resetAll(): void {
    for (const end of [...this.#open]) {
      end.closed = true;
      this.#open.delete(end);
      end.node.endpoints.delete(end.socketId);
      const { node, socketId, life } = end;
      this.#world.after(this.#world.prng.between(0, 3), () => {
        if (node.life === life) node.input(() => node.engine?.socketClosed(socketId, "reset"));
      });
    }
  }
}
