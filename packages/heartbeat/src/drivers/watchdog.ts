import { closeSync, openSync, writeSync } from "node:fs";

/** Tells the driver that closing is meant: without it the machine is reset. @see Linux watchdog API, magic close */
const MAGIC_CLOSE = "V";

/**
 * The `watchdog` directive: the kernel resets the machine when this process does not run for as long as the device waits
 * (60 s unless the driver was told otherwise). A driver loaded with `nowayout` resets it also after a clean stop.
 */
export class Watchdog {
  readonly #fd: number;
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** @throws Error of the system when the device is missing or in use: from here on nothing is armed */
  static open(device: string): Watchdog {
    return new Watchdog(openSync(device, "w"));
  }

  /**
   * Put the reset off. Synchronous on purpose: it is one short call into a driver, while the pool for asynchronous files
   * may be held up by a disk that does not answer, which is no reason to reset the machine.
   */
  tickle(): void {
    if (this.#open) this.#write("\n");
  }

  /** Disarm and close. Only a clean stop does this: a process that just dies leaves the reset to come. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#write(MAGIC_CLOSE);
    closeSync(this.#fd);
  }

  #write(text: string): void {
    try {
      writeSync(this.#fd, text);
    } catch {
      // a device that refuses writes will reset the machine; the log cannot change that
    }
  }
}
