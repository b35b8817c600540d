import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { LabNode, NodeProcess } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import { monotonicMs } from "./clock.ts";
import type { Sample } from "./probe.ts";

const PROBE = fileURLToPath(new URL("probe.js", import.meta.url));

/** The visitor: a program in the client's namespace that fetches the page all the time, and what it saw. */
export class Client {
  readonly #process: NodeProcess;
  readonly #page: string;
  /** When a complete answer with the right content arrived, in order. */
  readonly #goodMs: number[] = [];
  /** Who answered, and when. */
  readonly #who: { readonly atMs: number; readonly node: string }[] = [];
  #wrong = 0;
  #said = "";

  /** @param page what the service must answer, byte for byte */
  constructor(node: LabNode, address: string, page: string) {
    this.#page = page;
    this.#process = node.spawn(["node", PROBE, address]);
    this.#process.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-2_000);
    });
    createInterface({ input: this.#process.child.stdout }).on("line", (line) => this.#take(JSON.parse(line) as Sample));
  }

  #take(sample: Sample): void {
    if (sample.status !== 200) return;
    if (sample.path === "/whoami") this.#who.push({ atMs: sample.endMs, node: sample.body.trim() });
    else if (sample.body === this.#page) this.#goodMs.push(sample.endMs);
    else this.#wrong++;
  }

  /** Answers with status 200 and another content. There must be none: stale or foreign data was served. */
  get wrongAnswers(): number {
    return this.#wrong;
  }

  #assertRunning(): void {
    if (!this.#process.running) throw new Error(`the client's program ended: ${this.#said.trim()}`);
  }

  /** When the first complete good answer after `afterMs` arrived. @throws Error when none comes within `limitMs` */
  async firstGood(afterMs: number, limitMs: number): Promise<number> {
    let found: number | undefined;
    await waitFor(() => {
      this.#assertRunning();
      found = this.#goodMs.find((atMs) => atMs > afterMs);
      return found !== undefined;
    }, limitMs);
    if (found !== undefined) return found;
    throw new Error(
      `no page from the service address within ${limitMs / 1000} s${this.#wrong > 0 ? `, but ${this.#wrong} wrong ones` : ""}`,
    );
  }

  /** When `node` first answered after `afterMs`. */
  async firstFrom(node: string, afterMs: number, limitMs: number): Promise<number> {
    let found: number | undefined;
    await waitFor(() => {
      this.#assertRunning();
      found = this.#who.find((seen) => seen.atMs > afterMs && seen.node === node)?.atMs;
      return found !== undefined;
    }, limitMs);
    if (found !== undefined) return found;
    const last = this.#who.at(-1);
    const seen = last === undefined || last.atMs < afterMs ? "nobody answers" : `${last.node} answers`;
    throw new Error(`${node} does not serve the page within ${limitMs / 1000} s (${seen})`);
  }

  /** The longest time without a good answer between two moments. */
  longestGapMs(fromMs: number, toMs: number = monotonicMs()): number {
    let last = fromMs;
    let longest = 0;
    for (const atMs of [...this.#goodMs.filter((at) => at > fromMs && at < toMs), toMs]) {
      longest = Math.max(longest, atMs - last);
      last = atMs;
    }
    return Math.round(longest);
  }

  async stop(): Promise<void> {
    await this.#process.stop();
  }
}
