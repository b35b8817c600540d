import { spawn } from "node:child_process";
import { type HaCf, Journal, type RespawnReport, RespawnSet, readJournal, Watchdog } from "@hacluster/heartbeat";
import type { Logger } from "pino";
import { HEARTBEAT_JOURNAL } from "../paths.ts";

export interface CompanionOptions {
  readonly haCf: HaCf;
  readonly node: string;
  readonly logger: Logger;
  readonly environment: () => Readonly<Record<string, string>>;
  /** False in a container or a test node: a `failfast` client that dies then stops the cluster here instead. */
  readonly mayReboot: boolean;
  /** Leave the cluster, because a `failfast` client died and the machine must not be rebooted. */
  leave(reason: string): void;
}

/** What accompanies the cluster daemon for its whole life, whatever generations it goes through. */
export class Companions {
  readonly #options: CompanionOptions;
  readonly #log: Logger;
  readonly #respawn: RespawnSet;
  #watchdog: Watchdog | undefined;
  #tickler: NodeJS.Timeout | undefined;
  #journal: Journal | undefined;
  #earlier: readonly string[] | undefined;
  #clientsRun = false;

  constructor(options: CompanionOptions) {
    this.#options = options;
    this.#log = options.logger;
    this.#respawn = new RespawnSet(options.haCf.respawn, {
      environment: options.environment,
      onReport: (report) => this.#report(report),
      onFailfast: (path) => this.#failfast(path),
    });
  }

  get journal(): Journal | undefined {
    return this.#journal;
  }

  /** What the daemon's earlier life ran, when it ended a moment ago. Only its first generation may adopt that. */
  takeEarlier(): readonly string[] | undefined {
    const earlier = this.#earlier;
    this.#earlier = undefined;
    return earlier;
  }

  start(): void {
    const { haCf, node } = this.#options;
    const contents = readJournal(HEARTBEAT_JOURNAL, node);
    this.#earlier = contents?.groups;
    if (contents !== undefined) {
      const groups = contents.groups.length === 0 ? "nothing" : contents.groups.join(", ");
      this.#log.warn(
        { event: "journal.found" },
        `this daemon ended a moment ago without leaving the cluster; it ran ${groups}`,
      );
    }
    try {
      this.#journal = Journal.open(HEARTBEAT_JOURNAL);
    } catch (error) {
      this.#log.warn({ event: "journal.off" }, `no journal: ${(error as Error).message}`);
    }
    if (haCf.watchdog !== undefined) this.#openWatchdog(haCf.watchdog);
    if (haCf.autoFailback === "legacy") {
      this.#log.warn(
        { event: "config.legacy" },
        'auto_failback legacy is taken as "on"; a real Heartbeat in legacy mode speaks another protocol: write "auto_failback on" or "off" on both nodes',
      );
      if (haCf.respawn.some((client) => client.builtIn === "ipfail")) {
        this.#log.warn(
          { event: "config.ipfail" },
          'ipfail does nothing with auto_failback legacy, as in Heartbeat: write "auto_failback on" or "off"',
        );
      }
    }
  }

  /** This node is active: the clients may run. Further calls do nothing. */
  active(): void {
    if (this.#clientsRun) return;
    this.#clientsRun = true;
    this.#respawn.start();
  }

  /** The service groups are released and the daemon ends in order. */
  async stop(): Promise<void> {
    await this.#respawn.stop();
    clearInterval(this.#tickler);
    this.#watchdog?.close();
    await this.#journal?.remove();
  }

  #openWatchdog(device: string): void {
    try {
      this.#watchdog = Watchdog.open(device);
    } catch (error) {
      this.#log.error(
        { event: "watchdog.off" },
        `watchdog ${device} cannot be opened, this node runs without: ${(error as Error).message}`,
      );
      return;
    }
    this.#log.info(
      { event: "watchdog.on" },
      `watchdog ${device}: the machine is reset when this process hangs or dies`,
    );
    this.#watchdog.tickle();
    this.#tickler = setInterval(() => this.#watchdog?.tickle(), this.#options.haCf.keepaliveMs);
  }

  #report(report: RespawnReport): void {
    const { path } = report;
    if (report.kind === "started") {
      this.#log.info({ event: "client.started", path, pid: report.pid }, `client ${path} started`);
    } else if (report.kind === "ended") {
      const next = report.again ? ": starting it again" : "";
      this.#log.warn(
        { event: "client.ended", path, exitCode: report.exitCode },
        `client ${path} ended with exit code ${report.exitCode}${next}`,
      );
    } else this.#log.error({ event: "client.given-up", path }, `client ${path} is not started again: ${report.reason}`);
  }

  #failfast(path: string): void {
    if (!this.#options.mayReboot) {
      this.#log.fatal(
        { event: "failfast" },
        `failfast client ${path} died; this machine is not ours to reboot: leaving`,
      );
      this.#options.leave(`failfast client ${path} died`);
      return;
    }
    this.#log.fatal({ event: "failfast" }, `failfast client ${path} died: rebooting`);
    this.#log.flush();
    spawn("reboot", ["-nf"], { stdio: "ignore", detached: true }).on("error", (error) => {
      this.#log.fatal({ event: "failfast" }, `cannot reboot: ${error.message}`);
      this.#options.leave(`failfast client ${path} died`);
    });
  }
}
