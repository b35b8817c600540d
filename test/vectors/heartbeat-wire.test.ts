import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { inflateSync } from "node:zlib";
import type { SigningKeys } from "@hacluster/heartbeat/unstable/wire/auth";
import { type DecodedMessage, decodeDatagram, encodeMessage } from "@hacluster/heartbeat/unstable/wire/codec";
import type { Inflate } from "@hacluster/heartbeat/unstable/wire/compression";
import { Refusal } from "@hacluster/heartbeat/unstable/wire/refusal";
import { readPcap } from "../support/pcap.ts";

const folder = fileURLToPath(new URL("../../../test/vectors/heartbeat", import.meta.url));
const key = (method: "crc" | "md5" | "sha1", text = "") => ({ method, key: Buffer.from(text, "latin1") });
const inflate: Inflate = (bytes, maxBytes) => inflateSync(bytes, { maxOutputLength: maxBytes });

/** Keys of all ordinary scenarios; `active` as the sender had it. */
const keysWith = (active: number): SigningKeys => ({
  active,
  keys: new Map([
    [1, key("crc")],
    [2, key("sha1", "HI!")],
    [3, key("md5", "Hello!")],
  ]),
});
const TWO_KEYS: SigningKeys = {
  active: 1,
  keys: new Map([
    [1, key("sha1", "keyA")],
    [2, key("sha1", "keyB")],
  ]),
};
const TWO_METHODS: SigningKeys = {
  active: 1,
  keys: new Map([
    [1, key("crc")],
    [2, key("sha1", "keyB")],
  ]),
};

function scenarioKeys(scenario: string): SigningKeys {
  if (scenario === "auth-two-keys-different-index") return TWO_KEYS;
  if (scenario === "auth-two-methods-different-index") return TWO_METHODS;
  return keysWith(1);
}

function accepted(bytes: Uint8Array, keys: SigningKeys, what: string): DecodedMessage {
  const decoded = decodeDatagram(bytes, keys, { inflate });
  assert.ok(!("refusal" in decoded), `${what}: ${"refusal" in decoded ? decoded.refusal.detail : ""}`);
  return decoded;
}

function assertSameBytes(bytes: Uint8Array, decoded: DecodedMessage, keys: SigningKeys, what: string): void {
  const again = encodeMessage(
    decoded.message,
    { ...keys, active: decoded.keyIndex },
    decoded.innerAuth ? "classic" : "netstring",
  );
  assert.equal(Buffer.from(again).toString("latin1"), Buffer.from(bytes).toString("latin1"), what);
}

test("heartbeat payloads: each kind of message decodes, verifies and re-encodes byte for byte", () => {
  const index = readFileSync(join(folder, "payloads/INDEX.tsv"), "utf8").trim().split("\n").slice(1);
  assert.ok(index.length > 60);
  for (const line of index) {
    const [file, , method, , size, fields] = line.split("\t") as [string, string, string, string, string, string];
    const bytes = readFileSync(join(folder, "payloads", file));
    assert.equal(bytes.length, Number(size));
    const keys = keysWith({ crc: 1, sha1: 2, md5: 3 }[method] ?? 0);
    const decoded = accepted(bytes, keys, file);
    assert.equal(decoded.keyIndex, keys.active, file);
    assert.equal(decoded.innerAuth, !file.includes("netstring-msgfmt"), file);
    if (file.startsWith("compressed")) continue;
    const shown = decoded.message.fields
      .filter((f) => f.name !== "ld" && f.name !== "ttl")
      .map((f) => (f.type === 1 ? `(1)${f.name}=${Buffer.from(f.value).toString("hex")}` : `${f.name}=${f.value}`));
    assert.equal(shown.join(" "), fields, file);
    assertSameBytes(bytes, decoded, keys, file);
  }
});

test("heartbeat captures: every datagram of every scenario decodes and re-encodes byte for byte", () => {
  let count = 0;
  for (const scenario of readdirSync(folder)) {
    if (scenario === "payloads" || scenario === "README.md") continue;
    const keys = scenarioKeys(scenario);
    for (const datagram of readPcap(readFileSync(join(folder, scenario, "capture.pcap")))) {
      // ICMP holds other echoes than those of Heartbeat
      if (datagram.protocol === 1 && datagram.payload[0] !== 0x23) continue;
      const what = `${scenario} at ${datagram.timeMs}`;
      const decoded = accepted(datagram.payload, keys, what);
      if (!isCompressed(datagram.payload)) assertSameBytes(datagram.payload, decoded, keys, what);
      count++;
    }
  }
  assert.ok(count > 6000, `${count} datagrams`);
});

function isCompressed(bytes: Uint8Array): boolean {
  return Buffer.from(bytes).includes("_compressed_payload=");
}

test("heartbeat captures: what is signed with another key is refused, and says so", () => {
  const crcOnly: SigningKeys = { active: 1, keys: new Map([[1, key("crc")]]) };
  const codes = new Map<string, number>();
  for (const datagram of readPcap(readFileSync(join(folder, "auth-mismatch-crc-vs-sha1/capture.pcap")))) {
    if (datagram.protocol !== 17) continue;
    const decoded = decodeDatagram(datagram.payload, crcOnly);
    const code = "refusal" in decoded ? `${datagram.source} ${decoded.refusal.code}` : `${datagram.source} accepted`;
    codes.set(code, (codes.get(code) ?? 0) + 1);
  }
  assert.deepEqual([...codes.keys()].sort(), ["192.168.0.27 accepted", "192.168.0.28 key-unknown"]);

  const sha1 = readFileSync(join(folder, "payloads/status.active.sha1.bin"));
  const other: SigningKeys = { active: 2, keys: new Map([[2, key("sha1", "hi!")]]) };
  const refused = decodeDatagram(sha1, other);
  assert.ok("refusal" in refused && refused.refusal instanceof Refusal);
  assert.equal(refused.refusal.code, "signature");
  const wrongMethod = decodeDatagram(sha1, { active: 2, keys: new Map([[2, key("md5", "HI!")]]) });
  assert.ok("refusal" in wrongMethod);
  assert.equal(wrongMethod.refusal.detail, "signature of key 2 (md5) does not match, it looks like sha1");
});

test("heartbeat payloads: one changed bit anywhere is refused", () => {
  for (const file of ["status.active.crc.bin", "starting.crc.bin", "status.active.md5.bin", "status.active.sha1.bin"]) {
    const bytes = readFileSync(join(folder, "payloads", file));
    for (let at = 0; at < bytes.length; at++) {
      const changed = Uint8Array.from(bytes);
      changed[at] = changed[at]! ^ 1;
      assert.ok("refusal" in decodeDatagram(changed, keysWith(1)), `${file} byte ${at}`);
      assert.ok("refusal" in decodeDatagram(bytes.subarray(0, at), keysWith(1)), `${file} cut to ${at}`);
    }
  }
});
