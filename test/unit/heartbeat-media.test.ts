import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { type TestContext, test } from "node:test";
import type { Medium } from "@hacluster/heartbeat/unstable/config/model";
import {
  broadcastOf,
  type InterfaceAddress,
  type MediaReport,
  MediaSet,
  type MediaSystem,
} from "@hacluster/heartbeat/unstable/drivers/media";

const at = { file: "ha.cf", line: 1, column: 1 };
const bcast = (name: string, port: number): Medium => ({ kind: "bcast", interface: name, port, at });
const ucast = (name: string, address: string, port: number): Medium => ({
  kind: "ucast",
  interface: name,
  address,
  port,
  at,
});

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return port;
}

/** Resolves when `condition` holds; looks every few milliseconds. */
async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 3000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

interface Node {
  readonly media: MediaSet;
  readonly received: [link: string, text: string][];
  readonly reports: MediaReport[];
  /** Resolves when `count` datagrams are there. */
  got(count: number): Promise<void>;
}

/** A node whose interfaces are addresses of the loopback network. */
async function node(
  t: TestContext,
  media: Medium[],
  interfaces: Record<string, InterfaceAddress[]>,
  resolve: MediaSystem["resolve"] = async (host) => host,
): Promise<Node> {
  const received: [string, string][] = [];
  const reports: MediaReport[] = [];
  let check = (): void => {};
  const set = await MediaSet.open(
    media,
    {
      datagram: (link, bytes) => {
        received.push([link, Buffer.from(bytes).toString()]);
        check();
      },
      report: (report) => {
        reports.push(report);
        check();
      },
    },
    { addresses: (name) => interfaces[name] ?? [], resolve, nowMs: () => performance.now() },
  );
  t.after(() => set.close());
  return {
    media: set,
    received,
    reports,
    got: (count) =>
      new Promise((done, reject) => {
        const timer = setTimeout(() => reject(new Error(`${received.length} of ${count} datagrams`)), 3000);
        check = () => {
          if (received.length < count) return;
          clearTimeout(timer);
          done();
        };
        check();
      }),
  };
}

const lo = (last: number): InterfaceAddress[] => [{ address: `127.77.0.${last}`, netmask: "255.255.255.0" }];

test("media: broadcast address of an interface", () => {
  assert.equal(broadcastOf({ address: "192.168.0.27", netmask: "255.255.255.0" }), "192.168.0.255");
  assert.equal(broadcastOf({ address: "10.1.2.3", netmask: "255.255.240.0" }), "10.1.15.255");
  assert.equal(broadcastOf({ address: "10.1.2.3", netmask: "255.255.255.255" }), undefined);
  assert.equal(broadcastOf({ address: "10.1.2.3", netmask: "255.255.255.254" }), undefined);
});

test("media: ucast between two nodes, and one datagram per message", async (t) => {
  const port = await freePort();
  const a = await node(t, [ucast("eth0", "127.77.0.2", port)], { eth0: lo(1) });
  const b = await node(t, [ucast("eth0", "127.77.0.1", port)], { eth0: lo(2) });
  a.media.send(Buffer.from("hello"));
  a.media.send(Buffer.from("again"));
  await b.got(2);
  assert.deepEqual(b.received, [
    ["eth0", "hello"],
    ["eth0", "again"],
  ]);
  assert.deepEqual(a.received, []);
  assert.equal(a.media.counters()[0]?.sent, 2);
  assert.deepEqual(
    a.reports.map((r) => r.kind),
    ["open"],
  );
});

test("media: ucast to ourselves does not come back; identical files on both nodes are fine", async (t) => {
  const port = await freePort();
  const media = [ucast("eth0", "127.77.0.1", port), ucast("eth0", "127.77.0.2", port)];
  const a = await node(t, media, { eth0: lo(1) });
  const b = await node(t, media, { eth0: lo(2) });
  a.media.send(Buffer.from("x"));
  await b.got(1);
  b.media.send(Buffer.from("y"));
  await a.got(1);
  assert.deepEqual([a.received, b.received], [[["eth0", "y"]], [["eth0", "x"]]]);
});

