import type { ResourceStatus } from "@hacluster/blockrep";
import { type DrbdObject, drbdObjects, type Field, hasConnection } from "./drbd-objects.ts";

export interface EventOptions {
  readonly statistics: boolean;
  /** Put in front of every line: the time of the event, as `2026-11-20T17:30:03.532082+00:00`. */
  readonly timestamps: boolean;
}

/** A handler of the configuration was called, or has returned with a status. */
export interface HelperEvent {
  readonly helper: string;
  readonly volume: number;
  readonly status: number | undefined;
}

/** Statistics that a change line names only when they have changed. */
const ONLY_CHANGED: ReadonlySet<string> = new Set(["al-suspended", "blocked", "write-ordering", "congested"]);

/**
 * The lines of `drbdsetup events2` from snapshots of a resource: each new snapshot is compared with the one before it.
 * One stream describes any number of resources; time is handed in as milliseconds since 1970.
 */
export class EventStream {
  readonly #options: EventOptions;
  readonly #seen = new Map<string, ResourceStatus>();

  constructor(options: EventOptions) {
    this.#options = options;
  }

  /** What there is when somebody begins to look; ends with `exists -`. */
  initial(statuses: readonly ResourceStatus[], atMs: number): string[] {
    const lines: string[] = [];
    for (const status of statuses) {
      this.#seen.set(status.name, status);
      for (const object of drbdObjects(status)) lines.push(this.#line(atMs, "exists", object, object.info));
    }
    lines.push(this.#stamped(atMs, "exists -"));
    return lines;
  }

  /** A resource as it is now: what was created, has changed or is gone since the last time. */
  update(status: ResourceStatus, atMs: number): string[] {
    const before = this.#seen.get(status.name);
    this.#seen.set(status.name, status);
    if (before === undefined) return drbdObjects(status).map((o) => this.#line(atMs, "create", o, o.info));
    const had = hasConnection(before);
    const has = hasConnection(status);
    // a connection is made StandAlone and ends so: neither state has objects of its own outside of this moment
    if (!had && has) return this.#connected(before, status, atMs);
    if (had && !has) return this.#disconnected(before, status, atMs);
    return this.#changes(drbdObjects(before), drbdObjects(status), atMs);
  }

  /** The resource is down. */
  gone(name: string, atMs: number): string[] {
    const before = this.#seen.get(name);
    this.#seen.delete(name);
    return before === undefined ? [] : this.#destroyed(drbdObjects(before), atMs);
  }

  helper(name: string, event: HelperEvent, atMs: number): string[] {
    const status = this.#seen.get(name);
    const volume = status?.volumes.find((v) => v.volume === event.volume) ?? status?.volumes[0];
    const peer = status !== undefined && hasConnection(status) ? " peer-node-id:0 conn-name:peer" : "";
    const where = volume === undefined ? "" : ` volume:${volume.volume} minor:${volume.minor}`;
    const id = `name:${name}${peer}${where} helper:${event.helper}`;
    const text = event.status === undefined ? `call helper ${id}` : `response helper ${id} status:${event.status}`;
    return [this.#stamped(atMs, text)];
  }

  #connected(before: ResourceStatus, status: ResourceStatus, atMs: number): string[] {
    const fresh = drbdObjects(status).filter(isOfPeer);
    const created = fresh.map((object) => {
      const info = object.info.map(([key, value]): Field => [key, FRESH_PEER[key] ?? value]);
      return { ...object, info };
    });
    return [
      ...created.map((object) => this.#line(atMs, "create", object, object.info)),
      ...this.#changes([...drbdObjects(before), ...created], drbdObjects(status), atMs),
    ];
  }

  #disconnected(before: ResourceStatus, status: ResourceStatus, atMs: number): string[] {
    const old = drbdObjects(before);
    // what the peer's objects would be if StandAlone had some
    const last = drbdObjects({ ...status, connection: "Unconnected" }).map((object) =>
      object.kind === "connection"
        ? { ...object, info: object.info.map(([k, v]): Field => [k, k === "connection" ? "StandAlone" : v]) }
        : object,
    );
    return [...this.#changes(old, last, atMs), ...this.#destroyed(old.filter(isOfPeer), atMs)];
  }

  #changes(before: readonly DrbdObject[], now: readonly DrbdObject[], atMs: number): string[] {
    const lines: string[] = [];
    for (const object of now) {
      const old = before.find((o) => o.kind === object.kind && o.id === object.id);
      if (old === undefined) {
        lines.push(this.#line(atMs, "create", object, object.info));
        continue;
      }
      const info = changed(old.info, object.info);
      if (info.length > 0) lines.push(this.#line(atMs, "change", object, info, old));
    }
    return lines;
  }

  #destroyed(objects: readonly DrbdObject[], atMs: number): string[] {
    const order = ["peer-device", "connection", "device", "resource"];
    return [...objects]
      .sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
      .map((object) => this.#stamped(atMs, `destroy ${object.kind} ${object.id}`));
  }

  #line(atMs: number, action: string, object: DrbdObject, info: readonly Field[], old?: DrbdObject): string {
    let statistics: readonly Field[] = [];
    if (this.#options.statistics) {
      const news = old === undefined ? undefined : changed(old.statistics, object.statistics);
      statistics = object.statistics.filter(
        (field) => news === undefined || !ONLY_CHANGED.has(field[0]) || news.includes(field),
      );
    }
    const words = [...info, ...statistics].map(([key, value]) => ` ${key}:${value}`);
    return this.#stamped(atMs, `${action} ${object.kind} ${object.id}${words.join("")}`);
  }

  #stamped(atMs: number, text: string): string {
    return this.#options.timestamps ? `${timestamp(atMs)} ${text}` : text;
  }
}

const FRESH_PEER: Readonly<Record<string, string>> = {
  connection: "StandAlone",
  role: "Unknown",
  replication: "Off",
  "resync-suspended": "no",
};

function isOfPeer(object: DrbdObject): boolean {
  return object.kind === "connection" || object.kind === "peer-device";
}

function changed(before: readonly Field[], now: readonly Field[]): readonly Field[] {
  const old = new Map(before);
  return now.filter(([key, value]) => old.get(key) !== value);
}

/** Local time with microseconds and the offset from UTC: `2026-11-20T17:30:03.532082+00:00`. */
export function timestamp(atMs: number): string {
  const date = new Date(atMs);
  const offset = -date.getTimezoneOffset();
  const local = new Date(Math.floor(atMs) + offset * 60_000).toISOString().slice(0, 19);
  const micros = Math.floor((atMs - Math.floor(atMs / 1000) * 1000) * 1000);
  const two = (value: number): string => String(value).padStart(2, "0");
  const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  return `${local}.${String(micros).padStart(6, "0")}${zone}`;
}
