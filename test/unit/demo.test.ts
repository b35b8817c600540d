import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { filesFor } from "../demo/configuration.ts";
import { parseOptions, UsageError } from "../demo/options.ts";
import { check, RECORD_BYTES, record } from "../demo/records.ts";
import { figures, oneLine, summary } from "../demo/report.ts";

test("demo: options", () => {
  const plain = { classic: false, keep: false, runs: 1, json: false, help: false, remove: false };
  assert.deepEqual(parseOptions([]), plain);
  assert.deepEqual(parseOptions(["--runs", "10", "--json"]), { ...plain, runs: 10, json: true });
  assert.deepEqual(parseOptions(["--runs=3", "--classic", "--keep"]), { ...plain, runs: 3, classic: true, keep: true });
  for (const wrong of [["--runs"], ["--runs", "0"], ["--runs", "x"], ["--runs", "1e9"], ["-v"], ["10"]]) {
    assert.throws(() => parseOptions(wrong), UsageError, wrong.join(" "));
  }
});

test("demo: every record is its own, and a missing, changed or cut one is found", () => {
  const good = Buffer.from([0, 1, 2, 3].map((n) => record(n, "abc")).join(""), "latin1");
  assert.equal(good.length, 4 * RECORD_BYTES);
  assert.deepEqual(check(good, "abc", 3), { records: 4, lost: 0, firstLost: null });
  assert.deepEqual(check(good, "abc", 1), { records: 4, lost: 0, firstLost: null });
  assert.deepEqual(check(good, "abc", -1), { records: 4, lost: 0, firstLost: null });
  assert.deepEqual(check(good, "abc", 5), { records: 4, lost: 2, firstLost: 4 });
  assert.deepEqual(check(good, "other", 3), { records: 4, lost: 4, firstLost: 0 });
  assert.deepEqual(check(good.subarray(0, 3 * RECORD_BYTES + 7), "abc", 3), { records: 3, lost: 1, firstLost: 3 });
  const torn = Buffer.from(good);
  torn[RECORD_BYTES + 20] = 0;
  assert.deepEqual(check(torn, "abc", 3), { records: 4, lost: 1, firstLost: 1 });
});

test("demo: the last line takes the maxima of several runs and sums what was lost", () => {
  const runs = [
    { failoverMs: 900, failbackMs: 1500, resyncBytes: 10, acknowledged: 5, lost: 0 },
    { failoverMs: 800, failbackMs: 1700, resyncBytes: 30, acknowledged: 6, lost: 2 },
  ];
  assert.equal(figures(summary(runs)), "failover_ms=900 failback_ms=1700 resync_bytes=30 acknowledged=11 lost=2");
  assert.equal(oneLine("why\n  it failed\n"), "why it failed");
});

test("demo: short times are written over the user's, nodo2 gets its peer's address, and classic changes nothing else", () => {
  const folder = mkdtempSync(join(tmpdir(), "demo-"));
  try {
    mkdirSync(join(folder, "ha.d"));
    const haCf = "keepalive 2\ndeadtime 30\nwarntime 10\ninitdead 120\nucast eth0 192.168.0.28\n";
    const resource =
      "resource r0 {\nstartup {\n    degr-wfc-timeout 60;\n}\nnet {\n    timeout 60;\n    connect-int 12;\n    ping-int 12;\n    ping-timeout 9;\n}\n}\n";
    writeFileSync(join(folder, "ha.d/ha.cf"), haCf);
    writeFileSync(join(folder, "ha.d/authkeys"), "auth 1\n1 crc\n");
    writeFileSync(join(folder, "r0.res"), resource);
    const text = (node: "nodo1" | "nodo2", classic: boolean): string[] =>
      filesFor(node, classic, folder).map((file) => file.text);
    assert.deepEqual(text("nodo1", true), ["auth 1\n1 crc\n", haCf, resource]);
    assert.deepEqual(text("nodo2", true), ["auth 1\n1 crc\n", haCf.replace(".28", ".27"), resource]);
    assert.equal(
      text("nodo1", false)[1],
      "keepalive 100ms\ndeadtime 500ms\nwarntime 250ms\ninitdead 5\nucast eth0 192.168.0.28\n",
    );
    assert.match(
      text("nodo1", false)[2] ?? "",
      /degr-wfc-timeout 60;[\s\S]*\n {4}timeout 20;\n {4}connect-int 1;\n {4}ping-int 1;\n {4}ping-timeout 2;/,
    );
    assert.deepEqual(
      filesFor("nodo1", false, folder).map((file) => file.mode),
      [0o600, 0o644, 0o644],
    );
    writeFileSync(join(folder, "ha.d/ha.cf"), "deadtime 30\n");
    assert.throws(() => filesFor("nodo1", false, folder), /ha\.cf: nothing matches .*keepalive/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
