import assert from "node:assert/strict";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import { ConnState, DiskState } from "@hacluster/blockrep/unstable/wire/state-word";
import { EngineNode, type NodeOptions, type Wire } from "./engine-node.ts";
import { VirtualClock } from "./virtual-clock.ts";

interface End {
  readonly node: EngineNode;
  readonly socket: number;
  peer: End;
  closed: boolean;
}

export const SYNCED = { current: 0x9b10df57fab8a2aen, bitmap: 0n, history0: 0n, history1: 0n };

/** Two engines and the wire between them, which carries encoded packets. */
export class EnginePair implements Wire {
  readonly clock: VirtualClock = new VirtualClock();
  readonly a: EngineNode;
  readonly b: EngineNode;
  readonly #ends: End[] = [];
  /** Nothing arrives and nobody is told; what is sent meanwhile arrives when it ends. */
  #cut = false;
  #stalled: (() => void)[] = [];
  /** Packets for which this is true get lost, with everything the test knows about that. */
  drop: (from: EngineNode, packet: Packet) => boolean = () => false;
  /** Changes a packet on its way. */
  bend: (from: EngineNode, packet: Packet, encoded: Uint8Array) => Uint8Array = (_, __, encoded) => encoded;

  constructor(options: NodeOptions = {}, ofB: NodeOptions = options) {
    this.a = new EngineNode("a", this.clock, this, options, 11);
    this.b = new EngineNode("b", this.clock, this, ofB, 22);
  }

  get nodes(): [EngineNode, EngineNode] {
    return [this.a, this.b];
  }

  /** Two disks in sync, connected; `a` is Primary if asked for. */
  static connected(options: NodeOptions = {}, primary = true, ofB: NodeOptions = options): EnginePair {
    const pair = new EnginePair(options, ofB);
    for (const node of pair.nodes) for (const i of node.disks.keys()) node.createMd({ uuids: SYNCED }, i);
    pair.up();
    if (primary) pair.must(pair.a, { verb: "primary" });
    for (const node of pair.nodes) node.sent.length = 0;
    return pair;
  }

  up(): void {
    for (const node of this.nodes) {
      for (const i of node.disks.keys()) this.must(node, { verb: "attach", volume: i });
      this.must(node, { verb: "connect" });
    }
    assert.ok(
      this.clock.runUntil(() => this.nodes.every((n) => n.snapshot.conn >= ConnState.Connected)),
      "connected",
    );
  }

  other(node: EngineNode): EngineNode {
    return node === this.a ? this.b : this.a;
  }

  /** Runs a command that must succeed. */
  must(node: EngineNode, request: Parameters<EngineNode["command"]>[0]): void {
    const code = this.ask(node, request);
    assert.ok(code.code >= 1 && code.code <= 101, `${node.name} ${request.verb}: ${code.code} ${code.text}`);
  }

  ask(node: EngineNode, request: Parameters<EngineNode["command"]>[0]): { code: number; text: string } {
    const outcome = node.command(request);
    assert.ok(
      this.clock.runUntil(() => outcome.code !== undefined),
      `${node.name} ${request.verb} answers`,
    );
    return { code: outcome.code as number, text: outcome.text };
  }

  /** Waits for a request that must succeed. */
  done(outcome: { errno: number | undefined }): void {
    assert.ok(
      this.clock.runUntil(() => outcome.errno !== undefined),
      "the request is answered",
    );
    assert.equal(outcome.errno, 0);
  }

  run(ms: number): void {
    this.clock.run(ms);
  }

  until(done: () => boolean, what: string): void {
    assert.ok(this.clock.runUntil(done), `${what}: ${this.states()}`);
  }

  get inSync(): boolean {
    return this.nodes.every(
      (n) =>
        n.snapshot.conn === ConnState.Connected &&
        n.snapshot.volumes.every((v) => v.disk === DiskState.UpToDate && v.peerDisk === DiskState.UpToDate),
    );
  }

  states(): string {
    return this.nodes
      .map(
        (n) => `${n.name} role ${n.snapshot.role} conn ${n.snapshot.conn} disk ${n.volume.disk}/${n.volume.peerDisk}`,
      )
      .join("; ");
  }

  /** The link breaks: both see a reset. */
  reset(): void {
    for (const end of this.#ends.splice(0)) {
      if (end.closed) continue;
      end.closed = true;
      end.node.input(() => end.node.engine.socketClosed(end.socket, "reset"));
    }
  }

  setCut(on: boolean): void {
    this.#cut = on;
    if (!on) for (const go of this.#stalled.splice(0)) this.clock.after(1, go);
  }

  dial(from: EngineNode, socket: number): void {
    this.clock.after(1, () => {
      if (this.#cut) return;
      const to = this.other(from);
      let accepted: number | undefined;
      if (to.listening) to.input(() => (accepted = to.engine.socketAccepted()));
      if (accepted === undefined) {
        from.input(() => from.engine.socketClosed(socket, "refused"));
        return;
      }
      const near = { node: from, socket, closed: false } as End;
      const far: End = { node: to, socket: accepted, peer: near, closed: false };
      near.peer = far;
      this.#ends.push(near, far);
      from.input(() => from.engine.socketOpened(socket));
    });
  }

  closed(from: EngineNode, socket: number): void {
    const end = this.#ends.find((e) => e.node === from && e.socket === socket);
    if (end === undefined || end.closed) return;
    end.closed = true;
    const { peer } = end;
    this.#pass(() => {
      if (peer.closed) return;
      peer.closed = true;
      peer.node.input(() => peer.node.engine.socketClosed(peer.socket, "closed"));
    });
  }

  send(from: EngineNode, socket: number, packet: Packet, encoded: Uint8Array): void {
    const end = this.#ends.find((e) => e.node === from && e.socket === socket);
    if (end === undefined || this.drop(from, packet)) return;
    // a view of the application's memory, as a socket holds it until the system has taken it
    const held = "data" in packet && packet.data !== undefined ? packet.data : undefined;
    const head = encoded.length - (held?.length ?? 0);
    this.#pass(() => {
      if (end.peer.closed) return;
      if (held !== undefined) encoded.set(held, head);
      end.peer.node.receive(end.peer.socket, this.bend(from, packet, encoded));
    });
  }

  #pass(go: () => void): void {
    if (this.#cut || this.#stalled.length > 0) this.#stalled.push(go);
    else this.clock.after(1, go);
  }
}
