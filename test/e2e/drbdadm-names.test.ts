// The verbs for scripts (sh-dev and the like), beside drbdadm-84's for the same file.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Result, run } from "../lab/process.ts";
import { NAMES_CONF } from "../support/drbd-recordings.ts";
import { DRBDADM_84 } from "../support/drbdadm.ts";
import { HACLUSTER } from "../support/pair.ts";
import { skipUnless } from "../support/requires.ts";

const NEEDS = { root: true, namespaces: true, files: { [DRBDADM_84]: "Debian package drbd-utils" } };
const COMMANDS = [
  "sh-nop",
  "sh-resources",
  ...["sh-resource", "sh-dev", "sh-minor", "sh-ll-dev", "sh-md-dev", "sh-md-idx", "sh-ip", "sh-b-pri"].map(
    (verb) => `${verb} all`,
  ),
  "sh-dev r0/1",
  "sh-dev r1 r0",
  "sh-dev nope",
  "sh-dev r0/7",
  "sh-resource r0/1",
  "sh-udev r0",
  "sh-udev r0/1",
  "sh-udev r1",
];

/** Runs all of them as host alpha in one namespace: `=== COMMAND`, what it prints, `--- CODE`. */
function asAlpha(program: string): Promise<Result> {
  const lines = COMMANDS.map((command) => `echo "=== ${command}"; ${program} ${command} 2>&-; echo "--- $?"`);
  return run(["unshare", "--uts", "sh", "-c", `hostname alpha; ${lines.join("\n")}`], { timeoutMs: 180_000 });
}

test("drbdadm: the verbs for scripts print the same, with the same exit codes", async (t) => {
  if (skipUnless(t, NEEDS)) return;
  const theirs = await asAlpha(`DRBD_DONT_WARN_ON_VERSION_MISMATCH=1 ${DRBDADM_84} -c ${NAMES_CONF}`);
  const ours = await asAlpha(`${process.execPath} ${HACLUSTER} blockrep -c ${NAMES_CONF}`);
  assert.equal(ours.stdout, theirs.stdout);
  assert.match(ours.stdout, /^\/dev\/drbd5$/m);
});
