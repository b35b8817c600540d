import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ErrorCode, Prng } from "@hacluster/blockrep/base";
import type { BlockStore } from "@hacluster/blockrep/unstable/drivers/block-store";
import { DelayStore, ErrorStore } from "@hacluster/blockrep/unstable/drivers/faulty-store";
import { MemoryStore } from "@hacluster/blockrep/unstable/drivers/memory-store";
import { NBD_CONNECTIONS_MAX, NbdServer } from "@hacluster/blockrep/unstable/nbd/server";
import { StoreBackend } from "@hacluster/blockrep/unstable/nbd/store-backend";
import { fields, option, RawNbdClient, request } from "../support/nbd-client.ts";

const SIZE = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), "hacluster-nbds-"));
after(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;

interface Served {
  readonly server: NbdServer;
  readonly path: string;
  readonly users: number[];
  readonly refused: string[];
}

async function withServer(
  store: BlockStore,
  body: (served: Served) => Promise<void>,
  options: { readOnly?: boolean; receiveInPlace?: boolean } = {},
): Promise<void> {
  const path = join(folder, `s${++count}.sock`);
  const users: number[] = [];
  const refused: string[] = [];
  const server = await NbdServer.listen({
    path,
    exports: [{ name: "r0", backend: new StoreBackend(store, options) }],
    onConnectionsChanged: (n) => users.push(n),
    onRefused: (reason) => refused.push(reason),
    receiveInPlace: options.receiveInPlace ?? true,
  });
  try {
    await body({ server, path, users, refused });
  } finally {
    await server.close(100);
    assert.equal(existsSync(path), false, "the socket is removed");
    assert.equal(server.connections, 0);
  }
}

test("nbd server: the socket is private, a stale one is replaced, a live one refused", async () => {
  await withServer(new MemoryStore(SIZE), async ({ path }) => {
    assert.equal(statSync(path).mode & 0o777, 0o600);
    await assert.rejects(NbdServer.listen({ path, exports: [] }), { code: ErrorCode.daemonRunning });
  });
  const stale = join(folder, "stale.sock");
  const dead = createServer().listen(stale);
  await turn();
  // closing removes the file; a killed process leaves it, which a link made beforehand imitates
  const { linkSync } = await import("node:fs");
  linkSync(stale, `${stale}.2`);
  await new Promise((resolve) => dead.close(resolve));
  const server = await NbdServer.listen({ path: `${stale}.2`, exports: [] });
  await server.close();
  writeFileSync(stale, "precious");
  await assert.rejects(NbdServer.listen({ path: stale, exports: [] }), { code: ErrorCode.storeIo });
  await assert.rejects(NbdServer.listen({ path: join(folder, "none", "x.sock"), exports: [] }), {
    code: ErrorCode.storeIo,
    message: /folder/,
  });
});

test("nbd server: reads, writes, flush and zeroes, answered to the cookie", async () => {
  const store = new MemoryStore(SIZE);
  await withServer(store, async ({ path, users }) => {
    const client = await RawNbdClient.begin(path);
    const data = new Prng(1).bytes(4096);
    client.send(Buffer.concat([request(1, 11, 512, 4096, { data }), request(0, 12, 512, 4096), request(3, 13, 0, 0)]));
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 11 });
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 12 });
    assert.deepEqual(new Uint8Array(await client.read(4096)), data);
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 13 });
    assert.equal(store.unflushedSectors, 0);
    client.send(request(6, 14, 512, 512, { flags: 1 }));
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 14 });
    assert.deepEqual(store.bytes.subarray(512, 1024), new Uint8Array(512));
    assert.equal(store.unflushedSectors, 0, "FUA flushed it");
    client.send(request(2, 15, 0, 0));
    await client.hungUp();
    while (users.at(-1) !== 0) await turn();
    assert.deepEqual(users, [1, 0]);
  });
});

