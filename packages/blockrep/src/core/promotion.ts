import { ConnState, DiskState, Role, type StateFields } from "../wire/state-word.ts";
import type { Admin, Done } from "./admin.ts";
import { PROMOTION_TRIES, TRANSIENT_RETRY_MS } from "./limits.ts";
import { StateRc, stateRefusal } from "./state.ts";
import { newCurrentUuid } from "./uuids.ts";
import type { Volume } from "./volume.ts";

const POLL_MS = 20;

/**
 * Secondary to Primary. A silent peer is asked for a sign of life first, also when the link looks dead: over a
 * connection by a ping, without one by dialling it. Only a peer that does not answer is overruled.
 * @see DRBD 8.4 drbd_nl.c drbd_set_role
 */
export class Promotion {
  readonly #admin: Admin;
  readonly #v: Volume;
  readonly #force: boolean;
  readonly #done: Done;
  readonly #untilMs: number;
  #tries = 0;
  #probed = false;
  #fields: Partial<StateFields> = { role: Role.Primary };
  #forced = false;
  #waitedForPeer = false;

  constructor(admin: Admin, volume: Volume, force: boolean, done: Done) {
    this.#admin = admin;
    this.#v = volume;
    this.#force = force;
    this.#done = done;
    this.#untilMs = volume.ctx.nowMs + TRANSIENT_RETRY_MS;
  }

  start(): void {
    const v = this.#v;
    const c = v.connection;
    if (v.state.role === Role.Primary) {
      this.#done(StateRc.NothingToDo, "");
      return;
    }
    const late = v.ctx.nowMs >= this.#untilMs;
    if (v.state.conn >= ConnState.Connected) {
      // the answer also shows that what the peer said before has arrived
      c.liveness.ping(v.ctx.nowMs, () => v.ctx.later(() => this.#ask()));
      return;
    }
    if (!c.configured || v.state.conn === ConnState.StandAlone) {
      this.#alone();
      return;
    }
    if (!late && (v.state.conn === ConnState.WFReportParams || c.shaking)) {
      this.#admin.after(POLL_MS, () => this.start());
      return;
    }
    if (this.#probed || c.peerSilent) {
      this.#alone();
      return;
    }
    this.#probe();
  }

  #probe(): void {
    const v = this.#v;
    let answered = false;
    const next = (reached: boolean): void => {
      if (answered) return;
      answered = true;
      this.#probed = true;
      if (reached) this.#admin.after(POLL_MS, () => this.start());
      else this.start();
    };
    v.connection.probe(next);
    this.#admin.after(v.ctx.options.net.pingTimeoutMs, () => next(v.connection.shaking));
  }

  /** Connected: the peer has to agree. */
  #ask(): void {
    const v = this.#v;
    if (v.state.conn < ConnState.Connected) {
      this.start();
      return;
    }
    this.#admin.withConsent(v, this.#fields, (rc) => {
      if (rc === 0) this.start();
      else if (rc >= StateRc.Success) this.#promoted();
      else this.#refused(rc);
    });
  }

  #alone(): void {
    const rc = this.#v.change(this.#fields, "primary");
    if (rc >= StateRc.Success) this.#promoted();
    else this.#refused(rc);
  }

  #refused(rc: number): void {
    const v = this.#v;
    this.#tries++;
    const { disk } = v.state;
    const canForce = disk >= DiskState.Inconsistent && disk < DiskState.UpToDate;
    if (rc === StateRc.NoUpToDateDisk && this.#force && canForce && !this.#forced) {
      this.#forced = true;
      this.#fields = { ...this.#fields, disk: DiskState.UpToDate };
      this.start();
      return;
    }
    const transient = rc === StateRc.InTransientState || rc === StateRc.ConcurrentStateChange;
    if (transient && v.ctx.nowMs < this.#untilMs) {
      this.#admin.after(POLL_MS, () => this.start());
      return;
    }
    if (rc === StateRc.TwoPrimaries && !this.#waitedForPeer) {
      // the peer may just be going down
      this.#waitedForPeer = true;
      this.#admin.after(v.ctx.options.net.pingTimeoutMs + 100, () => this.start());
      return;
    }
    const fences = (rc === StateRc.NoUpToDateDisk && disk === DiskState.Consistent) || rc === StateRc.PrimaryNop;
    if (fences && this.#tries < PROMOTION_TRIES && v.diskOptions.fencing !== "dont-care") {
      this.#fence(rc);
      return;
    }
    this.#done(rc, stateRefusal(rc));
  }

  #fence(rc: number): void {
    const v = this.#v;
    v.connection.fencing.run((outdated) => {
      if (v.state.conn >= ConnState.WFReportParams) {
        this.start();
        return;
      }
      if (rc === StateRc.PrimaryNop && !outdated && this.#force) {
        v.ctx.note("warn", "Forced into split brain situation!");
        this.#fields = { ...this.#fields, pdsk: DiskState.Outdated };
      } else if (!outdated) {
        this.#done(rc, stateRefusal(rc));
        return;
      }
      if (v.state.disk === DiskState.Consistent) this.#fields = { ...this.#fields, disk: DiskState.UpToDate };
      this.start();
    });
  }

  /** The state says Primary; no write passes before the metadata says so too. */
  #promoted(): void {
    const v = this.#v;
    v.gate.close();
    const alone = v.state.conn < ConnState.Connected || v.state.pdsk <= DiskState.Failed;
    if (this.#forced && v.hasDisk) {
      v.setUuids(newCurrentUuid(v.uuids, v.ctx.random.u64(), true), "forced to be Primary");
    } else if (alone) {
      v.newGeneration("Primary without the peer");
    }
    v.markRoleInUuids();
    v.meta.sync((errno) => {
      v.gate.open();
      if (errno !== 0) {
        this.#done(StateRc.Unknown, "the metadata could not be written");
        return;
      }
      if (v.state.conn >= ConnState.WFReportParams) {
        if (this.#forced) v.connection.sendUuids(v);
        v.connection.sendState(v);
      }
      this.#done(StateRc.Success, "");
    });
  }
}
