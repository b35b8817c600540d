import { connect } from "node:net";

type Answer = Readonly<Record<string, unknown>> & {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
};

/** As much of QEMU's control protocol as starting a mirror takes. */
export class Qmp {
  /** Begins to copy every write of `device` to `target` before it completes; resolves when that is in force. */
  static async mirror(path: string, device: string, target: string): Promise<void> {
    const qmp = new Qmp(path);
    try {
      await qmp.#call("qmp_capabilities", {});
      await qmp.#call("blockdev-mirror", {
        "job-id": "mirror",
        device,
        target,
        sync: "none",
        "copy-mode": "write-blocking",
        "filter-node-name": "mirrored",
      });
      for (let i = 0; i < 200; i++) {
        const { return: jobs } = await qmp.#call("query-jobs", {});
        if ((jobs as { id: string; status: string }[]).some((j) => j.id === "mirror" && j.status === "ready")) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      throw new Error("QEMU's mirror did not become ready in 10 s");
    } finally {
      qmp.#socket.destroy();
    }
  }

  readonly #socket: ReturnType<typeof connect>;
  readonly #waiting: ((answer: Answer) => void)[] = [];
  #text = "";

  private constructor(path: string) {
    this.#socket = connect(path);
    this.#socket.on("error", () => {});
    this.#socket.on("data", (chunk: Buffer) => {
      this.#text += chunk.toString();
      for (let end = this.#text.indexOf("\n"); end >= 0; end = this.#text.indexOf("\n")) {
        const answer = JSON.parse(this.#text.slice(0, end)) as Answer;
        this.#text = this.#text.slice(end + 1);
        if ("return" in answer || answer.error !== undefined) this.#waiting.shift()?.(answer);
      }
    });
  }

  async #call(execute: string, args: Readonly<Record<string, unknown>>): Promise<Answer> {
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.push(resolve);
      this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    });
    if (answer.error !== undefined) throw new Error(`QEMU: ${execute}: ${answer.error.desc}`);
    return answer;
  }
}
