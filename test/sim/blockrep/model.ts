/** A write as the application knows it. */
export interface WriteRecord {
  /** What its sectors read as: its own number, or 0 for a discard. */
  readonly value: number;
  readonly issued: number;
  /** When it was acknowledged, or when its fate became unknown; Infinity while it runs. */
  ended: number;
  acknowledged: boolean;
  /** A flush that began after its acknowledgement was acknowledged. */
  durable: boolean;
}

interface Version {
  write: WriteRecord;
  /** A read that began before this moment may return it. */
  died: number;
}

const ORIGIN: WriteRecord = { value: 0, issued: -1, ended: -1, acknowledged: true, durable: true };

/** What reads of one history of the data may return, sector by sector. */
export class Model {
  readonly #sectors: Map<number, Version[]> = new Map();
  /** Sectors that have more than one durable version. */
  readonly #open: Set<number> = new Set();
  /** Acknowledged writes that only this history has. */
  soloAcks = 0;

  clone(now: number): Model {
    const copy = new Model();
    for (const sector of this.#open) copy.#open.add(sector);
    // what one history makes durable from here on, the other may still lose
    const writes = new Map<WriteRecord, WriteRecord>();
    const own = (write: WriteRecord): WriteRecord => {
      let mine = writes.get(write);
      // a write that still runs may or may not reach the other history
      if (mine === undefined) {
        mine = { ...write, ended: Math.min(write.ended, now) };
        writes.set(write, mine);
      }
      return mine;
    };
    for (const [sector, versions] of this.#sectors) {
      copy.#sectors.set(
        sector,
        versions.map((v) => ({ died: v.died, write: own(v.write) })),
      );
    }
    return copy;
  }

  #versions(sector: number): Version[] {
    let versions = this.#sectors.get(sector);
    if (versions === undefined) {
      versions = [{ write: ORIGIN, died: Infinity }];
      this.#sectors.set(sector, versions);
    }
    return versions;
  }

  issue(write: WriteRecord, sector: number, count: number): void {
    for (let s = sector; s < sector + count; s++) {
      this.#versions(s).push({ write, died: Infinity });
      this.#open.add(s);
    }
  }

  acknowledge(write: WriteRecord, sector: number, count: number, now: number): void {
    for (let s = sector; s < sector + count; s++) {
      const versions = this.#versions(s);
      for (const v of versions) if (v.write !== write && v.write.ended < write.issued) v.died = Math.min(v.died, now);
    }
  }

  /** An acknowledged flush that began at `issued`: older versions than a durable one are forgotten. */
  flushed(issued: number): void {
    for (const sector of [...this.#open]) {
      const versions = this.#versions(sector);
      for (const v of versions) if (v.write.acknowledged && v.write.ended < issued) v.write.durable = true;
      const newest = versions.findLastIndex((v) => v.write.durable);
      if (newest <= 0) continue;
      const keep = versions.filter((v, i) => i >= newest || v.died === Infinity);
      this.#sectors.set(sector, keep);
      if (keep.length === 1) this.#open.delete(sector);
    }
  }

  /** The only holder lost what was not flushed: every version since the last durable one may be there. */
  lostUnflushed(): void {
    for (const sector of this.#open) {
      const versions = this.#versions(sector);
      const newest = versions.findLastIndex((v) => v.write.durable);
      for (let i = Math.max(0, newest); i < versions.length; i++) {
        const version = versions[i] as Version;
        version.died = Infinity;
        // a later flush proves nothing about it any more
        if (version.write.acknowledged && !version.write.durable)
          version.write = { ...version.write, acknowledged: false };
      }
    }
  }

  allows(sector: number, value: number, began: number): boolean {
    const versions = this.#sectors.get(sector);
    if (versions === undefined) return value === 0;
    return versions.some((v) => v.died >= began && v.write.value === value);
  }

  describe(sector: number): string {
    const versions = this.#sectors.get(sector) ?? [];
    return versions
      .map(
        (v) =>
          `${v.write.value}${v.died === Infinity ? "*" : ""}${v.write.acknowledged ? "a" : ""}${v.write.durable ? "d" : ""}`,
      )
      .join(",");
  }
}
