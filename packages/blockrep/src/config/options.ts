import type { OptionSection } from "./model.ts";

/**
 * What an option does here. `implemented`: as in DRBD. `later`: understood and kept, without effect in this version.
 * `no-meaning-in-userspace`: there is nothing here that it could set. Whoever writes one of the latter two gets a
 * warning with `reason`, so that no setting is ignored in silence.
 */
export type OptionEffect = "implemented" | "later" | "no-meaning-in-userspace";

/** What one unit of a plain number is: shown in messages and used to convert. */
export type OptionUnit = "0.1 s" | "s" | "bytes" | "sectors" | "KiB/s" | "4-KiB pages" | "count";

export type OptionType =
  | {
      readonly kind: "number";
      readonly min: number;
      readonly max: number;
      readonly default: number;
      readonly unit: OptionUnit;
    }
  | { readonly kind: "boolean"; readonly default: boolean }
  | { readonly kind: "enum"; readonly values: readonly string[]; readonly default: string; readonly prefix?: string }
  | { readonly kind: "string"; readonly default: string; readonly maxLength?: number }
  | { readonly kind: "names" }
  | { readonly kind: "flag" };

export interface OptionSpec {
  readonly name: string;
  readonly section: OptionSection;
  readonly type: OptionType;
  readonly effect: OptionEffect;
  /** Why it has no effect; ends a warning. */
  readonly reason: string;
  /** Accepted in `syncer {}` of 8.3 too. */
  readonly syncer: boolean;
  /** Values of an implemented option that are not implemented yet, with the reason. */
  readonly laterValues: Readonly<Record<string, string>>;
}

interface Extra {
  readonly later?: string;
  readonly none?: string;
  readonly syncer?: boolean;
  readonly laterValues?: Readonly<Record<string, string>>;
}

function spec(section: OptionSection, name: string, type: OptionType, extra: Extra = {}): OptionSpec {
  const effect =
    extra.later !== undefined ? "later" : extra.none !== undefined ? "no-meaning-in-userspace" : "implemented";
  const reason = extra.later ?? extra.none ?? "";
  return { name, section, type, effect, reason, syncer: extra.syncer ?? false, laterValues: extra.laterValues ?? {} };
}

const number = (min: number, max: number, initial: number, unit: OptionUnit = "count"): OptionType => ({
  kind: "number",
  min,
  max,
  default: initial,
  unit,
});
const boolean = (initial: boolean): OptionType => ({ kind: "boolean", default: initial });
const choice = (...values: [string, ...string[]]): OptionType => ({ kind: "enum", values, default: values[0] });
const text = (maxLength?: number): OptionType => ({
  kind: "string",
  default: "",
  ...(maxLength === undefined ? {} : { maxLength }),
});

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const NAME_MAX = 64; // bytes; digests' names and the shared secret travel in fields of this size

const KERNEL_BUFFERS = "Node cannot size socket buffers; the system's automatic sizing is used";
const ALWAYS_FLUSHED = "writes pass through the page cache, so every barrier is a flush of the disk";
const LATER = "not implemented yet";
const PROXY = "DRBD Proxy is a separate product; the peers connect directly";
const syncer = true;

const net: readonly OptionSpec[] = [
  spec("net", "protocol", choice("C", "B", "A"), {
    laterValues: { A: "it is agreed with the peer and run as C: every write waits for both disks" },
  }),
  spec("net", "timeout", number(1, 600, 60, "0.1 s")),
  spec("net", "connect-int", number(1, 120, 10, "s")),
  spec("net", "ping-int", number(1, 120, 10, "s")),
  spec("net", "ping-timeout", number(1, 300, 5, "0.1 s")),
  spec("net", "ko-count", number(0, 200, 7)),
  spec("net", "max-buffers", number(32, 131072, 2048, "4-KiB pages")),
  spec("net", "max-epoch-size", number(1, 20000, 2048)),
  spec("net", "unplug-watermark", number(1, 131072, 128), { none: "there is no request queue of a kernel to unplug" }),
  spec("net", "sndbuf-size", number(0, 10 * MiB, 0, "bytes"), { none: KERNEL_BUFFERS }),
  spec("net", "rcvbuf-size", number(0, 10 * MiB, 0, "bytes"), { none: KERNEL_BUFFERS }),
  spec("net", "allow-two-primaries", boolean(false), { later: "one Primary at a time until then" }),
  spec("net", "cram-hmac-alg", text(NAME_MAX)),
  spec("net", "shared-secret", text(NAME_MAX)),
  spec("net", "after-sb-0pri", {
    kind: "enum",
    values: [
      "disconnect",
      "discard-younger-primary",
      "discard-older-primary",
      "discard-zero-changes",
      "discard-least-changes",
      "discard-local",
      "discard-remote",
    ],
    default: "disconnect",
    prefix: "discard-node-",
  }),
  spec(
    "net",
    "after-sb-1pri",
    choice("disconnect", "consensus", "discard-secondary", "call-pri-lost-after-sb", "violently-as0p"),
  ),
  spec("net", "after-sb-2pri", choice("disconnect", "call-pri-lost-after-sb", "violently-as0p")),
  spec("net", "always-asbp", boolean(false)),
  spec("net", "rr-conflict", choice("disconnect", "call-pri-lost", "violently")),
  spec("net", "data-integrity-alg", text(NAME_MAX)),
  spec("net", "verify-alg", text(NAME_MAX), { syncer }),
  spec("net", "csums-alg", text(NAME_MAX), { syncer }),
  spec("net", "csums-after-crash-only", boolean(false)),
  spec("net", "tcp-cork", boolean(true), { none: "Node has no TCP_CORK; packets are joined before they are sent" }),
  spec("net", "use-rle", boolean(true), { syncer }),
  spec("net", "on-congestion", choice("block", "pull-ahead", "disconnect"), { later: "matters with protocol A only" }),
  spec("net", "congestion-fill", number(0, (10 * GiB) / 512, 0, "sectors"), { later: "matters with protocol A only" }),
  spec("net", "congestion-extents", number(67, 65534, 1237), { later: "matters with protocol A only" }),
  spec("net", "socket-check-timeout", number(0, 300, 0, "0.1 s"), { later: LATER }),
];

