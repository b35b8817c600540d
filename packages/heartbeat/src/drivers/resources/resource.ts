/** What a haresources word asks for: `SCRIPT::ARG1::ARG2`. */
export interface ResourceSpec {
  readonly script: string;
  readonly args: readonly string[];
}

export type ResourceAction = "start" | "stop" | "status";

/** How an action ended. `output` is what goes to the log, one line per message. */
export interface ActionResult {
  /** 0 is success. For `status` the meaning is in `running`. */
  readonly exitCode: number;
  readonly output: string;
  /** After `status`: whether the resource runs; undefined after start and stop. */
  readonly running?: boolean;
}

/** Something that somebody should look at, found outside of an action or worth more than its output. */
export interface ResourceAlarm {
  /** Stable: match on it. The `.over` form takes back the alarm of the same key. */
  readonly name: "address.conflict" | "address.conflict.over";
  /** What it is about, for example the address. */
  readonly key: string;
  /** For people: what is wrong and what to do. */
  readonly text: string;
  readonly details: Readonly<Record<string, string>>;
}

/** One kind of resource that runs inside the daemon, in place of a script of that name. */
export interface BuiltinResource {
  start(args: readonly string[]): Promise<ActionResult>;
  stop(args: readonly string[]): Promise<ActionResult>;
  status(args: readonly string[]): Promise<ActionResult>;
}

export function succeeded(output = ""): ActionResult {
  return { exitCode: 0, output };
}

export function failed(output: string, exitCode = 1): ActionResult {
  return { exitCode, output };
}

export function reported(running: boolean, output: string): ActionResult {
  return { exitCode: running ? 0 : 3, output, running };
}

/**
 * Heartbeat's rule for what `status` printed: the exit code does not count.
 * "not running" anywhere means stopped, else "running" or "OK" means running, else stopped.
 * @see Heartbeat 3 ResourceManager
 */
export function statusTextSaysRunning(text: string): boolean {
  if (/[Nn][Oo][Tt] [Rr]unning/.test(text)) return false;
  return /[Rr]unning/.test(text) || text.includes("OK");
}

/**
 * The same for scripts of /etc/init.d, where the exit code is standardised: it decides when the text says nothing at all.
 * Deviation: Heartbeat takes a silent script for stopped and starts it once more.
 * @see LSB 5.0 "Init Script Actions"
 */
export function statusSaysRunning(text: string, lsbExitCode: number | undefined): boolean {
  return text.trim() === "" && lsbExitCode !== undefined ? lsbExitCode === 0 : statusTextSaysRunning(text);
}
