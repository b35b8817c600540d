import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ErrorCode, type HaError } from "@hacluster/blockrep/base";
import { StoreRange } from "@hacluster/blockrep/unstable/drivers/block-store";
import { DelayStore, ErrorStore, TornStore } from "@hacluster/blockrep/unstable/drivers/faulty-store";
import { lockFile, seekEnd } from "@hacluster/blockrep/unstable/drivers/file-lock";
import { FileStore } from "@hacluster/blockrep/unstable/drivers/file-store";
import { MemoryStore } from "@hacluster/blockrep/unstable/drivers/memory-store";
import { ask, pattern } from "../conformance/block-store.ts";
import { skipUnless } from "../support/requires.ts";

const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), "hacluster-file-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function disk(name: string, sizeBytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

test("file store: what cannot be opened says why and what to do", async () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    [join(folder, "none"), ErrorCode.storeMissing, /does not exist; correct "disk"/],
    [folder, ErrorCode.storeMissing, /is a directory/],
    ["/dev/null", ErrorCode.storeMissing, /neither a file nor a block device/],
  ];
  for (const [path, code, message] of cases) {
    assert.throws(() => FileStore.open(path), { name: "HaError", code, message }, path);
  }
  const small = disk("small", 4096);
  assert.throws(() => FileStore.open(small, { minimumBytes: 8192 }), {
    code: ErrorCode.storeTooSmall,
    message: /4096 bytes, and 8192 are needed/,
  });
  await FileStore.open(small).close(); // the refusal gave the lock back
});

test("file store: a second opener is refused and told who has it", async () => {
  const path = disk("busy", MIB);
  const store = FileStore.open(path);
  assert.throws(() => FileStore.open(path), {
    code: ErrorCode.storeBusy,
    message: new RegExp(`locked by process ${process.pid} `),
  });
  symlinkSync(path, `${path}.link`);
  const script = `import { FileStore } from ${JSON.stringify(import.meta.resolve("@hacluster/blockrep/unstable/drivers/file-store"))};
    try { FileStore.open(process.argv[1]); } catch (e) { console.log(e.code); }`;
  const child = execFile(process.execPath, ["--input-type=module", "-e", script, `${path}.link`]);
  let said = "";
  child.stdout?.on("data", (text: string) => {
    said += text;
  });
  await once(child, "close");
  assert.equal(said.trim(), ErrorCode.storeBusy);
  await store.close();
  await FileStore.open(path).close();
});

test("file store: sizes beyond 4 GiB are exact, also by seeking, and odd bytes at the end are left out", async () => {
  const path = disk("large", 3 * 2 ** 40 + 100);
  const store = FileStore.open(path);
  assert.equal(store.sizeBytes, 3 * 2 ** 40);
  const data = pattern(4096, 1);
  await ask.write(store, 2 ** 41 + 512, data);
  assert.deepEqual(await ask.read(store, 2 ** 41 + 512, 4096), data);
  await store.close();
  const { openSync, closeSync } = await import("node:fs");
  const fd = openSync(path, "r");
  assert.equal(seekEnd(fd), 3 * 2 ** 40 + 100);
  lockFile(fd, path);
  closeSync(fd);
});

test("file store: a discard gives space back", async (t) => {
  if (skipUnless(t, { programs: { fallocate: "util-linux" } })) return;
  const path = disk("holes", 8 * MIB);
  const store = FileStore.open(path);
  assert.equal(store.canDiscard, true);
  await ask.write(store, 0, pattern(8 * MIB, 1));
  await ask.flush(store);
  const before = statSync(path).blocks;
  await Promise.all(Array.from({ length: 6 }, (_, i) => ask.discard(store, (i + 1) * MIB, MIB)));
  await ask.flush(store);
  assert.ok(before - statSync(path).blocks >= (6 * MIB) / 512, `${before} → ${statSync(path).blocks} blocks`);
  await store.close();
  assert.equal(Buffer.compare(readFileSync(path).subarray(0, MIB), pattern(8 * MIB, 1).subarray(0, MIB)), 0);
});

