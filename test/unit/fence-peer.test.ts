import assert from "node:assert/strict";
import { test } from "node:test";
import type { ResourceSettings } from "@hacluster/blockrep";
import { withOwnPeerOutdater } from "hacluster/unstable/daemon/fence-peer";

function handler(command: string | undefined): string | undefined {
  const settings = { handlers: command === undefined ? {} : { "fence-peer": command } } as unknown as ResourceSettings;
  return withOwnPeerOutdater(settings).handlers["fence-peer"];
}

test("fence-peer: the old drbd-peer-outdater is our own command, with its options", () => {
  for (const old of [
    "/usr/lib/heartbeat/drbd-peer-outdater -t 5",
    " /usr/lib64/heartbeat/drbd-peer-outdater -t 5",
    "drbd-peer-outdater -t 5",
  ]) {
    assert.match(handler(old) ?? "", /^'[^']+' '[^']+\/bin\/hacluster\.js' outdate-peer -t 5$/);
  }
  assert.match(handler("/usr/lib/heartbeat/drbd-peer-outdater") ?? "", / outdate-peer$/);
});

test("fence-peer: every other handler stays what it is", () => {
  for (const other of [
    undefined,
    "/usr/lib/drbd/crm-fence-peer.sh",
    "/usr/local/bin/my-drbd-peer-outdater -t 5",
    "hacluster outdate-peer -t 5",
    "/usr/lib/heartbeat/drbd-peer-outdater-wrapper",
  ]) {
    assert.equal(handler(other), other);
  }
});