for (const receiveInPlace of [true, false]) {
  const how = receiveInPlace ? "" : ", by data events";
  test(`nbd server: requests cut anywhere arrive whole${how}`, async () => {
    const store = new MemoryStore(SIZE);
    await withServer(
      store,
      async ({ path }) => {
        const client = await RawNbdClient.begin(path, { structured: true });
        const prng = new Prng(5);
        const expected = new Uint8Array(SIZE);
        const stream: Uint8Array[] = [];
        const writes = 60;
        for (let i = 0; i < writes; i++) {
          const length = 512 * prng.between(1, i % 7 === 0 ? 1400 : 16);
          const offset = 512 * prng.below((SIZE - length) / 512);
          const data = prng.bytes(length);
          expected.set(data, offset);
          stream.push(request(1, i, offset, length, { data }));
        }
        const bytes = Buffer.concat(stream);
        for (let at = 0; at < bytes.length; ) {
          const length = prng.between(1, prng.chance(1, 3) ? 40 : 300_000);
          client.send(bytes.subarray(at, at + length));
          at += length;
          if (prng.chance(1, 2)) await turn();
        }
        for (let i = 0; i < writes; i++) assert.deepEqual(await client.simple(), { errno: 0, cookie: i });
        client.send(request(0, 99, 0, SIZE));
        const header = await client.read(28);
        assert.deepEqual(header.subarray(0, 8), fields([32, 0x668e33ef], [16, 1], [16, 1]));
        assert.equal(Buffer.compare(await client.read(SIZE), expected), 0);
        assert.equal(Buffer.compare(store.bytes, expected), 0);
        await client.end();
      },
      { receiveInPlace },
    );
  });
}

test("nbd server: refused requests are answered, their payload is skipped, and the next one works", async () => {
  const store = new MemoryStore(SIZE);
  await withServer(store, async ({ path }) => {
    const client = await RawNbdClient.begin(path);
    const payload = Buffer.alloc(700 * 1024, 0xee);
    client.send(
      Buffer.concat([
        request(1, 1, SIZE - 512, payload.length, { data: payload }),
        request(0, 2, SIZE, 512),
        request(5, 3, 0, 512),
        request(77, 4, 0, 0),
        request(1, 5, 0, 512, { data: Buffer.alloc(512, 1) }),
      ]),
    );
    assert.deepEqual(await client.simple(), { errno: 28, cookie: 1 });
    assert.deepEqual(await client.simple(), { errno: 22, cookie: 2 });
    assert.deepEqual(await client.simple(), { errno: 22, cookie: 3 });
    assert.deepEqual(await client.simple(), { errno: 22, cookie: 4 });
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 5 });
    assert.ok(!store.bytes.includes(0xee));
    await client.end();
  });
  await withServer(
    new MemoryStore(SIZE),
    async ({ path }) => {
      const client = await RawNbdClient.begin(path);
      client.send(request(1, 1, 0, 512, { data: Buffer.alloc(512, 1) }));
      assert.deepEqual(await client.simple(), { errno: 1, cookie: 1 });
      await client.end();
    },
    { readOnly: true },
  );
});

test("nbd server: malformed clients are dropped with a reason, and others do not notice", async () => {
  await withServer(new MemoryStore(SIZE), async ({ path, refused }) => {
    const good = await RawNbdClient.begin(path);
    const bad: readonly (readonly [Buffer, RegExp])[] = [
      [Buffer.alloc(28, 0xff), /magic/],
      [request(1, 1, 0, 64 * 1024 * 1024), /67108864 bytes/],
    ];
    for (const [bytes, reason] of bad) {
      const client = await RawNbdClient.begin(path);
      client.send(bytes);
      await client.hungUp();
      assert.match(refused.at(-1) ?? "", reason);
    }
    for (const bytes of [
      Buffer.from("GET / HTTP/1.0\r\n\r\n"),
      Buffer.concat([fields([32, 3]), option(1, Buffer.from("x"))]),
    ]) {
      const client = await RawNbdClient.open(path);
      client.send(bytes);
      await client.hungUp();
    }
    // gone in the middle of a write, in the middle of the handshake, and with a read under way
    const half = await RawNbdClient.begin(path);
    half.send(request(1, 1, 0, 4096, { data: Buffer.alloc(100) }));
    await turn();
    await half.end();
    const silent = await RawNbdClient.open(path);
    await silent.end();
    const reader = await RawNbdClient.begin(path);
    reader.send(request(0, 1, 0, SIZE));
    await reader.end();

    good.send(request(3, 7, 0, 0));
    assert.deepEqual(await good.simple(), { errno: 0, cookie: 7 });
    await good.end();
  });
});

test("nbd server: random bytes never end it", async () => {
  await withServer(new MemoryStore(SIZE), async ({ path }) => {
    const prng = new Prng(42);
    for (let round = 0; round < 60; round++) {
      const client = prng.chance(1, 2) ? await RawNbdClient.open(path) : await RawNbdClient.begin(path);
      const head = prng.pick([Buffer.alloc(0), fields([32, 3]), fields([32, 3], "IHAVEOPT"), fields([32, 0x25609513])]);
      client.send(Buffer.concat([head, prng.bytes(prng.between(1, 300))]));
      await turn();
      await client.end();
    }
    const client = await RawNbdClient.begin(path);
    client.send(request(3, 7, 0, 0));
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 7 });
    await client.end();
  });
});

