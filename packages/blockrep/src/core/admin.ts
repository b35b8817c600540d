import { ConnState, DiskState, packStateChange, Role, type StateFields } from "../wire/state-word.ts";
import type { Connection, DiskChange } from "./connection.ts";
import type { EngineContext } from "./context.ts";
import { TRANSIENT_RETRY_MS } from "./limits.ts";
import { type AdminCommand, AdminError, type CommandId } from "./ports.ts";
import { Promotion } from "./promotion.ts";
import { StateRc, stateRefusal } from "./state.ts";
import { UUID_JUST_CREATED } from "./uuids.ts";
import type { Volume } from "./volume.ts";

export type Done = (code: number, text: string) => void;

const RETRY_MS = 50;

/** The verbs of an administrator. Every one answers exactly once. */
export class Admin {
  readonly #ctx: EngineContext;
  readonly #connection: Connection;
  #timers: { readonly atMs: number; readonly fn: () => void }[] = [];

  constructor(ctx: EngineContext, connection: Connection) {
    this.#ctx = ctx;
    this.#connection = connection;
  }

  nextDeadlineMs(): number {
    return this.#timers.reduce((least, timer) => Math.min(least, timer.atMs), Infinity);
  }

  tick(): void {
    const due = this.#timers.filter((timer) => timer.atMs <= this.#ctx.nowMs);
    if (due.length === 0) return;
    this.#timers = this.#timers.filter((timer) => timer.atMs > this.#ctx.nowMs);
    for (const timer of due) timer.fn();
  }

  after(ms: number, fn: () => void): void {
    this.#timers.push({ atMs: this.#ctx.nowMs + ms, fn });
  }

  run(id: CommandId, command: AdminCommand): void {
    const done: Done = (code, text) => this.#ctx.sink.commandDone(id, code, text);
    const v = this.#connection.volumes.find((volume) => volume.number === (command.volume ?? volume.number));
    if (v === undefined) {
      done(AdminError.minorUnknown, "(127) Device minor not allocated");
      return;
    }
    switch (command.verb) {
      case "attach":
        v.attachment.attach(done);
        return;
      case "detach":
        this.#detach(v, command.force === true, done);
        return;
      case "connect":
        this.#connect(v, command, done);
        return;
      case "disconnect":
        this.#disconnect(v, command.force === true, done);
        return;
      case "primary":
        new Promotion(this, v, command.force === true, done).start();
        return;
      case "secondary":
        this.#secondary(v, done);
        return;
      case "down":
        this.#down(v, command.force === true, done);
        return;
      case "invalidate":
        this.#invalidate(v, ConnState.StartingSyncT, done);
        return;
      case "invalidate-remote":
        this.#invalidate(v, ConnState.StartingSyncS, done);
        return;
      case "outdate":
        this.#report(v.change({ disk: DiskState.Outdated }, "outdate"), done);
        return;
      case "pause-sync":
        this.#pause(v, true, done);
        return;
      case "resume-sync":
        this.#pause(v, false, done);
        return;
      case "suspend-io":
        this.#report(v.change({ susp: true }, "suspend-io"), done);
        return;
      case "resume-io":
        this.#report(v.change({ susp: false, suspNod: false, suspFen: false }, "resume-io"), done);
        return;
      case "verify":
        this.#verify(v, command, done);
        return;
      case "new-current-uuid":
        this.#newCurrentUuid(v, command.clearBitmap === true, done);
        return;
    }
  }

