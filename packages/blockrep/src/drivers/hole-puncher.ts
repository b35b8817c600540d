import { runProgram } from "./program.ts";

/** Ranges that wait for one run; beyond this the caller writes zeroes, which needs no queue. */
export const PUNCH_QUEUE_MAX = 256;

interface Job {
  offset: number;
  length: number;
  done: ((error: Error | undefined) => void)[];
}

/**
 * Gives ranges back to the file system (or to the device, which discards them) and leaves zeroes: the one thing of a
 * disk's work that Node has no call for. A child process does it, one at a time; neighbours that wait are merged, so
 * that a file system's sweep of discards costs few children.
 */
export class HolePuncher {
  readonly #fd: number;
  readonly #queue: Job[] = [];
  #running = false;

  /** @param fd an open file or block device; the child inherits it, so that no path can point elsewhere meanwhile */
  constructor(fd: number) {
    this.#fd = fd;
  }

  get full(): boolean {
    return this.#queue.length >= PUNCH_QUEUE_MAX;
  }

  punch(offset: number, length: number, done: (error: Error | undefined) => void): void {
    const neighbour = this.#queue.find((job) => job.offset + job.length === offset || offset + length === job.offset);
    if (neighbour === undefined) this.#queue.push({ offset, length, done: [done] });
    else {
      neighbour.offset = Math.min(neighbour.offset, offset);
      neighbour.length += length;
      neighbour.done.push(done);
    }
    if (!this.#running) this.#next();
  }

  #next(): void {
    const job = this.#queue.shift();
    this.#running = job !== undefined;
    if (job === undefined) return;
    const args = ["--punch-hole", "--offset", String(job.offset), "--length", String(job.length), "/proc/self/fd/3"];
    const ended = (error: Error | undefined): void => {
      for (const done of job.done) done(error);
      this.#next();
    };
    runProgram("fallocate", args, { extraFd: this.#fd, timeoutMs: 60_000 }).then(
      () => ended(undefined),
      (error: unknown) => ended(error as Error),
    );
  }
}
