// A whole session of a real pair, captured on the wire and judged by Wireshark's DRBD dissector.
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import type { NodeProcess } from "../lab/node.ts";
import { waitFor } from "../lab/process.ts";
import { EXPORT_URI, PAIR_NEEDS, Pair } from "../support/pair.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...PAIR_NEEDS,
  programs: { ...PAIR_NEEDS.programs, tshark: "tshark", dumpcap: "tshark", "qemu-io": "qemu-utils" },
};
const CAPTURE = "/run/session.pcapng";
/** MiB: the first sync comes at full speed, on a machine whose two processors may both be busy. */
const CAPTURE_BUFFER = "64";
/** Separates the messages of one frame in a field: a segment often carries several. */
const AGGREGATOR = "|";

/** Kinds that this session cannot do without; what is missing here was not sent, or not recognised. */
const EXPECTED = [
  "P_INITIAL_DATA",
  "P_INITIAL_META",
  "P_AUTH_CHALLENGE",
  "P_AUTH_RESPONSE",
  "P_PROTOCOL",
  "P_SYNC_PARAM89",
  "P_SIZES",
  "P_UUIDS",
  "P_STATE",
  "P_STATE_CHG_REPLY",
  "P_COMPRESSED_BITMAP",
  "P_SYNC_UUID",
  "P_RS_DATA_REQUEST",
  "P_RS_DATA_REPLY",
  "P_RS_WRITE_ACK",
  "P_DATA",
  "P_WRITE_ACK",
  "P_BARRIER",
  "P_BARRIER_ACK",
  "P_TRIM",
  "P_PING",
  "P_PING_ACK",
];

describe("a captured session, judged by tshark", () => {
  let pair: Pair;
  let capture: NodeProcess | undefined;
  const unavailable = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    pair = await Pair.make({ name: "paircap", diskBytes: 16 * 2 ** 20 });
  });
  after(async () => {
    await capture?.stop();
    await pair?.end();
  });

  const write = async (...commands: string[]): Promise<void> => {
    const args = ["qemu-io", "-f", "raw", EXPORT_URI, ...commands.flatMap((command) => ["-c", command])];
    assert.doesNotMatch(await pair.one.node.must(args), /failed|error/i);
  };

  test("connect with cram-hmac, first sync, writes, flush, discard, disconnect, reconnect, resync of the bitmap", async (t) => {
    if (unavailable(t)) return;
    const { one, two } = pair;
    capture = one.node.spawn([
      "dumpcap",
      "-q",
      "-B",
      CAPTURE_BUFFER,
      "-i",
      "eth0",
      "-f",
      "tcp port 7793",
      "-w",
      CAPTURE,
    ]);
    let said = "";
    capture.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    assert.ok(await waitFor(() => said.includes("File:"), 10_000), `dumpcap does not start: ${said}`);

    await pair.firstSync(["--attach", "none"]);
    await write(
      "write -P 1 0 64k",
      "write -P 2 3M 1M",
      "flush",
      "write -f -P 3 5M 4k",
      "discard 3M 512k",
      "write -z 6M 64k",
    );
    await two.blockrep("disconnect");
    await one.untilStatus("without its peer", ({ connection }) => connection === "WFConnection");
    await write("write -P 4 8M 256k", "write -P 5 1M 4k", "flush");
    await two.blockrep("connect");
    await pair.inSync();
    const { resyncedBytes } = (await two.status()).first;
    await write("write -P 6 12M 4k", "flush");
    const same = await pair.sameData();
    assert.equal(same.code, 0, same.stdout);
    assert.ok(resyncedBytes > 0, "the bitmap was resynced");
    await pair.each((side) => side.blockrep("down"));
    assert.equal(await capture.stop(), 0, said);
    assert.doesNotMatch(said, /dropped on interface[^\n]*: (?!\d+\/0\b)/, "frames were not captured");
  });

  test("no packet is malformed; every byte belongs to a packet of DRBD", async (t) => {
    if (unavailable(t)) return;
    const fields = ["tcp.len", "_ws.col.Protocol", "_ws.malformed", "_ws.expert.message", "_ws.col.Info"];
    const output = await pair.one.node.must([
      "tshark",
      "--enable-heuristic",
      "drbd_tcp",
      "-r",
      CAPTURE,
      "-T",
      "fields",
      "-E",
      `aggregator=${AGGREGATOR}`,
      ...fields.flatMap((field) => ["-e", field]),
    ]);
    const frames = output
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    const kinds = new Map<string, number>();
    for (const [length, protocol, malformed, expert, info] of frames) {
      const what = `${protocol} ${info}`;
      assert.equal(malformed, "", what);
      assert.doesNotMatch(expert ?? "", /not captured|out-of-order|malformed|unreassembled/i, what);
      if (Number(length) === 0) continue;
      for (const [, kind] of (info ?? "").matchAll(/\b(P_\w+)/g)) {
        kinds.set(kind as string, (kinds.get(kind as string) ?? 0) + 1);
      }
      // what is a piece of a longer packet shows as TCP until its last segment comes
      assert.ok(protocol === "DRBD" || protocol === "TCP", what);
    }
    t.diagnostic([...kinds].map(([kind, count]) => `${kind} ${count}`).join(", "));
    const absent = EXPECTED.filter((kind) => !kinds.has(kind));
    assert.deepEqual(absent, [], `seen: ${[...kinds.keys()].sort().join(" ")}`);
  });
});
