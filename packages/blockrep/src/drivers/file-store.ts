import { fdatasync, read as fsRead, write as fsWrite, readSync, writeSync } from "node:fs";
import { ErrorCode, HaError } from "../base/errors.ts";
import { type BlockStore, rangeRefusal, type StoreDone } from "./block-store.ts";
import { closeDisk, type OpenDisk, openDisk } from "./disk-open.ts";
import { HolePuncher } from "./hole-puncher.ts";
import { IoPolicy } from "./io-policy.ts";
import { kernelDirtyLimitBytes } from "./kernel-dirty-limit.ts";
import { RangeQueue } from "./range-queue.ts";

/** Shorter discards write zeroes: a page-cache write is cheaper than a child process. */
const PUNCH_BYTES_MIN: number = 256 * 1024;
const ZEROES: Uint8Array = new Uint8Array(256 * 1024);

export interface FileStoreOptions {
  readonly readOnly?: boolean;
  /** Refuse a smaller disk. */
  readonly minimumBytes?: number;
}

/**
 * A backing file or block device, used through the page cache, locked against others for as long as it is open.
 * Which request runs at once and which in the thread pool is the `IoPolicy`'s decision.
 */
export class FileStore implements BlockStore {
  readonly name: string;
  readonly sizeBytes: number;
  readonly isBlockDevice: boolean;
  readonly #disk: OpenDisk;
  readonly #policy: IoPolicy = new IoPolicy(kernelDirtyLimitBytes());
  readonly #queue: RangeQueue = new RangeQueue();
  readonly #puncher: HolePuncher;
  #canDiscard: boolean;
  #broken: HaError | undefined = undefined;
  #closed = false;
  #onIdle: (() => void) | undefined = undefined;
  #flushing: StoreDone[] | undefined = undefined;
  #flushWaiting: StoreDone[] = [];
  readonly #poolStarts: Set<{ startedMs: number }> = new Set<{ startedMs: number }>();

  private constructor(disk: OpenDisk) {
    this.#disk = disk;
    this.name = disk.path;
    this.sizeBytes = disk.sizeBytes;
    this.isBlockDevice = disk.isBlockDevice;
    this.#canDiscard = disk.canDiscard;
    this.#puncher = new HolePuncher(disk.fd);
  }

  /**
   * Opens and locks a disk.
   * @throws HaError HA_STORE_MISSING, HA_STORE_BUSY (naming the holder), HA_STORE_TOO_SMALL or HA_STORE_IO
   */
  static open(path: string, options: FileStoreOptions = {}): FileStore {
    return new FileStore(openDisk(path, options));
  }

  get canDiscard(): boolean {
    return this.#canDiscard;
  }

  read(offset: number, target: Uint8Array, done: StoreDone): void {
    const { length } = target;
    const refusal = this.#refusal("read", offset, length);
    if (refusal !== undefined || length === 0) {
      done(refusal);
      return;
    }
    const startedMs = performance.now();
    if (this.#policy.readNow(offset, length, startedMs) && !this.#queue.conflicts(offset, offset + length, false)) {
      done(this.#readNow(offset, target, startedMs));
      return;
    }
    this.#enqueue(offset, length, false, done, (finish) => this.#readAll(offset, target, 0, finish));
  }

  write(offset: number, data: Uint8Array, done: StoreDone): void {
    const { length } = data;
    const refusal = this.#refusal("write", offset, length);
    if (refusal !== undefined || length === 0) {
      done(refusal);
      return;
    }
    const startedMs = performance.now();
    // a client that never flushes must not fill the memory with dirty pages until the kernel stops us
    if (this.#policy.isDirty && this.#flushing === undefined) this.#startFlush();
    if (this.#policy.writeNow(offset, length, startedMs) && !this.#queue.conflicts(offset, offset + length, true)) {
      done(this.#writeNow(offset, data, startedMs));
      return;
    }
    this.#enqueue(offset, length, true, done, (finish) => this.#writeAll(offset, data, 0, finish));
  }

  /** One fdatasync runs and one waits: the waiting one covers everybody who asked meanwhile. */
  flush(done: StoreDone): void {
    const refusal = this.#refusal("flush", 0, 0);
    if (refusal !== undefined) {
      done(refusal);
      return;
    }
    this.#flushWaiting.push(done);
    if (this.#flushing === undefined) this.#startFlush();
  }

  discard(offset: number, length: number, done: StoreDone): void {
    const refusal = this.#refusal("discard", offset, length);
    if (refusal !== undefined || length === 0) {
      done(refusal);
      return;
    }
    const punch = this.#canDiscard && length >= PUNCH_BYTES_MIN && !this.#puncher.full;
    this.#enqueue(offset, length, true, done, (finish) => {
      if (punch) this.#punch(offset, length, finish);
      else this.#writeZeroes(offset, length, finish);
    });
  }

  zero(offset: number, length: number, done: StoreDone): void {
    const refusal = this.#refusal("zero", offset, length);
    if (refusal !== undefined || length === 0) {
      done(refusal);
      return;
    }
    this.#enqueue(offset, length, true, done, (finish) => this.#writeZeroes(offset, length, finish));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#queue.size > 0 || this.#flushing !== undefined) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    closeDisk(this.#disk);
  }

  #refusal(verb: string, offset: number, length: number): HaError | undefined {
    if (this.#broken !== undefined) return this.#broken;
    if (this.#closed) return new HaError(ErrorCode.aborted, `${this.name} is closed`, { path: this.name });
    return rangeRefusal(this, verb, offset, length);
  }

  #readNow(offset: number, target: Uint8Array, startedMs: number): HaError | undefined {
    try {
      for (let at = 0; at < target.length; ) {
        const bytes = readSync(this.#disk.fd, target, at, target.length - at, offset + at);
        if (bytes === 0) return this.#failed("read", offset + at, endOfFile());
        at += bytes;
      }
    } catch (error) {
      return this.#failed("read", offset, error);
    }
    this.#policy.synchronousRead(offset, target.length, startedMs, performance.now());
    return undefined;
  }

  #writeNow(offset: number, data: Uint8Array, startedMs: number): HaError | undefined {
    try {
      for (let at = 0; at < data.length; ) {
        at += writeSync(this.#disk.fd, data, at, data.length - at, offset + at);
      }
    } catch (error) {
      return this.#failed("write", offset, error);
    }
    this.#policy.synchronousWrite(offset, data.length, startedMs, performance.now());
    return undefined;
  }

  #enqueue(offset: number, length: number, writes: boolean, done: StoreDone, act: (finish: StoreDone) => void): void {
    const mark = { startedMs: performance.now() };
    const request = this.#queue.submit(offset, offset + length, writes, () => {
      mark.startedMs = performance.now();
      this.#poolStarts.add(mark);
      this.#notePool();
      act((error) => {
        this.#poolStarts.delete(mark);
        this.#notePool();
        if (error === undefined) {
          if (writes) this.#policy.wrote(offset, length);
          else this.#policy.read(offset, length);
        }
        // the caller first: what follows in the queue came later
        done(error);
        this.#queue.finished(request);
        this.#checkIdle();
      });
    });
  }

