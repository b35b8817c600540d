import { ConnState, DiskState, Role, type StateFields } from "../wire/state-word.ts";
import type { Connection } from "./connection.ts";
import { StateRc, stateRefusal } from "./state.ts";

/** Exit codes of a fence-peer handler, with what DRBD's log calls them. */
const EXIT_CODES: Readonly<Record<number, string>> = {
  3: "peer is inconsistent or worse",
  4: "peer was outdated",
  5: "peer is unreachable, assumed to be dead",
  6: "peer is active",
  7: "peer was fenced",
};

/**
 * What the exit code of fence-peer says about the two disks; undefined: nothing that could be relied on.
 * @param disk my own disk: an unreachable peer counts as outdated only for a node that has the newest data for sure
 * @see DRBD 8.4 drbd_nl.c conn_try_outdate_peer
 */
export function fenceVerdict(exitCode: number, disk: DiskState): Partial<StateFields> | undefined {
  switch (exitCode) {
    case 3:
      return { pdsk: DiskState.Inconsistent };
    case 4:
    case 7:
      return { pdsk: DiskState.Outdated };
    case 5:
      return disk === DiskState.UpToDate ? { pdsk: DiskState.Outdated } : undefined;
    case 6:
      return { disk: DiskState.Outdated };
    default:
      return undefined;
  }
}

/**
 * A Primary that lost its peer has the peer's disk marked as outdated (or the peer killed), so that nobody goes on with
 * old data. With resource-and-stonith no I/O passes until that is done; the state word says so (`suspFen`).
 */
export class Fencing {
  readonly #c: Connection;
  /** Counts connections: an answer about the peer as it was before it came back says nothing. */
  #contacts = 0;
  #running = false;

  constructor(connection: Connection) {
    this.#c = connection;
  }

  /** Whether any volume asks for it. */
  get wanted(): boolean {
    return this.#c.volumes.some((v) => v.diskOptions.fencing !== "dont-care");
  }

  /** The peer is back. */
  contact(): void {
    this.#contacts++;
  }

  /** The connection is gone, for whatever reason, and the state says so. */
  connectionLost(): void {
    const unknown = this.#c.volumes.some(
      ({ state }) => state.role === Role.Primary && state.pdsk >= DiskState.DUnknown,
    );
    if (unknown && this.wanted) this.run(() => {});
  }

  /** Runs fence-peer and applies its verdict. @param done told whether no volume's peer disk can be current any more */
  run(done: (outdated: boolean) => void): void {
    const c = this.#c;
    if (this.#running) {
      done(false);
      return;
    }
    if (!c.ctx.options.handlers.includes("fence-peer")) {
      c.ctx.note("error", "fencing is configured but there is no fence-peer handler");
      done(false);
      return;
    }
    this.#running = true;
    const contacts = this.#contacts;
    c.runHandler("fence-peer", (exitCode) => {
      this.#running = false;
      const text = EXIT_CODES[exitCode];
      if (text === undefined) c.ctx.note("error", `fence-peer handler is broken, it returned ${exitCode}`);
      else c.ctx.note("warn", `fence-peer handler returned ${exitCode} (${text})`);
      if (contacts !== this.#contacts || c.conn >= ConnState.WFReportParams) {
        c.ctx.note("info", "the result of fence-peer is ignored: the peer is connected again");
        done(false);
        return;
      }
      for (const v of c.volumes) {
        const verdict = fenceVerdict(exitCode, v.state.disk);
        if (verdict === undefined) continue;
        const rc = v.change(verdict, `fence-peer returned ${exitCode}`);
        if (rc < StateRc.Success) c.ctx.note("error", `fence-peer returned ${exitCode}: ${stateRefusal(rc)}`);
      }
      done(c.volumes.every((v) => v.state.pdsk <= DiskState.Outdated));
    });
  }

  /** A resync from here is over. */
  resyncDone(): void {
    const good = ({ state }: { state: StateFields }): boolean =>
      state.disk === DiskState.UpToDate && state.pdsk === DiskState.UpToDate;
    if (this.wanted && this.#c.volumes.every(good)) this.#c.runHandler("unfence-peer");
  }
}
