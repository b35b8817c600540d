import assert from "node:assert/strict";
import { test } from "node:test";
import type { ResourceStatus, VolumeStatus } from "@hacluster/blockrep";
import { EventStream } from "hacluster/unstable/formats/drbd-events";
import { formatStatus, type StatusOptions } from "hacluster/unstable/formats/drbd-status";
import { formatProc } from "hacluster/unstable/formats/proc-drbd";
import {
  EMPTY_STATUS,
  EMPTY_VOLUME,
  parseStatus,
  type Recorded,
  readRecordedEvents,
  readRecording,
  withVolumeField,
  withVolumes,
} from "../support/drbd-recordings.ts";

const PROC = { version: "1.2.3", protocolMin: 86, protocolMax: 101 };
/** A device that is all out of sync has no activity log in the kernel; ours has always one. */
const alwaysLogged = (text: string): string => text.replace(/al-suspended:yes/g, "al-suspended:no");

interface Moment {
  readonly status: ResourceStatus;
  readonly variants: ReadonlyMap<string, string>;
  readonly proc: string;
}

/** The four texts of `drbdsetup status RES` that were taken one after the other, and /proc/drbd right behind them. */
function moments(recording: readonly Recorded[]): Moment[] {
  const found: Moment[] = [];
  for (let i = 0; i + 4 < recording.length; i++) {
    const name = /^drbdsetup status (r\d)$/.exec(recording[i]?.command ?? "")?.[1];
    if (name === undefined || recording[i + 4]?.command !== "cat /proc/drbd") continue;
    const five = recording.slice(i, i + 5);
    const variants = new Map(
      five.slice(0, 4).map((r) => [r.command.replace(`drbdsetup status ${name}`, "").trim(), alwaysLogged(r.stdout)]),
    );
    const status = parseStatus(variants.get("--verbose --statistics") ?? "");
    found.push({ status, variants, proc: five[4]?.stdout ?? "" });
  }
  return found;
}

function options(variant: string): StatusOptions {
  return { verbose: variant.includes("--verbose"), statistics: variant.includes("--statistics"), width: 80 };
}

/** Values that go on between two commands while a resync runs; their width stays. */
function still(text: string): string {
  return text.replace(
    /(done|read|sent|received|out-of-sync):[\d.]+/g,
    (word, key: string) => `${key}:${"#".repeat(word.length)}`,
  );
}

