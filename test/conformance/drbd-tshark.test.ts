import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { encodePacket } from "@hacluster/blockrep/unstable/wire/codec";
import type { Dialect } from "@hacluster/blockrep/unstable/wire/dialect";
import type { Packet } from "@hacluster/blockrep/unstable/wire/packets";
import fc from "fast-check";
import { ALL_KINDS, anyPacket } from "../support/packets.ts";
import { tcpPcap } from "../support/pcap-writer.ts";
import { findProgram, skipUnless } from "../support/requires.ts";

const FIELDS = ["_ws.col.Info", "_ws.malformed", "drbd.volume", "drbd.sector", "drbd.seq_num", "drbd.dp_flags"];
const MORE_FIELDS = [
  "drbd.barrier",
  "drbd.set_size",
  "drbd.d_size",
  "drbd.c_size",
  "drbd.integrity_alg",
  "drbd.retcode",
];

/** What Wireshark's dissector makes of packets, one row of the fields above for each. */
function dissect(packets: readonly Packet[], dialect: Dialect): string[][] {
  const folder = mkdtempSync(join(tmpdir(), "hacluster-tshark-"));
  try {
    const file = join(folder, "packets.pcap");
    writeFileSync(
      file,
      tcpPcap(
        7788,
        packets.map((packet) => encodePacket(packet, dialect)),
      ),
    );
    const fields = [...FIELDS, ...MORE_FIELDS].flatMap((field) => ["-e", field]);
    // the dissector recognises DRBD by its magic, whatever the port; that is off by default
    const args = ["--enable-heuristic", "drbd_tcp", "-r", file, "-T", "fields", ...fields];
    const output = execFileSync(findProgram("tshark")!, args, {
      encoding: "utf8",
      timeout: 60_000,
      stdio: ["ignore", "pipe", "ignore"],
    });
    return output
      .replace(/\n$/, "")
      .split("\n")
      .map((line) => line.split("\t"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("tshark: reads every packet of ours as what it is, with our values, none malformed", (t) => {
  if (skipUnless(t, { programs: { tshark: "tshark" } })) return;
  const dialect: Dialect = { version: 101, features: 0x0f, integrityDigestLength: 0 };
  // not after the features exchange; and the dissector knows P_SYNC_PARAM with its later layout only
  const kinds = ALL_KINDS.filter((kind) => !/^P_(INITIAL_|CONNECTION_FEATURES|SYNC_PARAM$)/.test(kind));
  const packets = kinds.flatMap((kind) => fc.sample(anyPacket(dialect, [kind]), { numRuns: 3, seed: 42 }));
  const rows = dissect(packets, dialect);
  assert.equal(rows.length, packets.length);
  packets.forEach((packet, i) => {
    const row = rows[i]!;
    const [info, malformed, volume, sector, seqNum, dpFlags, barrier, setSize, dSize, cSize] = row;
    const what = `${packet.kind} ${i}: ${row.join(" ")}`;
    assert.ok(info!.endsWith(`[${packet.kind}]`), what);
    assert.equal(malformed, "", what);
    assert.equal(Number(volume) & 0xffff, packet.volume, what);
    if ("sector" in packet) assert.equal(Number(sector), packet.sector, what);
    if ("seqNum" in packet) assert.equal(Number(seqNum), packet.seqNum, what);
    if ("dpFlags" in packet) assert.equal(Number(dpFlags), packet.dpFlags, what);
    if ("setSize" in packet) assert.equal(Number(setSize), packet.setSize, what);
    if ("barrier" in packet) assert.equal(Number(barrier), packet.barrier, what);
    if ("dSize" in packet) assert.deepEqual([Number(dSize), Number(cSize)], [packet.dSize, packet.cSize], what);
  });
});

test("tshark: reads the packets of the old header formats too", (t) => {
  if (skipUnless(t, { programs: { tshark: "tshark" } })) return;
  for (const version of [95, 99]) {
    const dialect: Dialect = { version, features: 0, integrityDigestLength: 0 };
    const data = new Uint8Array(40_960);
    const packets: Packet[] = [
      { kind: "P_PING", volume: 0 },
      { kind: "P_DATA", volume: 0, sector: 8, idHigh: 1, idLow: 2, seqNum: 3, dpFlags: 0x102, data },
      { kind: "P_STATE", volume: 0, state: 0xc882 },
    ];
    const rows = dissect(packets, dialect);
    assert.deepEqual(
      rows.map((row) => row[0]!.replace(/.*\[(\w+)\]$/, "$1")),
      packets.map((packet) => packet.kind),
    );
    assert.deepEqual(
      rows.filter((row) => row[1] !== ""),
      [],
    );
  }
});
