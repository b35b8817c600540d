import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Diagnostics, formatDiagnostic } from "@hacluster/blockrep/base";
import { checkAuthkeysMode, parseAuthkeys } from "@hacluster/heartbeat/unstable/config/authkeys";
import { ownNodeMissing, parseHaCf } from "@hacluster/heartbeat/unstable/config/ha-cf";
import { parseHaresources } from "@hacluster/heartbeat/unstable/config/haresources";

interface Verdict {
  readonly file: "ha.cf" | "authkeys" | "haresources" | "mode";
  readonly line?: string;
  readonly text?: string;
  readonly accepted: boolean;
}

const path = fileURLToPath(new URL("../../../test/vectors/heartbeat-config/verdicts.json", import.meta.url));
const verdicts = JSON.parse(readFileSync(path, "utf8")) as Verdict[];

const HA_CF = "keepalive 2\ndeadtime 30\ninitdead 120\nbcast eth0\nauto_failback on\nnode nodo1 nodo2\n";

/** Refused here, taken by Heartbeat: text that it misreads in silence, or that fails later, at the first takeover. */
const STRICTER = new Set([
  "keepalive 1.2.3",
  "udpport 70000",
  "debug x",
  "auth 2\n2 crc\nauth 1\n", // signs with a key that does not exist
  "nodo1 IPaddr2\n",
  "nodo1 10.0.0.300\n",
  "nodo1 dummy::A x\nnodo2 dummy::A y\n", // takes the second node's name for a resource
  "nodo1 a \\ # c\nnodo2 x\n", // takes the backslash for a resource
  "nodo1 a\r\n", // looks for a script whose name ends in a carriage return
]);

/** Taken here, refused by Heartbeat: what depends on the machine is a warning, and what its Debian build leaves out. */
const LOOSER = new Set([
  "bcast eth7",
  "serial /dev/absent",
  "respawn hacluster /nonexistent",
  "respawn nobody9 /usr/libexec/heartbeat/ipfail",
  "normalpoll 1",
  "crm_daemon_dir /usr/lib/x",
  "hbaping x",
  "auth 1\n1 sha256 K\n",
]);

function errorsOf(verdict: Verdict): string[] {
  const diagnostics = new Diagnostics();
  const text = verdict.text ?? "";
  if (verdict.file === "mode") checkAuthkeysMode(Number.parseInt(text, 8), "authkeys", diagnostics);
  const haCfText = verdict.line !== undefined ? `${HA_CF}${verdict.line}\n` : verdict.file === "ha.cf" ? text : HA_CF;
  const haCf = parseHaCf(haCfText, "ha.cf", diagnostics);
  ownNodeMissing(haCf, "nodo1", diagnostics);
  if (verdict.file === "authkeys") parseAuthkeys(text, "authkeys", diagnostics);
  if (verdict.file === "haresources") parseHaresources(text, "haresources", diagnostics, haCf.nodes);
  return diagnostics.items.filter((d) => d.severity === "error").map(formatDiagnostic);
}

test("heartbeat configuration: we accept and refuse what Heartbeat 3.0.6 accepts and refuses", () => {
  assert.ok(verdicts.length > 150);
  const met = new Set<string>();
  for (const verdict of verdicts) {
    const text = verdict.line ?? verdict.text ?? "";
    const deviates = verdict.accepted ? STRICTER : LOOSER;
    const errors = errorsOf(verdict);
    if (deviates.has(text)) met.add(text);
    assert.equal(
      errors.length === 0,
      deviates.has(text) ? !verdict.accepted : verdict.accepted,
      `${verdict.file}: ${JSON.stringify(text)}: Heartbeat ${verdict.accepted ? "accepts" : "refuses"}; ${errors.join("\n")}`,
    );
  }
  assert.deepEqual([...STRICTER, ...LOOSER].filter((text) => !met.has(text)), [], "deviations that are none");
});