test("media: two interfaces on one port are two links", async (t) => {
  const port = await freePort();
  const media = (last: number): Medium[] => [
    ucast("eth0", `127.77.0.${last}`, port),
    ucast("eth1", `127.78.0.${last}`, port),
  ];
  const second = (last: number): InterfaceAddress[] => [{ address: `127.78.0.${last}`, netmask: "255.255.255.0" }];
  const a = await node(t, media(2), { eth0: lo(1), eth1: second(1) });
  const b = await node(t, media(1), { eth0: lo(2), eth1: second(2) });
  a.media.send(Buffer.from("x"));
  await b.got(2);
  assert.deepEqual(b.received.map(([link]) => link).sort(), ["eth0", "eth1"]);
});

test("media: bcast reaches the others and not ourselves", async (t) => {
  const port = await freePort();
  // 127.255.255.255 is the one broadcast address that every machine has
  const whole = (last: number): InterfaceAddress[] => [{ address: `127.0.0.${last}`, netmask: "255.0.0.0" }];
  const a = await node(t, [bcast("lo", port)], { lo: whole(11) });
  const b = await node(t, [bcast("lo", port)], { lo: whole(12) });
  a.media.send(Buffer.from("x"));
  await b.got(1);
  b.media.send(Buffer.from("y"));
  await a.got(1);
  assert.deepEqual([a.received, b.received], [[["lo", "y"]], [["lo", "x"]]]);
});

test("media: an absent interface is waited for, and used when it appears", async (t) => {
  const port = await freePort();
  const interfaces: Record<string, InterfaceAddress[]> = {};
  const a = await node(t, [ucast("eth0", "127.77.0.2", port)], interfaces);
  a.media.send(Buffer.from("lost"));
  assert.deepEqual(
    a.reports.map((r) => r.kind === "waiting" && r.reason),
    ["interface eth0 is absent or has no IPv4 address"],
  );
  const b = await node(t, [ucast("eth0", "127.77.0.1", port)], { eth0: lo(2) });
  interfaces["eth0"] = lo(1);
  await until(() => a.reports.some((r) => r.kind === "open"), "the interface");
  a.media.send(Buffer.from("x"));
  await b.got(1);
  assert.deepEqual(b.received, [["eth0", "x"]]);
});

test("media: failures to send are counted, reported once, and end", async (t) => {
  const port = await freePort();
  const a = await node(t, [ucast("eth0", "127.77.0.2", port)], { eth0: lo(1) });
  // larger than UDP carries
  for (let i = 0; i < 3; i++) a.media.send(new Uint8Array(70_000));
  await until(() => a.media.counters()[0]?.sendFailures === 3, "three failures");
  a.media.send(Buffer.from("fits"));
  await until(() => a.media.counters()[0]?.sent === 1, "a datagram that fits");
  assert.deepEqual(
    a.reports.map((r) => r.kind),
    ["open", "send-failed", "send-recovered"],
  );
});

test("media: a host name that does not resolve is waited for; serial is said to be unsupported", async (t) => {
  const media: Medium[] = [ucast("eth0", "peer", 1), { kind: "serial", device: "/dev/ttyS0", baud: 19200, at }];
  const a = await node(t, media, { eth0: lo(1) }, () => Promise.reject(new Error("getaddrinfo ENOTFOUND peer")));
  assert.deepEqual(
    a.reports.filter((r) => !r.medium.startsWith("receive")).map((r) => [r.kind, r.link]),
    [
      ["unsupported", "/dev/ttyS0"],
      ["waiting", "eth0"],
    ],
  );
});

test("media: mcast with loop on one machine", async (t) => {
  const port = await freePort();
  const mcast: Medium = { kind: "mcast", interface: "lo", group: "239.77.0.1", port, ttl: 0, loop: true, at };
  const a = await node(t, [mcast], { lo: [{ address: "127.0.0.1", netmask: "255.0.0.0" }] });
  const b = await node(t, [mcast], { lo: [{ address: "127.0.0.1", netmask: "255.0.0.0" }] });
  a.media.send(Buffer.from("x"));
  await b.got(1);
  assert.deepEqual([a.received, b.received], [[], [["lo", "x"]]]);
});
