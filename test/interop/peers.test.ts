import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { DRBD_PEER_NEEDS, DrbdPeer } from "../lab/drbd-peer.ts";
import { HEARTBEAT_PEER_NEEDS, HeartbeatPeer } from "../lab/heartbeat-peer.ts";
import { Lab } from "../lab/lab.ts";
import { skipUnless } from "../support/requires.ts";

const RESOURCE = `resource r0 {
  on nodo1 { device /dev/drbd0; disk /dev/sda6; address 192.168.0.27:7793; meta-disk internal; }
  on nodo2 { device /dev/drbd0; disk /dev/sda6; address 192.168.0.28:7793; meta-disk internal; }
}
`;
const HA_CF = `debugfile /var/log/ha-debug
logfile /var/log/ha-log
keepalive 200ms
deadtime 2
warntime 1
initdead 4
bcast eth0
auto_failback on
node nodo1
node nodo2
`;

describe("the real programs as peers", () => {
  test("peers: kernel DRBD in a machine attaches, keeps its disk through a power loss", async (t) => {
    if (skipUnless(t, DRBD_PEER_NEEDS)) return;
    const lab = await Lab.up({ name: "peer", machines: ["nodo2"], client: false });
    try {
      const image = join(lab.images, "nodo2.img");
      const peer = await DrbdPeer.start(lab, "nodo2", {
        resource: RESOURCE,
        disk: "sda6",
        image,
        sizeBytes: 8 * 2 ** 20,
      });
      const { machine } = peer;
      const hello = await machine.exec(["sh", "-c", "cat; echo bad >&2; exit 3"], { input: "words\n" });
      assert.deepEqual([hello.code, hello.stdout, hello.stderr], [3, "words\n", "bad\n"]);
      assert.equal((await machine.exec(["sleep", "100"], { timeoutMs: 500 })).timedOut, true);
      assert.equal((await machine.must(["hostname"])).trim(), "nodo2");
      assert.equal((await lab.node("nodo1").exec(["ping", "-c1", "-W2", "nodo2"])).code, 0);
      // whatever root does inside, the host's files stay as they are
      const outcome = await machine.exec(["sh", "-c", "mount -o remount,rw / && touch /usr/lib/escaped"]);
      assert.notEqual(outcome.code, 0, "the machine could write to the host");

      await peer.createMd();
      await peer.up();
      await peer.waitFor("cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown", 10_000);
      assert.match(await peer.state(), /^version: 8\.4\.\d+ /);
      await machine.kill();
      await assert.rejects(machine.exec(["true"]), /nodo2 is off/);
      await peer.restart();
      await peer.up();
      await peer.waitFor("ds:Inconsistent/DUnknown", 10_000);
    } finally {
      await lab.down();
    }
  });

  test("peers: a real Heartbeat starts alone, becomes active, runs its resources, stops", async (t) => {
    if (skipUnless(t, HEARTBEAT_PEER_NEEDS)) return;
    const lab = await Lab.up({ name: "hb", nodes: ["nodo1"], client: false });
    try {
      const node = lab.node("nodo1");
      const heartbeat = await HeartbeatPeer.start(node, {
        haCf: HA_CF,
        authkeys: "auth 1\n1 crc\n",
        haresources: "nodo1 marker\n",
        scripts: { marker: MARKER },
      });
      await heartbeat.waitForStatus("nodo1", "active", 20_000);
      await heartbeat.waitForResources("all", 30_000);
      assert.equal((await node.exec(["test", "-e", "/run/marker"])).code, 0);
      await heartbeat.stop();
      assert.equal((await node.exec(["test", "-e", "/run/marker"])).code, 1);
    } finally {
      await lab.down();
    }
  });
});

const MARKER = `#!/bin/sh
case $1 in
start) touch /run/marker ;;
stop) rm -f /run/marker ;;
status) [ -e /run/marker ] && echo running || echo stopped ;;
esac
`;
