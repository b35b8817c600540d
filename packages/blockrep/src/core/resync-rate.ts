import { RESYNC_STEP_MS } from "./limits.ts";

/** The peer's P_SYNC_PARAM overwrites what was configured here: the last one received counts. */
export interface ResyncTuning {
  readonly resyncRateKib: number;
  /** Tenths of a second; 0: fixed rate. */
  readonly cPlanAhead: number;
  readonly cDelayTarget: number;
  readonly cFillTargetSectors: number;
  readonly cMaxRateKib: number;
}

const SECTORS_PER_KIB = 2;
const STEPS_PER_SECOND: number = 1000 / RESYNC_STEP_MS;

/**
 * How many blocks the target asks for per step: a fixed rate, or a controller that keeps a certain amount of data, or of
 * delay, on the way.
 * @see DRBD 8.4 drbd_worker.c drbd_rs_controller
 */
export class ResyncRate {
  readonly #tuning: () => ResyncTuning;
  #plan: number[] = [];
  #planned = 0;
  #sectorsIn = 0;
  #sectorsInFlight = 0;
  #first = true;
  /** Part of a block that did not fit into the last step. */
  #remainder = 0;

  constructor(tuning: () => ResyncTuning) {
    this.#tuning = tuning;
  }

  reset(): void {
    this.#plan = [];
    this.#planned = 0;
    this.#sectorsIn = 0;
    this.#sectorsInFlight = 0;
    this.#first = true;
    this.#remainder = 0;
  }

  received(sectors: number): void {
    this.#sectorsIn += sectors;
  }

  /** @returns blocks of 4 KiB to ask for now */
  step(requestsInFlight: number): number {
    const t = this.#tuning();
    const sectors =
      t.cPlanAhead === 0
        ? (t.resyncRateKib * SECTORS_PER_KIB) / STEPS_PER_SECOND
        : this.#controlled(t, requestsInFlight);
    const blocks = (sectors + this.#remainder) / 8;
    const whole = Math.floor(blocks);
    this.#remainder = Math.min(8, (blocks - whole) * 8);
    // a controller that has stalled with nothing on the way would never learn anything again
    const granted = whole === 0 && requestsInFlight === 0 ? 1 : whole;
    this.#sectorsInFlight += granted * 8;
    return granted;
  }

  #controlled(t: ResyncTuning, requestsInFlight: number): number {
    const sectorsIn = this.#sectorsIn;
    this.#sectorsIn = 0;
    this.#sectorsInFlight = requestsInFlight === 0 ? 0 : Math.max(0, this.#sectorsInFlight - sectorsIn);
    const steps = t.cPlanAhead;
    while (this.#plan.length < steps) this.#plan.push(0);
    while (this.#plan.length > steps) this.#planned -= this.#plan.pop() as number;
    let want: number;
    if (this.#first) want = ((t.resyncRateKib * SECTORS_PER_KIB) / STEPS_PER_SECOND) * steps;
    else want = t.cFillTargetSectors !== 0 ? t.cFillTargetSectors : sectorsIn * t.cDelayTarget;
    this.#first = false;
    const correction = Math.trunc((want - this.#sectorsInFlight - this.#planned) / steps);
    for (let i = 0; i < steps; i++) this.#plan[i] = (this.#plan[i] as number) + correction;
    this.#planned += correction * steps;
    const now = this.#plan.shift() as number;
    this.#plan.push(0);
    this.#planned -= now;
    const max = (t.cMaxRateKib * SECTORS_PER_KIB) / STEPS_PER_SECOND;
    return Math.min(max, Math.max(0, sectorsIn + now));
  }
}