const disk: readonly OptionSpec[] = [
  spec("disk", "size", number(0, 2 ** 41, 0, "sectors")),
  spec("disk", "on-io-error", choice("detach", "pass_on", "call-local-io-error")),
  spec("disk", "fencing", choice("dont-care", "resource-only", "resource-and-stonith")),
  spec("disk", "disk-barrier", boolean(false), { none: ALWAYS_FLUSHED }),
  spec("disk", "disk-flushes", boolean(true), { none: ALWAYS_FLUSHED }),
  spec("disk", "disk-drain", boolean(true), { none: ALWAYS_FLUSHED }),
  spec("disk", "md-flushes", boolean(true), { none: "metadata is always flushed" }),
  spec("disk", "resync-rate", number(1, (4 * GiB) / KiB, 250, "KiB/s"), { syncer }),
  spec("disk", "resync-after", text(), { later: "resources resync side by side until then", syncer }),
  spec("disk", "al-extents", number(67, 65534, 1237), { syncer }),
  spec("disk", "al-updates", boolean(true), { later: "the activity log is always written" }),
  spec("disk", "c-plan-ahead", number(0, 300, 20, "0.1 s"), { syncer }),
  spec("disk", "c-delay-target", number(1, 100, 10, "0.1 s"), { syncer }),
  spec("disk", "c-fill-target", number(0, MiB, 100, "sectors"), { syncer }),
  spec("disk", "c-max-rate", number(250, (4 * GiB) / KiB, 102400, "KiB/s"), { syncer }),
  spec("disk", "c-min-rate", number(0, (4 * GiB) / KiB, 250, "KiB/s"), { syncer }),
  spec("disk", "disk-timeout", number(0, 6000, 0, "0.1 s")),
  spec(
    "disk",
    "read-balancing",
    choice(
      "prefer-local",
      "prefer-remote",
      "round-robin",
      "least-pending",
      "when-congested-remote",
      "32K-striping",
      "64K-striping",
      "128K-striping",
      "256K-striping",
      "512K-striping",
      "1M-striping",
    ),
    { later: "reads are served by the local disk while it is UpToDate" },
  ),
  spec("disk", "max-bio-bvecs", number(0, 128, 0), { none: "no kernel requests are built here" }),
  spec("disk", "use-bmbv", boolean(false), { none: "no kernel requests are built here" }),
  spec("disk", "discard-zeroes-if-aligned", boolean(true), { later: LATER }),
  spec("disk", "disable-write-same", boolean(false), { later: LATER }),
  spec("disk", "rs-discard-granularity", number(0, MiB, 0, "bytes"), { later: LATER }),
];

const resource: readonly OptionSpec[] = [
  spec("options", "cpu-mask", text(), { none: "systemd's CPUAffinity= binds the daemon to processors", syncer }),
  spec("options", "on-no-data-accessible", choice("io-error", "suspend-io"), {
    syncer,
    laterValues: { "suspend-io": "requests fail with an I/O error until then" },
  }),
];

const startup: readonly OptionSpec[] = [
  spec("startup", "wfc-timeout", number(0, 300000, 0, "s")),
  spec("startup", "degr-wfc-timeout", number(0, 300000, 0, "s")),
  spec("startup", "outdated-wfc-timeout", number(0, 300000, 0, "s")),
  spec("startup", "wait-after-sb", boolean(false), { later: LATER }),
  spec("startup", "stacked-timeouts", { kind: "flag" }, { later: "stacked resources are not supported" }),
  spec("startup", "become-primary-on", { kind: "names" }, { later: "haresources says where a resource is Primary" }),
];

