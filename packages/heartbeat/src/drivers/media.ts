import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";
import type { Medium } from "../config/model.ts";
import { mediumLine } from "../config/serialize.ts";

/** Seconds between looks for interfaces that were absent or changed their address. */
const WATCH_INTERVAL_MS = 1000;
/** A medium that fails to send is reported at the first failure, then at most this often. */
const REPORT_INTERVAL_MS = 60_000;

/** An IPv4 address of an interface. */
export interface InterfaceAddress {
  readonly address: string;
  readonly netmask: string;
}

/** What becomes known about a medium besides its datagrams; `medium` is its line of ha.cf, `link` its interface. */
export type MediaReport = { readonly medium: string; readonly link: string } & (
  | { readonly kind: "open"; readonly address: string }
  | { readonly kind: "waiting"; readonly reason: string }
  | { readonly kind: "send-failed"; readonly reason: string; readonly failures: number }
  | { readonly kind: "send-recovered"; readonly failures: number }
  | { readonly kind: "unsupported"; readonly reason: string }
);

export interface MediaListener {
  /**
   * One datagram. `link` is the name of the interface whose address it was sent to; two media on one interface are
   * one link. Own datagrams that come back are dropped before.
   */
  datagram(link: string, bytes: Uint8Array): void;
  report(report: MediaReport): void;
}

export interface MediaCounters {
  readonly medium: string;
  readonly link: string;
  readonly open: boolean;
  readonly sent: number;
  readonly sendFailures: number;
}

/** What the operating system tells; tests replace it. */
export interface MediaSystem {
  addresses(name: string): readonly InterfaceAddress[];
  resolve(host: string): Promise<string>;
  nowMs(): number;
}

const realSystem: MediaSystem = {
  addresses: (name) => {
    try {
      // a labelled address (eth0:0, a service address) has a name of its own here and is not the interface's
      return (networkInterfaces()[name] ?? []).filter((a) => a.family === "IPv4");
    } catch {
      return []; // the system would not say; asked again a second later
    }
  },
  resolve: async (host) => (await lookup(host, { family: 4 })).address,
  nowMs: () => performance.now(),
};

/** Broadcast address of an interface: all host bits set; undefined where there are none (/31, /32). */
export function broadcastOf({ address, netmask }: InterfaceAddress): string | undefined {
  const mask = netmask.split(".").map(Number);
  if (mask.length !== 4 || mask[3]! >= 254) return undefined;
  return address
    .split(".")
    .map((part, i) => (Number(part) | (~mask[i]! & 0xff)) & 0xff)
    .join(".");
}

/**
 * The UDP media of ha.cf: each sends every message, all receive. Node has no SO_BINDTODEVICE, so receivers are bound
 * to the interface's own addresses and its broadcast address instead of the wildcard; that tells the links apart and
 * lets several media share a port. Senders use an ephemeral port, as the original does.
 *
 * An interface that is absent, has no address yet or changes it is looked for every second; nothing here ends the
 * process or throws.
 * @see Heartbeat 3.0.6, media
 */
export class MediaSet {
  readonly #paths: SendPath[];
  readonly #receivers: Receivers;
  readonly #system: MediaSystem;
  readonly #timer: NodeJS.Timeout;
  #closed = false;
  #watching = false;

  private constructor(media: readonly Medium[], listener: MediaListener, system: MediaSystem) {
    this.#system = system;
    this.#paths = [];
    for (const medium of media) {
      if (isUdp(medium)) {
        this.#paths.push(new SendPath(medium, listener, system));
      } else {
        const link = medium.kind === "serial" ? medium.device : medium.interface;
        listener.report({ kind: "unsupported", medium: mediumLine(medium), link, reason: `${medium.kind} media` });
      }
    }
    const isOwn = (address: string, port: number): boolean => this.#paths.some((p) => p.isSource(address, port));
    this.#receivers = new Receivers(listener, isOwn);
    this.#timer = setInterval(() => void this.#watch(), WATCH_INTERVAL_MS);
  }

  /** Opens what can be opened now; resolves when the first attempt of every medium is over. */
  static async open(
    media: readonly Medium[],
    listener: MediaListener,
    system: MediaSystem = realSystem,
  ): Promise<MediaSet> {
    const set = new MediaSet(media, listener, system);
    await set.#watch();
    return set;
  }

