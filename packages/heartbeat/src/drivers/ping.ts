import { type ChildProcess, spawn } from "node:child_process";
import type { PingNode } from "../config/model.ts";

export interface PingOptions {
  /** Pause between two echo requests. */
  readonly intervalMs: number;
  /** A `ping` that has heard nothing for so long is started anew: routes and names may have changed. */
  readonly deadpingMs: number;
  /** Name of the ping node or group of which a host answered. */
  onReply(name: string): void;
  /** Why a host is not asked at all; said once per reason. */
  onTrouble(host: string, reason: string): void;
  /** Replaces `ping`, for tests. */
  readonly program?: string;
}

const RESTART_MS = 1000;
/** A line of output longer than this is none of ping's. */
const LINE_MAX = 4096;
/** `64 bytes from 10.0.0.1: icmp_seq=7 …`; errors of routers begin with `From`. @see iputils ping */
const REPLY = /^\d+ bytes from .*icmp_seq=\d+/;

/**
 * The hosts of `ping`, `ping6` and `ping_group`, each asked by one lasting process of the system's `ping`: Node has no raw
 * sockets. A real Heartbeat sends an echo request with each of its statuses; so do we, by the same interval.
 * @see Heartbeat 3.0.6 ping
 */
export class PingSet {
  readonly #pingers: Pinger[];

  constructor(nodes: readonly PingNode[], options: PingOptions) {
    this.#pingers = nodes
      .filter((node) => node.kind !== "hbaping")
      .flatMap((node) => node.hosts.map((host) => new Pinger(node, host, options)));
  }

  start(): void {
    for (const pinger of this.#pingers) pinger.start();
  }

  close(): void {
    for (const pinger of this.#pingers) pinger.close();
  }
}

class Pinger {
  readonly #node: PingNode;
  readonly #host: string;
  readonly #options: PingOptions;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;
  #closed = false;
  #reason = "";

  constructor(node: PingNode, host: string, options: PingOptions) {
    this.#node = node;
    this.#host = host;
    this.#options = options;
  }

  start(): void {
    if (this.#closed) return;
    const seconds = Math.max(0.002, this.#options.intervalMs / 1000).toFixed(3);
    const family = this.#node.kind === "ping6" || this.#host.includes(":") ? ["-6"] : [];
    const child = spawn(this.#options.program ?? "ping", [...family, "-n", "-i", seconds, this.#host], {
      stdio: ["ignore", "pipe", "pipe"],
      // the format of the replies must not depend on the machine's language
      env: { ...process.env, LC_ALL: "C" },
    });
    this.#child = child;
    let rest = "";
    let lastWords = "";
    child.stdout.setEncoding("latin1").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = (lines.pop() ?? "").slice(0, LINE_MAX);
      if (!lines.some((line) => REPLY.test(line))) return;
      this.#silence?.refresh();
      this.#reason = "";
      this.#options.onReply(this.#node.name);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      lastWords = text.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
    });
    const ended = (reason: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      clearTimeout(this.#silence);
      if (this.#closed) return;
      this.#say(reason);
      this.#timer = setTimeout(() => this.start(), RESTART_MS);
    };
    child.on("error", (error) => ended(`cannot run ping (Debian package iputils-ping): ${error.message}`));
    child.on("exit", (code, signal) => {
      if (signal === null) ended(lastWords === "" ? `ping ended with exit code ${code}` : lastWords);
      else ended("");
    });
    this.#silence = setTimeout(() => child.kill("SIGKILL"), Math.max(this.#options.deadpingMs, 2000));
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#child?.kill("SIGKILL");
  }

  #say(reason: string): void {
    if (reason === "" || reason === this.#reason) return;
    this.#reason = reason;
    this.#options.onTrouble(this.#host, reason);
  }
}
