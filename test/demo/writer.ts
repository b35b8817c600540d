import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { LabNode, NodeProcess } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import type { Verdict } from "./records.ts";

const PROGRAM = fileURLToPath(new URL("records.js", import.meta.url));

/** Appends records on whichever node holds the service, and knows which of them were acknowledged. */
export class Writer {
  readonly #file: string;
  readonly #nonce: string;
  #process: NodeProcess | undefined;
  #closed: Promise<unknown> = Promise.resolve();
  #said = "";
  #last = -1;

  constructor(file: string, nonce: string) {
    this.#file = file;
    this.#nonce = nonce;
  }

  /** Records that fsync has acknowledged, since the beginning. */
  get acknowledged(): number {
    return this.#last + 1;
  }

  /** Begin on a node that has the filesystem mounted; resolves after its first acknowledged record. */
  async start(node: LabNode, limitMs = 10_000): Promise<void> {
    const before = this.#last;
    const writer = node.spawn(["node", PROGRAM, "append", this.#file, this.#nonce]);
    this.#process = writer;
    this.#said = "";
    writer.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#said += text;
    });
    this.#closed = once(writer.child, "close");
    createInterface({ input: writer.child.stdout }).on("line", (line) => {
      this.#last = Math.max(this.#last, Number(line));
    });
    const begun = await waitFor(() => this.#last > before || !writer.running, limitMs);
    if (!writer.running) throw new Error(`the writer on ${node.name} ended: ${this.#said.trim() || "no message"}`);
    if (!begun) throw new Error(`no record was acknowledged on ${node.name} within ${limitMs / 1000} s`);
  }

  /**
   * The writer's end: wait for it when its node lost power or its filesystem moves. All its output is read then.
   * @throws Error when it ended for another reason, such as an I/O error
   */
  async ended(limitMs: number): Promise<void> {
    const writer = this.#process;
    if (writer === undefined) return;
    if (!(await waitFor(() => !writer.running, limitMs)))
      throw new Error("the writer goes on though its service moved");
    await this.#closed;
    this.#process = undefined;
    const code = writer.child.exitCode;
    if (code !== null && code !== 0 && code < 128) throw new Error(`the writer failed: ${this.#said.trim()}`);
  }

  async stop(): Promise<void> {
    const writer = this.#process;
    if (writer === undefined) return;
    await writer.stop();
    await this.#closed;
    this.#process = undefined;
  }

  /** Read the file on a node and look for every acknowledged record. */
  async check(node: LabNode): Promise<Verdict> {
    const args = ["check", this.#file, this.#nonce, String(this.#last)];
    return JSON.parse(await node.must(["node", PROGRAM, ...args])) as Verdict;
  }
}