  #pause(v: Volume, pause: boolean, done: Done): void {
    if (!v.hasDisk) {
      done(AdminError.noDisk, "(138) Device does not have a disk-config");
      return;
    }
    const rc = v.change({ userIsp: pause }, pause ? "pause-sync" : "resume-sync");
    if (rc !== StateRc.NothingToDo) this.#report(rc, done);
    else if (pause) done(AdminError.pauseIsSet, "(134) Sync-pause flag is already set");
    else done(AdminError.pauseIsClear, "(135) Sync-pause flag is already cleared");
  }

  #report(rc: number, done: Done): void {
    if (rc >= StateRc.Success) done(rc, "");
    else done(rc, stateRefusal(rc));
  }

  /**
   * A change that a connected peer must agree to. `done` gets the result; 0: the connection was lost meanwhile and the
   * question has to be put anew.
   */
  withConsent(v: Volume, fields: Partial<StateFields>, done: (rc: number) => void): void {
    const rc = v.judge(fields);
    if (rc !== StateRc.Success) {
      done(rc);
      return;
    }
    if (this.#connection.pendingRequest !== undefined) {
      this.after(RETRY_MS, () => this.withConsent(v, fields, done));
      return;
    }
    this.#connection.pendingRequest = (answer) => {
      if (answer < StateRc.Success) done(answer);
      else done(v.change(fields, "with the peer's consent"));
    };
    v.send({ kind: "P_STATE_CHG_REQ", volume: v.number, ...packStateChange(fields) });
  }

  /** Calls `fn` until it no longer finds a transient state, for a while. */
  retry(fn: () => boolean, gaveUp: () => void, untilMs: number = this.#ctx.nowMs + TRANSIENT_RETRY_MS): void {
    if (!fn()) return;
    if (this.#ctx.nowMs >= untilMs) gaveUp();
    else this.after(RETRY_MS, () => this.retry(fn, gaveUp, untilMs));
  }

  #connect(v: Volume, command: AdminCommand, done: Done): void {
    if (this.#connection.configured) {
      done(AdminError.localAddressUsed, "(102) Local address(port) already in use.");
      return;
    }
    if (command.discardMyData === true && v.state.role === Role.Primary) {
      done(AdminError.discardImpossible, "(123) --discard-my-data not allowed when primary.");
      return;
    }
    this.#connection.discardMyData = command.discardMyData === true;
    this.#connection.dryRun = command.dryRun === true;
    this.#connection.start();
    done(StateRc.Success, "");
  }

  #disconnect(v: Volume, force: boolean, done: Done): void {
    const c = this.#connection;
    if (!c.configured) {
      done(StateRc.NothingToDo, "");
      return;
    }
    if (force || !c.up) {
      const rc = force ? StateRc.Success : v.judge({ conn: ConnState.Disconnecting });
      if (rc < StateRc.Success) {
        this.#report(rc, done);
        return;
      }
      c.disconnect("disconnect");
      done(StateRc.Success, "");
      return;
    }
    this.#askToDisconnect(v, {}, done);
  }

  #askToDisconnect(v: Volume, extra: DiskChange, done: Done): void {
    const c = this.#connection;
    const fields = { ...extra, conn: ConnState.Disconnecting };
    const rc = v.judge(fields);
    if (rc === StateRc.PrimaryNop && extra.pdsk === undefined) {
      this.#askToDisconnect(v, { pdsk: DiskState.Outdated }, done);
      return;
    }
    if (rc < StateRc.Success) {
      this.#report(rc, done);
      return;
    }
    if (c.pendingRequest !== undefined) {
      this.after(RETRY_MS, () => this.#askToDisconnect(v, extra, done));
      return;
    }
    c.pendingRequest = (answer) => {
      if (answer === StateRc.PrimaryNop && extra.disk === undefined) {
        this.#askToDisconnect(v, { disk: DiskState.Outdated }, done);
        return;
      }
      // no answer: the link is gone, which is what was wanted
      if (answer < 0) {
        this.#report(answer, done);
        return;
      }
      c.disconnect("disconnect", extra);
      done(StateRc.Success, "");
    };
    v.send({ kind: "P_CONN_ST_CHG_REQ", volume: 0, ...packStateChange(fields) });
  }

  #secondary(v: Volume, done: Done): void {
    const rc = v.judge({ role: Role.Secondary });
    if (rc !== StateRc.Success) {
      this.#report(rc, done);
      return;
    }
    // Without the mark of a Primary nobody replays the activity log, so what it stands for must be durable before.
    v.gate.close();
    v.whenSettled(() => {
      const finish = (): void => {
        v.generationBeforeSecondary();
        const changed = v.change({ role: Role.Secondary }, "secondary");
        if (changed < StateRc.Success) {
          v.gate.open();
          this.#report(changed, done);
          return;
        }
        v.markRoleInUuids();
        v.meta.sync(() => {
          v.connection.sendState(v);
          v.gate.open();
          done(StateRc.Success, "");
        });
      };
      if (!v.hasDisk) finish();
      else v.flushAll(() => v.meta.syncBitmap(() => v.activity.empty(finish)));
    });
  }

  #detach(v: Volume, force: boolean, done: Done): void {
    if (v.state.disk === DiskState.Diskless) {
      done(StateRc.NothingToDo, "");
      return;
    }
    if (force) {
      v.change({ disk: DiskState.Failed }, "detach by force", true);
      v.dropDisk("detach by force");
      done(StateRc.Success, "");
      return;
    }
    const detached = (rc: number): void => {
      if (rc === 0) this.#detach(v, force, done);
      else if (rc < 0) this.#report(rc, done);
      else v.attachment.release(() => done(StateRc.Success, ""));
    };
    if (v.state.conn >= ConnState.Connected) this.withConsent(v, { disk: DiskState.Failed }, detached);
    else detached(v.change({ disk: DiskState.Failed }, "detach"));
  }

  #down(v: Volume, force: boolean, done: Done): void {
    if (v.state.role === Role.Primary) {
      this.#secondary(v, (code, text) => {
        if (code < StateRc.Success) done(code, text);
        else this.#down(v, force, done);
      });
      return;
    }
    this.#disconnect(v, force, (code, text) => {
      if (code < 0 || code >= 100) {
        done(code, text);
        return;
      }
      this.#detach(v, force, done);
    });
  }

  #invalidate(v: Volume, conn: ConnState, done: Done): void {
    if (v.state.conn >= ConnState.Connected) {
      this.withConsent(v, { conn }, (rc) => {
        if (rc >= StateRc.Success) v.resync.startingSync();
        this.#report(rc === 0 ? StateRc.NeedConnection : rc, done);
      });
      return;
    }
    const alone = v.state.conn === ConnState.StandAlone;
    if (conn === ConnState.StartingSyncS || !alone || v.state.role === Role.Primary || !v.hasDisk) {
      this.#report(StateRc.NeedConnection, done);
      return;
    }
    v.resync.setAllBits(() => this.#report(v.change({ disk: DiskState.Inconsistent }, "invalidate", true), done));
  }

  #verify(v: Volume, command: AdminCommand, done: Done): void {
    const start = command.startSector ?? v.verify.resumeSector;
    const attempt = (): boolean => v.state.conn === ConnState.WFReportParams;
    const ask = (): void =>
      this.withConsent(v, { conn: ConnState.VerifyS }, (rc) => {
        if (rc >= StateRc.Success) v.verify.start(start, command.stopSector);
        this.#report(rc === 0 ? StateRc.NeedConnection : rc, done);
      });
    if (attempt()) this.after(RETRY_MS, () => this.#verify(v, command, done));
    else ask();
  }

  #newCurrentUuid(v: Volume, clearBitmap: boolean, done: Done): void {
    if (!v.hasDisk) {
      done(AdminError.noDisk, "(138) Device does not have a disk-config");
      return;
    }
    // two new disks are declared equal while both are there; else a generation of its own is for a node on its own
    const skips = clearBitmap && (v.uuids.current & ~1n) === UUID_JUST_CREATED && v.state.conn === ConnState.Connected;
    if (v.state.conn !== ConnState.StandAlone && !skips) {
      done(AdminError.connected, "(151) Need to be StandAlone");
      return;
    }
    v.resync.newCurrent(clearBitmap, () => done(StateRc.Success, ""));
  }
}