  /** A set keeps the order of insertion, so its first entry is the oldest. */
  #notePool(): void {
    this.#policy.oldestPoolMs = -1;
    for (const mark of this.#poolStarts) {
      this.#policy.oldestPoolMs = mark.startedMs;
      break;
    }
  }

  #readAll(offset: number, target: Uint8Array, at: number, finish: StoreDone): void {
    fsRead(this.#disk.fd, target, at, target.length - at, offset + at, (error, bytes) => {
      if (error !== null) finish(this.#failed("read", offset, error));
      else if (bytes === 0) finish(this.#failed("read", offset + at, endOfFile()));
      else if (at + bytes < target.length) this.#readAll(offset, target, at + bytes, finish);
      else finish(undefined);
    });
  }

  #writeAll(offset: number, data: Uint8Array, at: number, finish: StoreDone): void {
    fsWrite(this.#disk.fd, data, at, data.length - at, offset + at, (error, bytes) => {
      if (error !== null) finish(this.#failed("write", offset, error));
      else if (at + bytes < data.length) this.#writeAll(offset, data, at + bytes, finish);
      else finish(undefined);
    });
  }

  #writeZeroes(offset: number, length: number, finish: StoreDone): void {
    if (length === 0) {
      finish(undefined);
      return;
    }
    const part = Math.min(length, ZEROES.length);
    this.#writeAll(offset, ZEROES.subarray(0, part), 0, (error) => {
      if (error !== undefined) finish(error);
      else this.#writeZeroes(offset + part, length - part, finish);
    });
  }

  #punch(offset: number, length: number, finish: StoreDone): void {
    this.#puncher.punch(offset, length, (error) => {
      if (error === undefined) {
        finish(undefined);
        return;
      }
      // the file system or the device cannot: from now on zeroes are written
      this.#canDiscard = false;
      this.#writeZeroes(offset, length, finish);
    });
  }

  #startFlush(): void {
    const waiting = this.#flushWaiting;
    this.#flushing = waiting;
    this.#flushWaiting = [];
    this.#policy.flushStarted(performance.now());
    fdatasync(this.#disk.fd, (error) => {
      this.#policy.flushEnded();
      this.#flushing = undefined;
      if (error !== null) {
        // the kernel reports a lost write once, then forgets it: a second fdatasync would succeed and prove nothing
        this.#broken = this.#failed("flush", 0, error);
        waiting.push(...this.#flushWaiting);
        this.#flushWaiting = [];
      } else if (this.#flushWaiting.length > 0) this.#startFlush();
      for (const done of waiting) done(this.#broken);
      this.#checkIdle();
    });
  }

  #checkIdle(): void {
    if (this.#closed && this.#queue.size === 0 && this.#flushing === undefined) this.#onIdle?.();
  }

  #failed(verb: string, offset: number, error: unknown): HaError {
    const { code, message } = error as NodeJS.ErrnoException;
    const hint =
      code === "ENOSPC" ? "free space on its file system" : "look at the kernel's log for this disk, and replace it";
    const where = verb === "flush" ? "" : ` at ${offset}`;
    return new HaError(
      ErrorCode.storeIo,
      `${verb} of ${this.name}${where} failed: ${message}; ${hint}`,
      { path: this.name, verb, offset, errno: code ?? "EIO" },
      error,
    );
  }
}

function endOfFile(): NodeJS.ErrnoException {
  return Object.assign(new Error("the disk ends earlier than when it was opened"), { code: "EIO" });
}
