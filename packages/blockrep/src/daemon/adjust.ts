import type { DiskOptions, EngineOptions, NetOptions, VolumeOptions } from "../core/ports.ts";
import type { ResourceSettings } from "./resource.ts";

/** Names of changed options and statements, as drbd.conf writes them. */
export interface Adjustment {
  readonly now: readonly string[];
  readonly nextConnection: readonly string[];
  readonly nextAttach: readonly string[];
  /** Not taken over: the resource has to go down and up. */
  readonly restart: readonly string[];
}

type When = keyof Adjustment;
type Effects<T> = { readonly [Key in keyof T]-?: readonly [name: string, when: When] };

const NET: Effects<NetOptions> = {
  protocol: ["protocol", "nextConnection"],
  timeoutMs: ["timeout", "now"],
  connectIntMs: ["connect-int", "now"],
  pingIntMs: ["ping-int", "now"],
  pingTimeoutMs: ["ping-timeout", "now"],
  socketCheckTimeoutMs: ["socket-check-timeout", "now"],
  koCount: ["ko-count", "now"],
  maxBuffers: ["max-buffers", "now"],
  maxEpochSize: ["max-epoch-size", "now"],
  allowTwoPrimaries: ["allow-two-primaries", "nextConnection"],
  cramHmacAlg: ["cram-hmac-alg", "nextConnection"],
  sharedSecret: ["shared-secret", "nextConnection"],
  afterSb0p: ["after-sb-0pri", "nextConnection"],
  afterSb1p: ["after-sb-1pri", "nextConnection"],
  afterSb2p: ["after-sb-2pri", "nextConnection"],
  alwaysAsbp: ["always-asbp", "nextConnection"],
  rrConflict: ["rr-conflict", "nextConnection"],
  dataIntegrityAlg: ["data-integrity-alg", "nextConnection"],
  verifyAlg: ["verify-alg", "now"],
  csumsAlg: ["csums-alg", "now"],
  csumsAfterCrashOnly: ["csums-after-crash-only", "now"],
  useRle: ["use-rle", "now"],
};

const DISK: Effects<DiskOptions> = {
  meta: ["meta-disk", "restart"],
  sizeSectors: ["size", "nextAttach"],
  onIoError: ["on-io-error", "now"],
  fencing: ["fencing", "now"],
  alExtents: ["al-extents", "nextAttach"],
  diskFlushes: ["disk-flushes", "now"],
  mdFlushes: ["md-flushes", "now"],
  resyncRateKib: ["resync-rate", "now"],
  cPlanAhead: ["c-plan-ahead", "now"],
  cDelayTarget: ["c-delay-target", "now"],
  cFillTargetSectors: ["c-fill-target", "now"],
  cMaxRateKib: ["c-max-rate", "now"],
  cMinRateKib: ["c-min-rate", "now"],
  diskTimeoutMs: ["disk-timeout", "now"],
};

/** What is another in the new settings, and from when it would count. */
export function compareSettings(before: ResourceSettings, after: ResourceSettings): Adjustment {
  const found: Record<When, string[]> = { now: [], nextConnection: [], nextAttach: [], restart: [] };
  const note = (when: When, name: string): void => {
    if (!found[when].includes(name)) found[when].push(name);
  };
  const compare = <T extends object>(a: T, b: T, effects: Effects<T>, where: string): void => {
    for (const key of Object.keys(effects) as (keyof T)[]) {
      if (!same(a[key], b[key])) note(effects[key][1], `${where}${effects[key][0]}`);
    }
  };
  if (!same(before.local, after.local) || !same(before.peer, after.peer)) note("restart", "address");
  compare(before.engine.net, after.engine.net, NET, "");
  if (before.engine.onNoDataAccessible !== after.engine.onNoDataAccessible) note("now", "on-no-data-accessible");
  if (!same(before.handlers, after.handlers)) note("now", "handlers");
  const several = before.volumes.length > 1;
  for (const volume of before.volumes) {
    const where = several ? `volume ${volume.volume}: ` : "";
    const now = after.volumes.find((v) => v.volume === volume.volume);
    if (now === undefined) {
      note("restart", `volume ${volume.volume} is gone`);
      continue;
    }
    for (const key of ["minor", "disk", "device"] as const) {
      if (volume[key] !== now[key]) note("restart", `${where}${key}`);
    }
    if (volume.metaDisk !== now.metaDisk) note("restart", `${where}meta-disk`);
    const options = (settings: ResourceSettings): DiskOptions | undefined =>
      settings.engine.volumes.find((v) => v.volume === volume.volume)?.disk;
    const [a, b] = [options(before), options(after)];
    if (a !== undefined && b !== undefined) compare(a, b, DISK, where);
  }
  for (const { volume } of after.volumes) {
    if (!before.volumes.some((v) => v.volume === volume)) note("restart", `volume ${volume} is new`);
  }
  return found;
}

/** The old settings with everything of the new ones that needs no `down` and `up`. */
export function withLiveSettings(before: ResourceSettings, after: ResourceSettings): ResourceSettings {
  const volumes = before.engine.volumes.map((volume): VolumeOptions => {
    const now = after.engine.volumes.find((v) => v.volume === volume.volume);
    return now === undefined ? volume : { ...volume, disk: { ...now.disk, meta: volume.disk.meta } };
  });
  const engine: EngineOptions = { ...after.engine, volumes };
  return { ...before, engine, handlers: after.handlers, runHandlers: after.runHandlers };
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