test("status is drbdsetup's, byte for byte, in every recorded state", () => {
  const all = [...moments(readRecording("alone.txt")), ...moments(readRecording("pair.txt"))];
  assert.ok(all.length > 15);
  const states = new Set<string>();
  for (const { status, variants } of all) {
    states.add(`${status.connection} ${status.volumes.length}`);
    for (const [variant, text] of variants) {
      const ours = formatStatus(status, options(variant));
      if (variant === "--verbose --statistics" || status.connection !== "SyncSource") assert.equal(ours, text, variant);
      else assert.equal(still(ours).replace(/#+/g, "#"), still(text).replace(/#+/g, "#"), variant);
    }
  }
  for (const state of [
    "StandAlone 1",
    "WFConnection 2",
    "Connected 1",
    "SyncSource 1",
    "SyncSource 2",
    "PausedSyncS 1",
  ]) {
    assert.ok(states.has(state), state);
  }
});

test("status breaks its lines where the terminal ends", () => {
  const text = formatStatus(
    { ...EMPTY_STATUS, connection: "WFConnection" },
    { verbose: true, statistics: true, width: 40 },
  );
  assert.equal(
    text,
    `r0 role:Secondary suspended:no
    write-ordering:flush
  volume:0 minor:0 disk:Diskless
      size:0 read:0 written:0
      al-writes:0 bm-writes:0
      upper-pending:0 lower-pending:0
      al-suspended:no blocked:no
  peer connection:Connecting
      role:Unknown congested:no
    volume:0 replication:Off
        peer-disk:DUnknown
        resync-suspended:no
        received:0 sent:0 out-of-sync:0
        pending:0 unacked:0

`,
  );
});

/** The lines of /proc/drbd that belong to the minors of a resource; our log is never suspended. */
function linesOf(proc: string, status: ResourceStatus): string {
  const wanted = new Set(status.volumes.map((v) => v.minor));
  let current: number | undefined;
  const lines = proc.split("\n").filter((line) => {
    const minor = /^ *(\d+): cs:/.exec(line);
    if (minor !== null) current = Number(minor[1]);
    return current !== undefined && wanted.has(current) && line !== "";
  });
  return lines.map((line) => line.replace(/^( *\d+: cs:.* [rs][-a-z]{4})s$/, "$1-")).join("\n");
}

/** What /proc/drbd tells beyond the status: the protocol, and the amounts of a resync. */
function withProc(status: ResourceStatus, proc: string): ResourceStatus {
  const volumes = status.volumes.map((volume): VolumeStatus => {
    const own = linesOf(proc, { ...status, volumes: [volume] });
    let out = volume;
    for (const [, key = "", value = ""] of own.matchAll(/(ns|nr|dw|dr|al|bm|lo|pe|ua|ap|oos):(\d+)/g)) {
      out = withVolumeField(out, PROC_KEYS[key] ?? key, value);
    }
    // without a connection the status says nothing of the peer's disk
    out = { ...out, peerDisk: / ds:\w+\/(\w+)/.exec(own)?.[1] ?? out.peerDisk };
    const amounts = /\((\d+)\/(\d+)\)K\n\tfinish: \S+ speed: ([\d,]+) \(([\d,]+)\)/.exec(own);
    if (amounts === null) return { ...out, resync: volume.resync === null ? null : volume.resync };
    const [left, total, speed] = [Number(amounts[1]), Number(amounts[2]), Number(amounts[4]?.replaceAll(",", ""))];
    const doneBytes = (total - left) * 1024;
    return { ...out, resync: { doneBytes, totalBytes: total * 1024, elapsedMs: (doneBytes / 1024 / speed) * 1000 } };
  });
  const line = linesOf(proc, status);
  const protocol = / ds:\S+ ([ABC]) /.exec(line)?.[1] as "A" | "B" | "C" | undefined;
  return { ...status, volumes, protocol: protocol ?? "C" };
}

const PROC_KEYS: Readonly<Record<string, string>> = {
  ns: "sent",
  nr: "received",
  dw: "written",
  dr: "read",
  al: "al-writes",
  bm: "bm-writes",
  lo: "lower-pending",
  pe: "pending",
  ua: "unacked",
  ap: "upper-pending",
  oos: "out-of-sync",
};

test("proc shows each recorded state as /proc/drbd did", () => {
  let resyncs = 0;
  for (const { status, proc } of [...moments(readRecording("alone.txt")), ...moments(readRecording("pair.txt"))]) {
    const full = withProc(status, proc);
    const theirs = linesOf(proc, full);
    // the kernel tells the speed of the last seconds first, then the mean; ours is the mean in both places
    const mean = theirs.replace(/speed: [\d,]+ \(([\d,]+)\)/g, "speed: $1 ($1)");
    if (mean !== theirs) continue;
    if (theirs.includes("sync'ed")) resyncs++;
    assert.equal(linesOf(formatProc([full], PROC), full), theirs);
  }
  assert.ok(resyncs >= 2, `${resyncs} resyncs`);
});

test("proc: header, gaps between minors, the order of minors, a large verify", () => {
  const at = (minor: number, connection = "WFConnection"): ResourceStatus =>
    withVolumes({ ...EMPTY_STATUS, connection }, [{ ...EMPTY_VOLUME, minor, disk: "UpToDate" }]);
  const lines = formatProc([at(3), at(0), at(1)], PROC).split("\n");
  assert.deepEqual(lines.slice(0, 2), ["version: 8.4.11 (api:1/proto:86-101)", "srcversion: hacluster 1.2.3"]);
  assert.deepEqual(
    lines.filter((line) => line === "" || line.includes("cs:")).map((line) => line.slice(0, 3)),
    [" 0:", " 1:", "", " 3:", ""],
  );
  const verify = at(0, "VerifyS");
  const volume = verify.volumes[0] as VolumeStatus;
  const resync = { doneBytes: 2 ** 38, totalBytes: 2 ** 40, elapsedMs: 3_600_000 };
  const text = formatProc([{ ...verify, volumes: [{ ...volume, resync }] }], PROC);
  assert.match(text, /^\t\[====>\.{15}\] verified: 25\.1% \(786432\/1048576\)M$/m);
  assert.match(text, /^\tfinish: 2:59:24 speed: 74,564 \(74,564\) K\/sec$/m);
  const stalled = formatProc(
    [
      {
        ...at(0, "SyncTarget"),
        volumes: [
          { ...volume, connection: "SyncTarget", resync: { doneBytes: 0, totalBytes: 2 ** 30, elapsedMs: 60_000 } },
        ],
      },
    ],
    PROC,
  );
  assert.match(stalled, /\[>\.{20}\] sync'ed: {2}0\.4% .*\n.* \(stalled\)$/m);
  assert.match(formatProc([{ ...EMPTY_STATUS }], PROC), /^ 0: cs:Unconfigured$/m);
  assert.equal(formatProc([], PROC).split("\n").length, 3);
});

interface Line {
  readonly action: string;
  readonly kind: string;
  readonly fields: readonly (readonly [string, string])[];
}

function parseLine(text: string): Line {
  const [, action = "", kind = "", ...words] = text.split(" ");
  const fields = words.map((word): [string, string] => {
    const colon = word.indexOf(":");
    return [word.slice(0, colon), word.slice(colon + 1)];
  });
  return { action, kind, fields };
}

const INFO_KEYS = new Set(["role", "suspended", "connection", "disk", "replication", "peer-disk", "resync-suspended"]);

/** The state after a line, which names what has changed. */
function apply(status: ResourceStatus, { action, kind, fields }: Line): ResourceStatus {
  let out: ResourceStatus = status;
  let volume = out.volumes[0] ?? EMPTY_VOLUME;
  for (const [key, value] of fields) {
    if (kind === "device" || kind === "peer-device") volume = withVolumeField(volume, key, value);
    if (kind === "resource" && key === "role") out = { ...out, role: value };
    if (kind === "connection" && key === "role") out = { ...out, peerRole: value };
    if (kind === "connection" && key === "connection") {
      out = {
        ...out,
        connection: value === "Connecting" ? "WFConnection" : value === "Connected" ? "WFReportParams" : value,
      };
    }
    if (key === "replication" && value !== "Off") {
      out = { ...out, connection: value === "Established" ? "Connected" : value };
    }
  }
  if (action === "destroy" && kind === "connection") out = { ...out, connection: "StandAlone" };
  return withVolumes(out, [volume]);
}

test("events2: the lines of a recorded split brain and its recovery follow from the states", () => {
  const recorded = readRecordedEvents();
  const start = recorded.findIndex((line) => line.endsWith("exists -"));
  const plain = (line: string): string => line.replace(/^\S+ /, "").replace(/ blocked:\S+/, "");
  let status: ResourceStatus = { ...EMPTY_STATUS };
  for (const line of recorded.slice(0, start)) status = apply(status, parseLine(line));
  const stream = new EventStream({ statistics: true, timestamps: false });
  const clean = (lines: readonly string[]): string[] => lines.map((line) => line.replace(/ blocked:\S+/, ""));
  assert.deepEqual(clean(stream.initial([status], 0)), recorded.slice(0, start + 1).map(plain));

  const rest = recorded.slice(start + 1).filter((line) => {
    const { action, fields } = parseLine(line);
    // the kernel also names objects of a change that have not changed themselves
    return action !== "change" || fields.some(([key]) => INFO_KEYS.has(key));
  });
  const expected: string[] = [];
  const got: string[] = [];
  for (let i = 0; i < rest.length; ) {
    const line = parseLine(rest[i] ?? "");
    if (line.kind === "helper") {
      const field = (key: string): string | undefined => line.fields.find(([k]) => k === key)?.[1];
      const code = field("status");
      const event = { helper: field("helper") ?? "", volume: 0, status: code === undefined ? undefined : Number(code) };
      got.push(...stream.helper("r0", event, 0));
      expected.push(plain(rest[i++] ?? ""));
      continue;
    }
    if (line.action === "destroy" && line.kind === "device") {
      got.push(...stream.gone("r0", 0));
      expected.push(...rest.slice(i).map(plain));
      break;
    }
    // one moment: the same time, a new connection with its first step, the end of a connection with its removal
    const time = rest[i]?.split(" ")[0];
    do {
      status = apply(status, parseLine(rest[i] ?? ""));
      expected.push(plain(rest[i++] ?? ""));
    } while (
      i < rest.length &&
      (rest[i]?.startsWith(`${time} `) ||
        / destroy (peer-device|connection) /.test(rest[i] ?? "") ||
        (/ create /.test(rest[i - 1] ?? "") && / connection:Unconnected/.test(rest[i] ?? "")))
    );
    got.push(...clean(stream.update(status, 0)));
  }
  assert.deepEqual(got, expected);
});

test("events2: without statistics only states; a resource that comes up is created, one that goes is destroyed", () => {
  const stream = new EventStream({ statistics: false, timestamps: true });
  const at = Date.UTC(2026, 10, 20, 17, 30, 3) + 532.082;
  assert.match(stream.initial([], at)[0] ?? "", /^\d{4}-\d\d-\d\dT\d\d:\d\d:03\.532082[+-]\d\d:\d\d exists -$/);
  const quiet = new EventStream({ statistics: false, timestamps: false });
  quiet.initial([], 0);
  const up: ResourceStatus = {
    ...EMPTY_STATUS,
    connection: "WFConnection",
    volumes: [{ ...EMPTY_VOLUME, disk: "UpToDate" }],
  };
  assert.deepEqual(quiet.update(up, 0), [
    "create resource name:r0 role:Secondary suspended:no",
    "create connection name:r0 peer-node-id:0 conn-name:peer connection:Connecting role:Unknown",
    "create device name:r0 volume:0 minor:0 disk:UpToDate",
    "create peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown resync-suspended:no",
  ]);
  assert.deepEqual(quiet.update(up, 0), []);
  assert.deepEqual(
    quiet.update({ ...up, suspended: true, suspendedBy: { user: true, noData: false, fencing: true } }, 0),
    ["change resource name:r0 suspended:user,fencing"],
  );
  assert.deepEqual(quiet.helper("r0", { helper: "fence-peer", volume: 0, status: undefined }, 0), [
    "call helper name:r0 peer-node-id:0 conn-name:peer volume:0 minor:0 helper:fence-peer",
  ]);
  assert.deepEqual(quiet.gone("r0", 0), [
    "destroy peer-device name:r0 peer-node-id:0 conn-name:peer volume:0",
    "destroy connection name:r0 peer-node-id:0 conn-name:peer",
    "destroy device name:r0 volume:0 minor:0",
    "destroy resource name:r0",
  ]);
  assert.deepEqual(quiet.gone("r0", 0), []);
});
