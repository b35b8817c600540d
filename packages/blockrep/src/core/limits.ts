import { BIO_SIZE_MAX } from "../wire/constants.ts";

/**
 * Bounds of the engine's queues. A peer or an application can push on each of them; where one is reached the engine asks
 * its driver to stop reading (`throttle`), or drops a connection that ignores what was agreed.
 */

/** Largest piece of an application's write that travels in one packet; larger requests are split. */
export const WRITE_PART_BYTES_MAX: number = BIO_SIZE_MAX;
/** Largest piece of a discard or zero-out: it references 32 activity-log extents at most, as DRBD's do. */
export const DISCARD_PART_BYTES_MAX: number = 31 * 4 * 1024 * 1024;
/** The same for a peer without FF_WSAME. */
export const DISCARD_PART_BYTES_MAX_OLD: number = 4 * 1024 * 1024;
/** Application requests in progress at which the driver is asked to take no more; resumes at half. */
export const APPLICATION_REQUESTS_MAX = 1024;
/** Writes of the peer that are not finished at which the data socket is no longer read; resumes at half. */
export const RECEIVED_WRITES_MAX = 2048;
/** Reads on behalf of the peer (resync and application) in progress; more means a peer without any limit of its own. */
export const PEER_READS_MAX = 65536;
/** Bytes waiting in the data socket above which no bitmap pieces and resync requests are added. */
export const SEND_QUEUE_BYTES_HIGH: number = 1024 * 1024;
/** Changes that one activity-log block can carry. */
export const AL_CHANGES_MAX = 64;
/** The target makes resync requests in steps of this length. */
export const RESYNC_STEP_MS = 100;
/** Superblock changes that need not be durable at once are written after this time at the latest. */
export const SUPERBLOCK_DELAY_MS = 5000;
/** Bitmap pages that became clean are written in passes of at least this distance during a resync. */
export const BITMAP_WRITE_INTERVAL_MS = 2000;
/** Completed resync writes on the target that are flushed and acknowledged together. */
export const RESYNC_FLUSH_BLOCKS = 256;
/** A failed attempt to connect is followed by this pause. */
export const RECONNECT_PAUSE_MS = 1000;
/** Attempts of a promotion before the refusal is final. */
export const PROMOTION_TRIES = 4;
/** A command that finds the handshake running is retried for this long. */
export const TRANSIENT_RETRY_MS = 10_000;

/** Idle extents of the activity log are looked for this often... */
export const AL_IDLE_PERIOD_MS = 2000;
/** ...and leave after so many such periods without a write: rarely enough to cost one log write in seconds. */
export const AL_IDLE_PERIODS = 5;

/**
 * A receiver collects finished epochs up to this before it flushes, when nobody at the peer waits for them. Until the flush
 * the peer keeps their extents hot and, should the link break, sends their blocks again: that is what this bounds.
 */
export const BARRIER_PATIENCE: { readonly delayMs: number; readonly writes: number; readonly bytes: number } = {
  delayMs: 1000,
  writes: 16_384,
  bytes: 64 * 1024 * 1024,
};
/** What one input may put off until after itself. More would never end, and a process that stops is better than one that spins. */
export const LATER_MAX = 10_000_000;
/** A deadline that is noticed later than this shows that the process, or the machine, slept. */
export const OVERSLEPT_MS = 100;