test("file store: closing waits for what is under way, and refuses what comes later", async () => {
  const store = FileStore.open(disk("closing", 4 * MIB));
  let finished = 0;
  for (let i = 0; i < 4; i++) {
    store.write(i * MIB, pattern(MIB, i), (error) => {
      assert.equal(error, undefined);
      finished++;
    });
  }
  store.flush(() => finished++);
  await store.close();
  assert.equal(finished, 5);
  await assert.rejects(ask.read(store, 0, 512), { code: ErrorCode.aborted });
  await store.close();
});

test("file store: a full file system is named as such", async (t) => {
  if (skipUnless(t, { files: { "/dev/shm": "a tmpfs" }, root: true })) return;
  const mountPoint = join(folder, "tiny");
  execFileSync("mkdir", [mountPoint]);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", mountPoint]);
  try {
    const path = join(mountPoint, "disk");
    writeFileSync(path, "");
    truncateSync(path, MIB);
    const store = FileStore.open(path);
    await assert.rejects(ask.write(store, 0, pattern(MIB, 1)), (error: HaError) => {
      assert.equal(error.code, ErrorCode.storeIo);
      assert.equal(error.details["errno"], "ENOSPC");
      assert.match(error.message, /write of .*tiny\/disk at 0 failed: .*; free space/);
      return true;
    });
    await store.close();
  } finally {
    execFileSync("umount", [mountPoint]);
  }
});

test("store range: maps its start, refuses a part that leaves the whole", async () => {
  const whole = new MemoryStore(8192);
  const part = new StoreRange(whole, 4096, 2048, "metadata");
  await ask.write(part, 512, pattern(512, 4));
  assert.deepEqual(whole.bytes.subarray(4608, 5120), pattern(512, 4));
  await assert.rejects(ask.read(part, 2048, 512), { code: ErrorCode.storeOutOfRange, message: /leaves metadata/ });
  assert.throws(() => new StoreRange(whole, 4096, 8192, "metadata"), { code: ErrorCode.storeTooSmall });
});

test("memory store: a power loss forgets what was not flushed, sector by sector", async () => {
  const store = new MemoryStore(4096);
  await ask.write(store, 0, new Uint8Array(1024).fill(1));
  await ask.flush(store);
  await ask.write(store, 0, new Uint8Array(2048).fill(2));
  assert.equal(store.unflushedSectors, 4);
  store.powerLoss((sector) => sector === 1);
  assert.deepEqual(
    [0, 512, 1024, 1536].map((at) => store.bytes[at]),
    [1, 2, 0, 0],
  );
  store.powerLoss();
  assert.equal(store.bytes[512], 2, "what was kept is stable");
});

test("faulty stores: delay, error and torn write do what they say", async () => {
  const memory = new MemoryStore(8192);
  const slow = new DelayStore(memory, 0);
  slow.held = true;
  let answered = false;
  const write = ask.write(slow, 0, pattern(512, 1)).then(() => {
    answered = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(answered, false);
  slow.held = false;
  await write;

  const failing = new ErrorStore(memory, (verb) => verb === "flush");
  await ask.write(failing, 0, pattern(512, 2));
  await assert.rejects(ask.flush(failing), { code: ErrorCode.storeIo, message: /injected/ });

  const torn = new TornStore(memory, (offset) => (offset === 1024 ? 1 : undefined));
  await ask.write(torn, 0, new Uint8Array(512).fill(3));
  await assert.rejects(ask.write(torn, 1024, new Uint8Array(1024).fill(3)), { code: ErrorCode.storeIo });
  assert.deepEqual([memory.bytes[0], memory.bytes[1024], memory.bytes[1536]], [3, 3, 0]);
  await assert.rejects(ask.read(torn, 0, 512), { code: ErrorCode.storeIo });
});
