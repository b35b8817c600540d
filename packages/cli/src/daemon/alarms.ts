/** What needs somebody's attention now, for `hacluster status`. A key has one alarm; the first time of it counts. */
export interface Alarm {
  readonly key: string;
  /** Stable name, as in the log's `event`. */
  readonly name: string;
  readonly text: string;
  /** Unix time in milliseconds. */
  readonly sinceMs: number;
}

/** The alarms that stand. */
export class Alarms {
  readonly #alarms = new Map<string, Alarm>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  raise(key: string, name: string, text: string): void {
    const sinceMs = this.#alarms.get(key)?.sinceMs ?? this.#now();
    this.#alarms.set(key, { key, name, text, sinceMs });
  }

  clear(key: string): void {
    this.#alarms.delete(key);
  }

  /** Oldest first. */
  list(): { [field in keyof Alarm]: Alarm[field] }[] {
    return [...this.#alarms.values()].sort((a, b) => a.sinceMs - b.sinceMs);
  }
}
