import { type ScheduledTask, schedule, validate } from "node-cron";
import { ErrorCode, HaError } from "../base/errors.ts";
import { ConnState, DiskState, Role } from "../wire/state-word.ts";
import type { Resource } from "./resource.ts";

/**
 * The times at which a resource is verified: `HACLUSTER_VERIFY` in the environment of its process, since drbd.conf has no
 * place for it that drbdadm would take. A cron expression of five fields for every resource, or `NAME=EXPRESSION` parts
 * separated by `;`, of which one without a name counts for the others: `30 3 * * 0; r1=0 4 1 * *`.
 * @returns undefined: never
 * @throws HaError HA_CONFIG_INVALID for what is no cron expression
 */
export function verifyTimes(setting: string | undefined, resource: string): string | undefined {
  let forAll: string | undefined;
  let own: string | undefined;
  for (const part of (setting ?? "").split(";")) {
    const at = part.indexOf("=");
    const name = at === -1 ? undefined : part.slice(0, at).trim();
    const expression = part.slice(at + 1).trim();
    if (expression === "" && name === undefined) continue;
    if (expression !== "" && (expression.split(/\s+/).length !== 5 || !validate(expression))) {
      throw new HaError(
        ErrorCode.configInvalid,
        `HACLUSTER_VERIFY: "${expression}" is no time of cron; write five fields, minute hour day month weekday, as in "30 3 * * 0"`,
      );
    }
    if (name === undefined) forAll = expression;
    else if (name === resource) own = expression;
  }
  const times = own ?? forAll;
  return times === "" ? undefined : times;
}

/** Verifies a resource at the given times, on the node where it is Primary; where none is, on both nodes' first try. */
export class VerifySchedule {
  readonly #resource: Resource;
  readonly #note: (level: "info" | "warn", text: string) => void;
  readonly #task: ScheduledTask;

  /** @param times a cron expression, as `verifyTimes` gives it; local time */
  constructor(resource: Resource, times: string, note: (level: "info" | "warn", text: string) => void) {
    this.#resource = resource;
    this.#note = note;
    this.#task = schedule(times, () => this.run());
  }

  /** What happens at each of the times. Never throws: a verify that cannot run is a note. */
  async run(): Promise<void> {
    const s = this.#resource.snapshot();
    if (s.role !== Role.Primary && s.peerRole === Role.Primary) return; // the peer's schedule does it
    const good = s.volumes.every((v) => v.disk === DiskState.UpToDate && v.peerDisk === DiskState.UpToDate);
    if (s.conn !== ConnState.Connected || !good) {
      this.#note("warn", "scheduled verify left out: the disks are not connected and UpToDate");
      return;
    }
    try {
      await this.#resource.onVolumes({ verb: "verify" });
      this.#note("info", "scheduled verify started");
    } catch (error) {
      this.#note("warn", `scheduled verify: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  async stop(): Promise<void> {
    await this.#task.stop();
  }
}
