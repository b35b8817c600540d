/** A request that is under way or waits its turn. */
export interface QueuedRequest {
  readonly start: number;
  readonly end: number;
  readonly writes: boolean;
  running: boolean;
  readonly run: () => void;
}

/**
 * Keeps requests that overlap in the order of their arrival. The thread pool runs its work in any order, so without
 * this a later write could be overwritten by an earlier one, or a read see neither.
 */
export class RangeQueue {
  readonly #requests: QueuedRequest[] = [];

  get size(): number {
    return this.#requests.length;
  }

  /** True when something that is not finished overlaps, and one of the two writes. */
  conflicts(start: number, end: number, writes: boolean): boolean {
    return this.#blocked(start, end, writes, this.#requests.length);
  }

  /** Runs the request now, or as soon as everything before it that overlaps is finished. */
  submit(start: number, end: number, writes: boolean, run: () => void): QueuedRequest {
    const request: QueuedRequest = { start, end, writes, running: false, run };
    const waits = this.conflicts(start, end, writes);
    this.#requests.push(request);
    if (!waits) this.#start(request);
    return request;
  }

  /** The request is over; those that waited for it only may begin. */
  finished(request: QueuedRequest): void {
    this.#requests.splice(this.#requests.indexOf(request), 1);
    const ready: QueuedRequest[] = [];
    for (let i = 0; i < this.#requests.length; i++) {
      const next = this.#requests[i] as QueuedRequest;
      if (next.running || !overlaps(next, request.start, request.end)) continue;
      if (!this.#blocked(next.start, next.end, next.writes, i)) {
        next.running = true;
        ready.push(next);
      }
    }
    for (const next of ready) next.run();
  }

  #start(request: QueuedRequest): void {
    request.running = true;
    request.run();
  }

  #blocked(start: number, end: number, writes: boolean, before: number): boolean {
    for (let i = 0; i < before; i++) {
      const other = this.#requests[i] as QueuedRequest;
      if ((writes || other.writes) && overlaps(other, start, end)) return true;
    }
    return false;
  }
}

function overlaps(request: QueuedRequest, start: number, end: number): boolean {
  return request.start < end && start < request.end;
}
