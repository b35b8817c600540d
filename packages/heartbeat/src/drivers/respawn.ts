import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import type { RespawnClient } from "../config/model.ts";

/** A client that ends with this code has done its work. @see Heartbeat 3.0.6 respawn */
const NO_RESPAWN = 100;
/** So many ends in a row, each within SHORT_LIFE_MS of its start, and it is not started again. */
const SHORT_LIVES_MAX = 5;
const SHORT_LIFE_MS = 30_000;
const RESTART_MS = 1000;
/** Between SIGTERM and SIGKILL. */
const STOP_GRACE_MS = 5000;

export type RespawnReport =
  | { readonly kind: "started"; readonly path: string; readonly pid: number }
  | { readonly kind: "ended"; readonly path: string; readonly exitCode: number; readonly again: boolean }
  | { readonly kind: "given-up"; readonly path: string; readonly reason: string };

export interface RespawnOptions {
  readonly environment: () => Readonly<Record<string, string>>;
  onReport(report: RespawnReport): void;
  /** A `failfast` client died: the machine is to be rebooted. */
  onFailfast(path: string): void;
  /** Pause before a client is started again, ms; tests shorten it. */
  readonly restartMs?: number;
  /** Accounts of the machine; tests have their own. */
  readonly passwd?: string;
}

interface Account {
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/**
 * The clients of `respawn` and `failfast`: started in order, kept running, ended in reverse order. Those that are built in
 * (ipfail, dopd) are not started.
 * @see Heartbeat 3.0.6 respawn, failfast
 */
export class RespawnSet {
  readonly #clients: Client[];

  constructor(clients: readonly RespawnClient[], options: RespawnOptions) {
    this.#clients = clients
      .filter((client) => client.builtIn === undefined)
      .map((client) => new Client(client, options));
  }

  start(): void {
    for (const client of this.#clients) void client.start();
  }

  async stop(): Promise<void> {
    for (const client of [...this.#clients].reverse()) await client.stop();
  }
}

class Client {
  readonly #client: RespawnClient;
  readonly #options: RespawnOptions;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #shortLives = 0;
  #stopping = false;

  constructor(client: RespawnClient, options: RespawnOptions) {
    this.#client = client;
    this.#options = options;
  }

  async start(): Promise<void> {
    const { path, args, user } = this.#client;
    const account = await accountOf(user, this.#options.passwd ?? "/etc/passwd");
    if (this.#stopping) return;
    if (account === undefined) {
      this.#options.onReport({ kind: "given-up", path, reason: `user ${user} does not exist` });
      return;
    }
    const startedMs = performance.now();
    // a process of our own account needs no change of identity, which only root may make
    const identity = process.getuid?.() === account.uid ? {} : { uid: account.uid, gid: account.gid };
    const child = spawn(path, args, {
      ...identity,
      cwd: "/",
      stdio: "ignore",
      env: { ...process.env, ...this.#options.environment(), HOME: account.home, USER: user },
    });
    this.#child = child;
    child.on("error", (error) => this.#ended(child, startedMs, 127, error.message));
    child.on("exit", (code, signal) => this.#ended(child, startedMs, code ?? (signal === "SIGKILL" ? 137 : 143), ""));
    if (child.pid !== undefined) this.#options.onReport({ kind: "started", path, pid: child.pid });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === undefined) return;
    await new Promise<void>((resolve) => {
      const kill = setTimeout(() => child.kill("SIGKILL"), STOP_GRACE_MS);
      child.on("exit", () => {
        clearTimeout(kill);
        resolve();
      });
      child.kill("SIGTERM");
    });
  }

  #ended(child: ChildProcess, startedMs: number, exitCode: number, error: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    if (this.#stopping) return;
    const { path, failfast } = this.#client;
    const wanted = exitCode !== NO_RESPAWN;
    if (failfast && wanted) {
      this.#options.onReport({ kind: "ended", path, exitCode, again: false });
      this.#options.onFailfast(path);
      return;
    }
    this.#shortLives = performance.now() - startedMs < SHORT_LIFE_MS ? this.#shortLives + 1 : 0;
    const again = wanted && this.#shortLives < SHORT_LIVES_MAX;
    this.#options.onReport({ kind: "ended", path, exitCode, again });
    if (again) {
      this.#timer = setTimeout(() => void this.start(), this.#options.restartMs ?? RESTART_MS);
    } else if (wanted) {
      const reason = error === "" ? `it ended ${SHORT_LIVES_MAX} times shortly after its start` : error;
      this.#options.onReport({ kind: "given-up", path, reason });
    }
  }
}

async function accountOf(user: string, passwd: string): Promise<Account | undefined> {
  let text = "";
  try {
    text = await readFile(passwd, "utf8");
  } catch {
    return undefined;
  }
  for (const line of text.split("\n")) {
    const [name, , uid, gid, , home] = line.split(":");
    if (name === user) return { uid: Number(uid), gid: Number(gid), home: home ?? "/" };
  }
  return undefined;
}
