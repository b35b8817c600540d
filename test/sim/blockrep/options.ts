import { Prng } from "@hacluster/blockrep/base";
import type { EngineEvent, EngineOptions, Mutations } from "@hacluster/blockrep/unstable/core/ports";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";

const TROUBLE_SALT = 21;
/** Of the stage: more extents than the activity log holds. */
const STAGE_SECTORS = 400 * 2048;

export interface SimOptions {
  /** A protection to take away; the run is expected to turn red for some seeds. */
  readonly mutations?: Mutations;
  readonly trace?: (line: string) => void;
  /** No faults at all: a failure is then one of the plain path. */
  readonly calm?: boolean;
  /**
   * One course of events instead of random faults. `lonely`: a busy Primary loses its peer, works on until the activity
   * log has turned over, and loses power during a flush. `resync`: a node that catches up loses power meanwhile.
   */
  readonly focus?: "lonely" | "resync";
  /** A performance for readers: every operation takes a millisecond, and somebody watches. */
  readonly stage?: Stage;
}

export interface Stage {
  readonly net: Partial<EngineOptions["net"]>;
  packet(from: number, packet: Packet): void;
  event(node: number, event: EngineEvent): void;
  disk(node: number, operation: string): void;
}

export interface Scenario {
  readonly deviceSectors: number;
  /** New metadata and a forced Primary instead of two disks that were synced long ago. */
  readonly fresh: boolean;
  readonly options: EngineOptions;
  /** One more disk fault than chance brings about, at a time when the other disk is good. */
  readonly failingDisk: boolean;
  /** The link is cut until the service has been started on the other side too. */
  readonly splitBrain: boolean;
  readonly durationMs: number;
  readonly queueDepth: number;
  /** Sectors that writes begin at: few enough that they meet again, in more extents than the activity log holds. */
  readonly places: readonly number[];
}

const MIB = 2048; // sectors

/** @param features decides what the scenario uses, apart from `prng`, so that a new feature leaves the course of a seed alone */
export function scenarioOf(prng: Prng, features: Prng, options: SimOptions): Scenario {
  const scenario = randomScenario(prng, features, options);
  if (options.stage === undefined) {
    if (options.focus !== undefined || options.mutations !== undefined || options.calm === true) return scenario;
    // a source of its own: the course of the seeds that are kept must not change
    const trouble = new Prng(scenario.deviceSectors + TROUBLE_SALT).below(100);
    return { ...scenario, splitBrain: trouble < 12, failingDisk: trouble >= 12 && trouble < 36 };
  }
  const { net } = scenario.options;
  const quiet = { protocol: "C", pingTimeoutMs: 500, koCount: 2, maxEpochSize: 2048, cramHmacAlg: "" } as const;
  return {
    ...scenario,
    fresh: false,
    deviceSectors: STAGE_SECTORS,
    options: { ...scenario.options, handlers: [], net: { ...net, ...quiet, useRle: true, ...options.stage.net } },
  };
}

function randomScenario(prng: Prng, features: Prng, options: SimOptions): Scenario {
  const protocol = options.mutations !== undefined ? "C" : features.pick(["C", "C", "C", "B", "A"] as const);
  const fencing =
    options.stage === undefined &&
    options.focus === undefined &&
    options.mutations === undefined &&
    features.chance(1, 5);
  const fresh = options.focus === undefined && prng.chance(1, 6);
  const deviceSectors = fresh ? prng.between(8, 24) * MIB : 800 * MIB + prng.between(0, 4000);
  const pingTimeoutMs = prng.between(200, 500);
  const places: number[] = [];
  const usable = deviceSectors - 4096;
  for (let i = 0; i < 12; i++) places.push(prng.below(64) * 8 + prng.below(3));
  for (let i = 0; i < 160; i++) {
    const place = prng.below(usable - 512);
    places.push(prng.chance(3, 4) ? place - (place % 8) : place);
  }
  return {
    deviceSectors,
    fresh,
    failingDisk: false,
    splitBrain: false,
    durationMs: (options.focus === undefined ? prng.between(5, 11) : prng.between(6, 16)) * 1000,
    queueDepth: options.focus !== undefined ? 16 : prng.pick([1, 2, 4, 8]),
    places,
    options: {
      resource: "r0",
      net: {
        protocol,
        timeoutMs: 2000,
        connectIntMs: 1000,
        pingIntMs: 1000,
        pingTimeoutMs,
        socketCheckTimeoutMs: 0,
        koCount: prng.pick([2, 3]),
        maxBuffers: 8192,
        maxEpochSize: prng.pick([3, 2048]),
        allowTwoPrimaries: false,
        cramHmacAlg: prng.chance(1, 8) ? "sha1" : "",
        sharedSecret: "secret",
        afterSb0p: "disconnect",
        afterSb1p: "disconnect",
        afterSb2p: "disconnect",
        alwaysAsbp: false,
        rrConflict: "disconnect",
        dataIntegrityAlg: features.chance(1, 8) ? "crc32c" : "",
        verifyAlg: features.chance(1, 3) ? "crc32c" : "",
        csumsAlg: features.chance(1, 4) ? "crc32c" : "",
        csumsAfterCrashOnly: features.chance(1, 3),
        useRle: prng.chance(3, 4),
      },
      volumes: [
        {
          volume: 0,
          minor: 0,
          disk: {
            meta: { kind: "internal" },
            sizeSectors: 0,
            onIoError: "detach",
            fencing: fencing ? "resource-and-stonith" : "dont-care",
            alExtents: 67,
            diskFlushes: true,
            mdFlushes: true,
            resyncRateKib: 2_000_000,
            cPlanAhead: prng.chance(1, 4) ? 20 : 0,
            cDelayTarget: 10,
            cFillTargetSectors: 0,
            cMaxRateKib: 2_000_000,
            cMinRateKib: 250,
            diskTimeoutMs: 0,
          },
        },
      ],
      onNoDataAccessible: "io-error",
      handlers: fencing ? ["fence-peer"] : [],
      protocolMin: 100,
      protocolMax: 101,
      ...(options.mutations === undefined ? {} : { mutations: options.mutations }),
    },
  };
}