const handler = (name: string, later?: string): OptionSpec =>
  spec("handlers", name, text(), later === undefined ? {} : { later });

const handlers: readonly OptionSpec[] = [
  handler("pri-on-incon-degr"),
  handler("pri-lost-after-sb"),
  handler("pri-lost"),
  handler("fence-peer"),
  handler("unfence-peer"),
  handler("local-io-error"),
  handler("initial-split-brain"),
  handler("split-brain"),
  handler("before-resync-target"),
  handler("after-resync-target"),
  handler("before-resync-source"),
  handler("out-of-sync"),
];

const proxy: readonly OptionSpec[] = ["memlimit", "read-loops", "compression", "bwlimit"].map((name) =>
  spec("proxy", name, text(), { none: PROXY }),
);

/**
 * Every option of every section with type, range, default and what it does here.
 * @see DRBD 8.4 drbd.conf(5) and `drbdsetup xml-help`
 */
export const OPTIONS: readonly OptionSpec[] = [...net, ...disk, ...resource, ...startup, ...handlers, ...proxy];

const byKey = new Map(OPTIONS.map((option) => [`${option.section} ${option.name}`, option]));

export function findOption(section: OptionSection, name: string): OptionSpec | undefined {
  return byKey.get(`${section} ${name}`);
}

/** How one word of a section is read: its option, and the value that a negation stands for. */
export interface OptionWord {
  readonly option: OptionSpec;
  /** `no-disk-flushes` takes no value and means `disk-flushes no`. */
  readonly negated: boolean;
}

/** Spellings of 8.3 that 8.4 still takes, with the present name. */
export const ALIASES: Readonly<Record<string, string>> = {
  rate: "resync-rate",
  after: "resync-after",
  "outdate-peer": "fence-peer",
};

const NEGATIONS = ["disk-barrier", "disk-flushes", "disk-drain", "md-flushes", "tcp-cork"];

/** Options of 8.3 that 8.4 reads (in `net` and `disk`) and forgets. */
export const FORGOTTEN: ReadonlySet<string> = new Set([
  "delay-probe-volume",
  "delay-probe-interval",
  "throttle-threshold",
  "hold-off-threshold",
]);

function wordsOf(accept: (option: OptionSpec) => boolean): ReadonlyMap<string, OptionWord> {
  const words = new Map<string, OptionWord>();
  for (const option of OPTIONS.filter(accept)) {
    words.set(option.name, { option, negated: false });
    for (const [alias, name] of Object.entries(ALIASES)) {
      if (name === option.name) words.set(alias, { option, negated: false });
    }
    if (NEGATIONS.includes(option.name)) words.set(`no-${option.name}`, { option, negated: true });
  }
  return words;
}

const SECTION_WORDS: Readonly<Record<OptionSection | "syncer", ReadonlyMap<string, OptionWord>>> = {
  net: wordsOf((o) => o.section === "net"),
  disk: wordsOf((o) => o.section === "disk"),
  options: wordsOf((o) => o.section === "options"),
  startup: wordsOf((o) => o.section === "startup"),
  handlers: wordsOf((o) => o.section === "handlers"),
  proxy: wordsOf((o) => o.section === "proxy"),
  // syncer knows rate and after only under their old names
  syncer: new Map([...wordsOf((o) => o.syncer)].filter(([word]) => word !== "resync-rate" && word !== "resync-after")),
};

/** The words that a section takes. */
export function sectionWords(section: OptionSection | "syncer"): ReadonlyMap<string, OptionWord> {
  return SECTION_WORDS[section];
}

/** Words of the grammar that mean themselves and must be quoted to be a value; the options' names are such words too. */
const GRAMMAR_WORDS: readonly string[] = [
  "global",
  "common",
  "resource",
  "stacked-on-top-of",
  "floating",
  "ignore-on",
  "skip",
  "include",
  "net",
  "disk",
  "startup",
  "handlers",
  "syncer",
  "options",
  "proxy",
  "volume",
  "device",
  "address",
  "meta-disk",
  "flexible-meta-disk",
  "minor",
  "yes",
  "no",
  "ask",
  "_this_host",
  "_remote_host",
  "ipv4",
  "ipv6",
  "sdp",
  "sci",
  "ssocks",
  "plugin",
  "inside",
  "outside",
  "usage-count",
  "dialog-refresh",
  "minor-count",
  "disable-ip-verification",
  "udev-always-use-vnr",
  "cmd-timeout-short",
  "cmd-timeout-medium",
  "cmd-timeout-long",
];

export const KEYWORDS: ReadonlySet<string> = new Set([
  ...GRAMMAR_WORDS,
  ...FORGOTTEN,
  ...Object.values(SECTION_WORDS).flatMap((words) => [...words.keys()]),
]);