  /** Send one message on every medium that is open. Failures are counted and reported, never thrown. */
  send(bytes: Uint8Array): void {
    for (const path of this.#paths) path.send(bytes);
  }

  counters(): MediaCounters[] {
    return this.#paths.map((path) => path.counters());
  }

  /** Ends all sockets; nothing is delivered afterwards. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#receivers.close();
    for (const path of this.#paths) path.close();
  }

  /** One look at the interfaces; a look that waits for a name server is not overtaken by the next. */
  async #watch(): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    try {
      await this.#look();
    } finally {
      this.#watching = false;
    }
    // closed while it was opening something
    if (this.#closed) this.close();
  }

  async #look(): Promise<void> {
    const names = new Set(this.#paths.map((path) => path.medium.interface));
    const addresses = new Map([...names].map((name) => [name, this.#system.addresses(name)]));
    const wanted = new Map<string, ReceiverPlace>();
    for (const { medium } of this.#paths) {
      for (const place of receiverPlaces(medium, addresses.get(medium.interface) ?? [])) {
        wanted.set(`${place.address}:${place.port}`, place);
      }
    }
    await this.#receivers.set(wanted);
    await Promise.all(this.#paths.map((path) => path.watch(addresses.get(path.medium.interface) ?? [])));
  }
}

type UdpMedium = Medium & { readonly kind: "bcast" | "ucast" | "mcast" };

function isUdp(medium: Medium): medium is UdpMedium {
  return medium.kind === "bcast" || medium.kind === "ucast" || medium.kind === "mcast";
}

interface ReceiverPlace {
  readonly link: string;
  readonly address: string;
  readonly port: number;
  /** Interface address with which to join the group. */
  readonly member: string | undefined;
}

function receiverPlaces(medium: UdpMedium, addresses: readonly InterfaceAddress[]): ReceiverPlace[] {
  const link = medium.interface;
  const first = addresses[0];
  if (first === undefined) return [];
  if (medium.kind === "mcast") return [{ link, address: medium.group, port: medium.port, member: first.address }];
  const all = addresses.flatMap((a) => [a.address, broadcastOf(a)]).filter((a) => a !== undefined);
  return all.map((address) => ({ link, address, port: medium.port, member: undefined }));
}

/** The receiving sockets, by address and port. */
class Receivers {
  readonly #sockets = new Map<string, { socket: Socket; member: string | undefined }>();
  /** Why a place could not be opened, so that it is said once. */
  readonly #reasons = new Map<string, string>();
  readonly #listener: MediaListener;
  readonly #isOwn: (address: string, port: number) => boolean;

  constructor(listener: MediaListener, isOwn: (address: string, port: number) => boolean) {
    this.#listener = listener;
    this.#isOwn = isOwn;
  }

  /** Open and close sockets so that they are those of `wanted`; what cannot be opened now is tried at the next call. */
  async set(wanted: ReadonlyMap<string, ReceiverPlace>): Promise<void> {
    for (const [key, { socket, member }] of this.#sockets) {
      if (wanted.get(key)?.member === member && wanted.has(key)) continue;
      this.#sockets.delete(key);
      socket.close();
    }
    const missing = [...wanted].filter(([key]) => !this.#sockets.has(key));
    await Promise.all(missing.map(([key, place]) => this.#open(key, place)));
  }

  async #open(key: string, place: ReceiverPlace): Promise<void> {
    const socket = createSocket({ type: "udp4", reuseAddr: true });
    socket.on("message", (bytes, from) => {
      if (!this.#isOwn(from.address, from.port)) this.#listener.datagram(place.link, bytes);
    });
    try {
      await bound(socket, place.port, place.address);
      if (place.member !== undefined) socket.addMembership(place.address, place.member);
    } catch (cause) {
      socket.close();
      const reason = reasonOf(cause);
      if (this.#reasons.get(key) === reason) return;
      this.#reasons.set(key, reason);
      this.#listener.report({ kind: "waiting", medium: `receive on ${key}`, link: place.link, reason });
      return;
    }
    socket.on("error", () => {
      if (this.#sockets.get(key)?.socket !== socket) return;
      this.#sockets.delete(key);
      socket.close();
    });
    this.#reasons.delete(key);
    this.#sockets.set(key, { socket, member: place.member });
  }

  close(): void {
    for (const { socket } of this.#sockets.values()) socket.close();
    this.#sockets.clear();
  }
}

/** The sending side of one medium. */
class SendPath {
  readonly medium: UdpMedium;
  readonly #line: string;
  readonly #listener: MediaListener;
  readonly #system: MediaSystem;
  #socket: Socket | undefined;
  /** Own address and port of the socket. */
  #source: { address: string; port: number } | undefined;
  #target = "";
  #waitingFor = "";
  #sent = 0;
  #failures = 0;
  #failing = false;
  #reportedMs = Number.NEGATIVE_INFINITY;

  constructor(medium: UdpMedium, listener: MediaListener, system: MediaSystem) {
    this.medium = medium;
    this.#line = mediumLine(medium);
    this.#listener = listener;
    this.#system = system;
  }

  isSource(address: string, port: number): boolean {
    return this.#source !== undefined && this.#source.port === port && this.#source.address === address;
  }

  counters(): MediaCounters {
    return {
      medium: this.#line,
      link: this.medium.interface,
      open: this.#socket !== undefined,
      sent: this.#sent,
      sendFailures: this.#failures,
    };
  }

  /** Open, or open anew when the address of the interface has changed. */
  async watch(addresses: readonly InterfaceAddress[]): Promise<void> {
    if (this.#source !== undefined) {
      const current = this.#source.address;
      if (addresses.some((a) => a.address === current)) return;
      this.close();
    }
    const own = addresses[0];
    if (own === undefined) return this.#wait(`interface ${this.medium.interface} is absent or has no IPv4 address`);
    let socket: Socket | undefined;
    try {
      const target = await this.#targetFrom(own);
      if (target === undefined) return this.#wait(`interface ${this.medium.interface} has no broadcast address`);
      socket = createSocket({ type: "udp4" });
      await bound(socket, 0, own.address);
      this.#prepare(socket, own);
      this.#target = target;
    } catch (cause) {
      socket?.close();
      return this.#wait(reasonOf(cause));
    }
    socket.on("error", (cause) => this.#failed(cause));
    this.#socket = socket;
    this.#source = { address: own.address, port: socket.address().port };
    this.#waitingFor = "";
    this.#report({ kind: "open", address: own.address });
  }

  async #targetFrom(own: InterfaceAddress): Promise<string | undefined> {
    switch (this.medium.kind) {
      case "bcast":
        return broadcastOf(own);
      case "ucast":
        return /^[0-9.]+$/.test(this.medium.address)
          ? this.medium.address
          : await this.#system.resolve(this.medium.address);
      case "mcast":
        return this.medium.group;
    }
  }

  #prepare(socket: Socket, own: InterfaceAddress): void {
    if (this.medium.kind === "bcast") socket.setBroadcast(true);
    if (this.medium.kind !== "mcast") return;
    socket.setMulticastInterface(own.address);
    socket.setMulticastTTL(this.medium.ttl);
    socket.setMulticastLoopback(this.medium.loop);
  }

  send(bytes: Uint8Array): void {
    if (this.#socket === undefined) return;
    this.#socket.send(bytes, this.medium.port, this.#target, (cause) => {
      if (cause !== null) this.#failed(cause);
      else this.#succeeded();
    });
  }

  #succeeded(): void {
    this.#sent++;
    if (!this.#failing) return;
    this.#failing = false;
    this.#report({ kind: "send-recovered", failures: this.#failures });
  }

  #failed(cause: unknown): void {
    this.#failures++;
    const nowMs = this.#system.nowMs();
    if (this.#failing && nowMs - this.#reportedMs < REPORT_INTERVAL_MS) return;
    this.#failing = true;
    this.#reportedMs = nowMs;
    this.#report({ kind: "send-failed", reason: reasonOf(cause), failures: this.#failures });
  }

  /** Said once per reason, not once per second. */
  #wait(reason: string): void {
    if (this.#waitingFor === reason) return;
    this.#waitingFor = reason;
    this.#report({ kind: "waiting", reason });
  }

  #report(what: { kind: "open"; address: string } | { kind: "waiting"; reason: string } | SendReport): void {
    this.#listener.report({ medium: this.#line, link: this.medium.interface, ...what });
  }

  close(): void {
    this.#socket?.close();
    this.#socket = undefined;
    this.#source = undefined;
  }
}

type SendReport =
  | { kind: "send-failed"; reason: string; failures: number }
  | { kind: "send-recovered"; failures: number };

function bound(socket: Socket, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, () => {
      socket.off("error", reject);
      resolve();
    });
  });
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
