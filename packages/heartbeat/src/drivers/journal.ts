import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

/** What the daemon ran, for its next life: under /run, so that it does not outlive the machine's own. */
export interface JournalContents {
  readonly node: string;
  readonly generation: number;
  /** How long others wait for this node, ms. */
  readonly deadtimeMs: number;
  /** Keys of the service groups that run or may run here. */
  readonly groups: readonly string[];
}

/** Digits of a time in the file of the last sign of life, so that each write replaces all of the one before. */
const DIGITS = 20;

/**
 * The journal of a running daemon: one file with what it runs, written anew when that changes, and one with the time of its
 * last status. Times are of the machine's monotonic clock, which a process that follows shares.
 */
export class Journal {
  readonly #path: string;
  readonly #alive: number;
  #written = "";
  #writing: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(path: string, alive: number) {
    this.#path = path;
    this.#alive = alive;
  }

  /** @throws Error of the system when the folder cannot be written */
  static open(path: string): Journal {
    mkdirSync(dirname(path), { recursive: true });
    return new Journal(path, openSync(`${path}.alive`, "w", 0o600));
  }

  /** A status was sent. A write of twenty bytes to memory: /run is a tmpfs. */
  alive(): void {
    if (this.#closed) return;
    writeSync(this.#alive, monotonicMs().toString().padStart(DIGITS, "0"), 0);
  }

  /** Remember what runs; written when it differs from what was written last. */
  record(contents: JournalContents): void {
    const text = `${JSON.stringify(contents)}\n`;
    if (text === this.#written || this.#closed) return;
    this.#written = text;
    this.#writing = this.#writing.then(() => replace(this.#path, text)).catch(() => undefined);
  }

  /** A clean stop runs nothing: forget. */
  async remove(): Promise<void> {
    this.close();
    await this.#writing;
    rmSync(this.#path, { force: true });
    rmSync(`${this.#path}.alive`, { force: true });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#alive);
  }

  /** Everything recorded is in the file. */
  async flushed(): Promise<void> {
    await this.#writing;
  }
}

/**
 * What an earlier life of this daemon ran, when it spoke last less than its dead time ago: until then nobody can have taken it.
 * Undefined when there is no journal, it is of another node, or too old.
 */
export function readJournal(path: string, node: string, nowMs: number = monotonicMs()): JournalContents | undefined {
  try {
    const contents = JSON.parse(readFileSync(path, "utf8")) as Partial<JournalContents>;
    const aliveMs = Number(readFileSync(`${path}.alive`, "latin1"));
    const { groups, deadtimeMs, generation } = contents;
    if (contents.node !== node || !Array.isArray(groups) || typeof deadtimeMs !== "number") return undefined;
    if (!groups.every((key) => typeof key === "string") || typeof generation !== "number") return undefined;
    const silenceMs = nowMs - aliveMs;
    if (aliveMs === 0 || silenceMs < 0 || silenceMs >= deadtimeMs) return undefined;
    return { node, generation, deadtimeMs, groups };
  } catch {
    return undefined;
  }
}

/** CLOCK_MONOTONIC in whole ms, the same for every process of this machine. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

async function replace(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
