import type { ResourceStatus, VolumeStatus } from "@hacluster/blockrep";
import {
  connectionObject,
  connectionState,
  type DrbdObject,
  deviceObject,
  type Field,
  hasConnection,
  peerDeviceObject,
  percentDone,
  resourceObject,
} from "./drbd-objects.ts";

export interface StatusOptions {
  /** Also what is as usual. */
  readonly verbose: boolean;
  readonly statistics: boolean;
  /** Lines are wrapped between two words before they get longer; drbdsetup takes the terminal's width. */
  readonly width: number;
}

/** Where nothing is known of a terminal. */
export const DEFAULT_WIDTH = 80;

/**
 * A resource as `drbdsetup status` prints it, with the empty line that ends each resource.
 * @see drbdsetup(8) status
 */
export function formatStatus(status: ResourceStatus, options: StatusOptions): string {
  const lines = new Wrapper(options.width);
  resource(lines, status, options);
  const single = status.volumes.length === 1 && status.volumes[0]?.volume === 0;
  for (const volume of status.volumes) device(lines, status, volume, single, options);
  if (hasConnection(status)) {
    connection(lines, status, options);
    if (isConnected(status) || options.verbose || options.statistics) {
      for (const volume of status.volumes) peerDevice(lines, status, volume, single, options);
    }
  }
  return `${lines.text}\n`;
}

function resource(lines: Wrapper, status: ResourceStatus, { verbose, statistics }: StatusOptions): void {
  const object = resourceObject(status);
  lines.word(0, status.name);
  lines.fields(4, object.info, (key, value) => verbose || key === "role" || value !== "no");
  if (verbose && statistics) {
    lines.end();
    lines.fields(4, object.statistics);
  }
  lines.end();
}

function device(
  lines: Wrapper,
  status: ResourceStatus,
  volume: VolumeStatus,
  single: boolean,
  { verbose, statistics }: StatusOptions,
): void {
  const object = deviceObject(status, volume);
  let indent = 2;
  if (verbose || !single) {
    lines.word(indent, `volume:${volume.volume}`);
    indent = 6;
    if (verbose) lines.word(indent, `minor:${volume.minor}`);
  }
  lines.fields(indent, object.info);
  const seldom = new Set(["size", "al-writes", "bm-writes", "upper-pending", "lower-pending", "al-suspended"]);
  if (statistics) {
    lines.end();
    lines.fields(6, object.statistics, (key, value) => {
      if (key === "blocked") return verbose || value !== "no";
      return verbose || !seldom.has(key);
    });
  } else lines.fields(6, object.statistics, (key, value) => key === "blocked" && (verbose || value !== "no"));
  lines.end();
}

function connection(lines: Wrapper, status: ResourceStatus, { verbose }: StatusOptions): void {
  const object: DrbdObject = connectionObject(status);
  const connected = isConnected(status);
  lines.word(2, "peer");
  lines.fields(6, object.info, (key) => verbose || (key === "role") === connected);
  lines.fields(6, object.statistics, (_, value) => verbose || value !== "no");
  lines.end();
}

function isConnected(status: ResourceStatus): boolean {
  return connectionState(status.connection) === "Connected";
}

function peerDevice(
  lines: Wrapper,
  status: ResourceStatus,
  volume: VolumeStatus,
  single: boolean,
  { verbose, statistics }: StatusOptions,
): void {
  const object = peerDeviceObject(status, volume);
  let indent = 4;
  if (verbose || !single) {
    lines.word(indent, `volume:${volume.volume}`);
    indent = 8;
  }
  const [replication, peerDisk, ...rest] = object.info;
  if (replication !== undefined && (verbose || replication[1] !== "Off")) {
    lines.fields(indent, [replication]);
    indent = 8;
  }
  if (peerDisk !== undefined) lines.fields(indent, [peerDisk]);
  const done = percentDone(volume);
  if (done !== undefined) lines.word(8, `done:${done}`);
  lines.fields(8, rest, (_, value) => verbose || value !== "no");
  if (statistics) {
    lines.end();
    const always = new Set(["received", "sent"]);
    lines.fields(8, object.statistics, (key, value) => verbose || always.has(key) || value !== "0");
  }
  lines.end();
}

/** Words with one space between them; a word that would not fit goes to a line of its own, indented. */
class Wrapper {
  readonly #width: number;
  #lines: string[] = [];
  #line = "";

  constructor(width: number) {
    this.#width = width;
  }

  get text(): string {
    return this.#lines.map((line) => `${line}\n`).join("");
  }

  word(indent: number, word: string): void {
    if (this.#line !== "" && this.#line.length + 1 + word.length > this.#width) this.end();
    this.#line += this.#line === "" ? `${" ".repeat(indent)}${word}` : ` ${word}`;
  }

  fields(indent: number, fields: readonly Field[], wanted: (key: string, value: string) => boolean = () => true): void {
    for (const [key, value] of fields) if (wanted(key, value)) this.word(indent, `${key}:${value}`);
  }

  /** Nothing happens on an empty line. */
  end(): void {
    if (this.#line !== "") this.#lines.push(this.#line);
    this.#line = "";
  }
}
