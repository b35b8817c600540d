import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { Writable } from "node:stream";
import { destination, type Level, type Logger, multistream, pino, type StreamEntry } from "pino";

export interface LogTargets {
  /** `logfile` of ha.cf: info and above, one JSON object a line. */
  readonly logfile?: string | undefined;
  /** `debugfile` of ha.cf: everything. */
  readonly debugfile?: string | undefined;
  /** `logfacility` of ha.cf: a syslog facility name; undefined or "none": no syslog. */
  readonly facility?: string | undefined;
  /** Lines for people on standard error: for a daemon in the foreground or under systemd. */
  readonly terminal?: boolean;
  readonly program: string;
  /** In every record. */
  readonly bindings?: Readonly<Record<string, string>>;
}

/** A logger that writes wherever the configuration says; a target that cannot be opened is named by the others. */
export function createLogger(targets: LogTargets): Logger {
  const streams: StreamEntry<Level>[] = [];
  const troubles: string[] = [];
  const file = (path: string | undefined, level: Level): void => {
    if (path === undefined) return;
    try {
      mkdirSync(dirname(path), { recursive: true });
      streams.push({ level, stream: destination({ dest: openSync(path, "a", 0o640), sync: false }) });
    } catch (error) {
      troubles.push(`cannot write to ${path}: ${(error as Error).message}`);
    }
  };
  file(targets.logfile, "info");
  file(targets.debugfile, "debug");
  if (targets.facility !== undefined && targets.facility !== "none") {
    streams.push({ level: "info", stream: new SyslogStream(targets.facility, targets.program) });
  }
  if (targets.terminal === true || streams.length === 0) streams.push({ level: "info", stream: new TerminalStream() });
  const logger = pino(
    {
      level: "debug",
      base: { program: targets.program, pid: process.pid, ...targets.bindings },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: ["secret", "sharedSecret", "*.sharedSecret", "key"],
    },
    multistream(streams),
  );
  for (const trouble of troubles) logger.warn({ event: "log.target" }, trouble);
  return logger;
}

interface LogRecord {
  readonly time?: string;
  readonly level?: string;
  readonly program?: string;
  readonly resource?: string;
  readonly node?: string;
  readonly msg?: string;
}

/** `18:04:11.120 WARN  blockrep r0: text`: what a person needs of a record, the machine's fields left out. */
export function formatForTerminal(record: LogRecord): string {
  const time = (record.time ?? "").slice(11, 23);
  const subject = record.resource ?? record.node;
  const who = [record.program, subject].filter((part) => part !== undefined).join(" ");
  return `${time} ${(record.level ?? "").toUpperCase().padEnd(5)} ${who}: ${record.msg ?? ""}`;
}

class TerminalStream extends Writable {
  override _write(chunk: Buffer | string, _encoding: BufferEncoding, done: () => void): void {
    for (const line of chunk.toString().split("\n")) {
      if (line === "") continue;
      try {
        process.stderr.write(`${formatForTerminal(JSON.parse(line) as LogRecord)}\n`);
      } catch {
        process.stderr.write(`${line}\n`);
      }
    }
    done();
  }
}

/** Syslog through logger(1): Node has no Unix datagram sockets. One process for all lines; gone, it is started again. */
class SyslogStream extends Writable {
  readonly #facility: string;
  readonly #program: string;
  #child: ChildProcess | undefined;
  #startedAt = 0;

  constructor(facility: string, program: string) {
    super();
    this.#facility = facility;
    this.#program = program;
  }

  override _write(chunk: Buffer | string, _encoding: BufferEncoding, done: () => void): void {
    const stdin = this.#logger()?.stdin;
    if (stdin != null && !stdin.destroyed && stdin.writableLength < 1024 * 1024) {
      for (const line of chunk.toString().split("\n")) {
        if (line === "") continue;
        try {
          const record = JSON.parse(line) as LogRecord;
          stdin.write(`<${severity(record.level)}>${record.level ?? ""}: ${record.msg ?? ""}\n`);
        } catch {
          stdin.write(`${line}\n`);
        }
      }
    }
    done(); // syslog never holds the daemon up: what it cannot take is in the files
  }

  #logger(): ChildProcess | undefined {
    if (this.#child !== undefined) return this.#child;
    const now = performance.now();
    if (now - this.#startedAt < 10_000 && this.#startedAt !== 0) return undefined;
    this.#startedAt = now;
    const child = spawn("logger", ["--tag", this.#program, "--priority", `${this.#facility}.info`, "--prio-prefix"], {
      stdio: ["pipe", "ignore", "ignore"],
    });
    const forget = (): void => {
      this.#child = undefined;
    };
    child.on("error", forget);
    child.on("exit", forget);
    child.stdin.on("error", forget);
    child.unref();
    this.#child = child;
    return child;
  }
}

function severity(level: string | undefined): number {
  const severities: Readonly<Record<string, number>> = { fatal: 2, error: 3, warn: 4, info: 6, debug: 7, trace: 7 };
  return severities[level ?? "info"] ?? 6;
}
