// The client's program, run in the client's namespace: asks for a page again and again, each time on a new connection and
// without waiting for slow answers, and prints one JSON line per answer or failure. Arguments: ADDRESS
import { get } from "node:http";
import { monotonicMs } from "./clock.ts";

/** One line of the probe's output. */
export interface Sample {
  readonly path: string;
  readonly startMs: number;
  readonly endMs: number;
  /** HTTP status, or 0 when there was no complete answer. */
  readonly status: number;
  readonly body: string;
}

const INTERVAL_MS = 25;
/** An answer that takes longer counts as none; a later attempt finds the service sooner than a repeated SYN would. */
const TIMEOUT_MS = 1_000;
/** Attempts that wait for an answer at once. */
const OUTSTANDING_MAX = 50;
/** Every how many-th attempt asks which node answers. */
const WHO_EVERY = 4;

function probe(address: string): void {
  let outstanding = 0;
  let count = 0;
  setInterval(() => {
    if (outstanding >= OUTSTANDING_MAX) return;
    count++;
    const path = count % WHO_EVERY === 0 ? "/whoami" : "/";
    const startMs = monotonicMs();
    let ended = false;
    const end = (status: number, body: string): void => {
      if (ended) return;
      ended = true;
      outstanding--;
      const sample: Sample = { path, startMs, endMs: monotonicMs(), status, body };
      process.stdout.write(`${JSON.stringify(sample)}\n`);
    };
    outstanding++;
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const request = get({ host: address, port: 80, path, agent: false, signal }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => end(response.complete ? (response.statusCode ?? 0) : 0, body));
      response.on("error", () => end(0, ""));
      response.on("close", () => end(0, ""));
    });
    request.on("error", () => end(0, ""));
  }, INTERVAL_MS);
}

probe(process.argv[2] ?? "192.168.0.29");