test("nbd server: a client that takes no replies is held back and bounded, then gets them all", async () => {
  const store = new MemoryStore(SIZE);
  store.bytes.set(new Prng(3).bytes(SIZE));
  await withServer(store, async ({ path }) => {
    const client = await RawNbdClient.begin(path);
    client.socket.pause();
    const reads = 100;
    for (let i = 0; i < reads; i++) client.send(request(0, i, 0, SIZE));
    for (let i = 0; i < 20; i++) await turn();
    const before = process.memoryUsage().arrayBuffers;
    assert.ok(before < 80 * SIZE, `${before} bytes for replies nobody takes`);
    client.socket.resume();
    for (let i = 0; i < reads; i++) {
      assert.deepEqual(await client.simple(), { errno: 0, cookie: i });
      assert.equal(Buffer.compare(await client.read(SIZE), store.bytes), 0);
    }
    await client.end();
  });
});

for (const receiveInPlace of [true, false]) {
  const how = receiveInPlace ? "" : ", by data events";
  test(`nbd server: a stalled disk holds back more requests than the limit, and loses none${how}`, async () => {
    const memory = new MemoryStore(SIZE);
    const store = new DelayStore(memory, 0);
    await withServer(
      store,
      async ({ path }) => {
        store.held = true;
        const client = await RawNbdClient.begin(path);
        const writes = 3000;
        const bytes: Buffer[] = [];
        for (let i = 0; i < writes; i++)
          bytes.push(request(1, i, (i % 2000) * 512, 512, { data: Buffer.alloc(512, i) }));
        client.send(Buffer.concat(bytes));
        for (let i = 0; i < 50; i++) await turn();
        store.held = false;
        const cookies = new Set<number>();
        for (let i = 0; i < writes; i++) {
          const { errno, cookie } = await client.simple();
          assert.equal(errno, 0);
          cookies.add(cookie);
        }
        assert.equal(cookies.size, writes);
        await client.end();
      },
      { receiveInPlace },
    );
  });
}

test("nbd server: the disk's errors reach the client", async () => {
  const store = new ErrorStore(new MemoryStore(SIZE), () => true);
  await withServer(store, async ({ path }) => {
    const client = await RawNbdClient.begin(path);
    client.send(
      Buffer.concat([request(1, 1, 0, 512, { data: Buffer.alloc(512) }), request(0, 2, 0, 512), request(3, 3, 0, 0)]),
    );
    for (const cookie of [1, 2, 3]) assert.deepEqual(await client.simple(), { errno: 5, cookie });
    const structured = await RawNbdClient.begin(path, { structured: true });
    structured.send(request(0, 9, 0, 512));
    const chunk = await structured.read(26);
    assert.deepEqual(chunk, fields([32, 0x668e33ef], [16, 1], [16, 0x8001], [64, 9], [32, 6], [32, 5], [16, 0]));
    await client.end();
    await structured.end();
  });
});

test("nbd server: closing answers what is under way, then disconnects", async () => {
  const store = new DelayStore(new MemoryStore(SIZE), 20);
  await withServer(store, async ({ server, path, users }) => {
    const client = await RawNbdClient.begin(path);
    client.send(request(1, 1, 0, 512, { data: Buffer.alloc(512, 1) }));
    for (let i = 0; i < 3; i++) await turn();
    const closing = server.close();
    assert.deepEqual(await client.simple(), { errno: 0, cookie: 1 });
    await client.hungUp();
    await closing;
    assert.deepEqual(users, [1, 0]);
  });
});

test("nbd server: more clients than the limit are turned away", async () => {
  await withServer(new MemoryStore(SIZE), async ({ path, refused }) => {
    const clients: RawNbdClient[] = [];
    for (let i = 0; i < NBD_CONNECTIONS_MAX; i++) clients.push(await RawNbdClient.begin(path));
    const late = await RawNbdClient.open(path);
    await late.hungUp();
    assert.match(refused.at(-1) ?? "", /more than 16 clients/);
    for (const client of clients) await client.end();
  });
});

test("nbd server: a disk that never answers does not keep it from closing", async () => {
  const store = new DelayStore(new MemoryStore(SIZE), 0);
  await withServer(store, async ({ server, path }) => {
    store.held = true;
    const client = await RawNbdClient.begin(path);
    client.send(request(1, 1, 0, 512, { data: Buffer.alloc(512, 1) }));
    for (let i = 0; i < 3; i++) await turn();
    await server.close(30);
    await client.hungUp();
    assert.equal(server.connections, 1, "the request under way still counts");
    store.held = false;
    while (server.connections > 0) await turn();
  });
});
