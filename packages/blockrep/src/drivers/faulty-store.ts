import { ErrorCode, HaError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import type { BlockStore, StoreDone } from "./block-store.ts";

/** What a store can be asked to do, as a name for faults. */
export type StoreVerb = "read" | "write" | "flush" | "discard" | "zero";

/** Passes everything on; the faults below override what they break. */
class WrappedStore implements BlockStore {
  readonly name: string;
  readonly sizeBytes: number;
  protected readonly inner: BlockStore;

  constructor(inner: BlockStore) {
    this.inner = inner;
    this.name = inner.name;
    this.sizeBytes = inner.sizeBytes;
  }

  get canDiscard(): boolean {
    return this.inner.canDiscard;
  }

  read(offset: number, target: Uint8Array, done: StoreDone): void {
    this.inner.read(offset, target, done);
  }

  write(offset: number, data: Uint8Array, done: StoreDone): void {
    this.inner.write(offset, data, done);
  }

  flush(done: StoreDone): void {
    this.inner.flush(done);
  }

  discard(offset: number, length: number, done: StoreDone): void {
    this.inner.discard(offset, length, done);
  }

  zero(offset: number, length: number, done: StoreDone): void {
    this.inner.zero(offset, length, done);
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

/** Answers late, in the order of the calls: a slow disk, or a stalled one while `held`. */
export class DelayStore extends WrappedStore {
  /** How long each answer takes. */
  delayMs: number;
  #held = false;
  #waiting: (() => void)[] = [];

  constructor(inner: BlockStore, delayMs: number) {
    super(inner);
    this.delayMs = delayMs;
  }

  /** While true nothing is answered; setting it to false answers everything that waits. */
  get held(): boolean {
    return this.#held;
  }

  set held(value: boolean) {
    this.#held = value;
    if (value) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const answer of waiting) answer();
  }

  override read(offset: number, target: Uint8Array, done: StoreDone): void {
    super.read(offset, target, this.#later(done));
  }

  override write(offset: number, data: Uint8Array, done: StoreDone): void {
    super.write(offset, data, this.#later(done));
  }

  override flush(done: StoreDone): void {
    super.flush(this.#later(done));
  }

  override discard(offset: number, length: number, done: StoreDone): void {
    super.discard(offset, length, this.#later(done));
  }

  override zero(offset: number, length: number, done: StoreDone): void {
    super.zero(offset, length, this.#later(done));
  }

  #later(done: StoreDone): StoreDone {
    return (error) => {
      setTimeout(() => {
        if (this.#held) this.#waiting.push(() => done(error));
        else done(error);
      }, this.delayMs);
    };
  }
}

/** Fails what `fails` picks, before anything reached the disk below. */
export class ErrorStore extends WrappedStore {
  /** Decides per call; a flush has offset and length 0. */
  fails: (verb: StoreVerb, offset: number, length: number) => boolean;

  constructor(inner: BlockStore, fails: (verb: StoreVerb, offset: number, length: number) => boolean) {
    super(inner);
    this.fails = fails;
  }

  override read(offset: number, target: Uint8Array, done: StoreDone): void {
    if (!this.#fail("read", offset, target.length, done)) super.read(offset, target, done);
  }

  override write(offset: number, data: Uint8Array, done: StoreDone): void {
    if (!this.#fail("write", offset, data.length, done)) super.write(offset, data, done);
  }

  override flush(done: StoreDone): void {
    if (!this.#fail("flush", 0, 0, done)) super.flush(done);
  }

  override discard(offset: number, length: number, done: StoreDone): void {
    if (!this.#fail("discard", offset, length, done)) super.discard(offset, length, done);
  }

  override zero(offset: number, length: number, done: StoreDone): void {
    if (!this.#fail("zero", offset, length, done)) super.zero(offset, length, done);
  }

  #fail(verb: StoreVerb, offset: number, length: number, done: StoreDone): boolean {
    if (!this.fails(verb, offset, length)) return false;
    done(injected(this.name, verb, offset));
    return true;
  }
}

/**
 * Writes only the first sectors of what `torn` picks, then fails it and everything after: a disk that lost power in
 * the middle of a write.
 */
export class TornStore extends WrappedStore {
  /** How many sectors of the write reach the disk, or undefined for all of it. */
  torn: (offset: number, length: number) => number | undefined;
  #dead = false;

  constructor(inner: BlockStore, torn: (offset: number, length: number) => number | undefined) {
    super(inner);
    this.torn = torn;
  }

  override read(offset: number, target: Uint8Array, done: StoreDone): void {
    if (this.#dead) done(injected(this.name, "read", offset));
    else super.read(offset, target, done);
  }

  override write(offset: number, data: Uint8Array, done: StoreDone): void {
    const sectors = this.#dead ? 0 : this.torn(offset, data.length);
    if (sectors === undefined) {
      super.write(offset, data, done);
      return;
    }
    this.#dead = true;
    const kept = data.subarray(0, sectors * SECTOR_SIZE);
    const failed = (): void => done(injected(this.name, "write", offset));
    if (kept.length === 0) failed();
    else super.write(offset, kept, failed);
  }

  override flush(done: StoreDone): void {
    if (this.#dead) done(injected(this.name, "flush", 0));
    else super.flush(done);
  }

  override discard(offset: number, length: number, done: StoreDone): void {
    if (this.#dead) done(injected(this.name, "discard", offset));
    else super.discard(offset, length, done);
  }

  override zero(offset: number, length: number, done: StoreDone): void {
    if (this.#dead) done(injected(this.name, "zero", offset));
    else super.zero(offset, length, done);
  }
}

function injected(name: string, verb: StoreVerb, offset: number): HaError {
  return new HaError(ErrorCode.storeIo, `${verb} of ${name} at ${offset} failed: injected`, {
    path: name,
    verb,
    offset,
    errno: "EIO",
  });
}
