import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { ErrorCode, type HaError } from "@hacluster/blockrep/base";
import {
  attachDevice,
  attachedHolders,
  cleanLeftovers,
  detachDevice,
} from "@hacluster/blockrep/unstable/drivers/attach";
import { processStartTicks, readAttachment } from "@hacluster/blockrep/unstable/drivers/attachment-record";
import { FileStore } from "@hacluster/blockrep/unstable/drivers/file-store";
import { NbdServer } from "@hacluster/blockrep/unstable/nbd/server";
import { StoreBackend } from "@hacluster/blockrep/unstable/nbd/store-backend";
import { skipUnless } from "../support/requires.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const folder = mkdtempSync(join(tmpdir(), "hacluster-nbd-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Served {
  readonly server: NbdServer;
  readonly store: FileStore;
  readonly diskPath: string;
  readonly uri: string;
  readonly users: number[];
  readonly refused: string[];
  end(): Promise<void>;
}

let count = 0;

async function serve(sizeBytes: number): Promise<Served> {
  const name = `d${++count}`;
  const diskPath = join(folder, `${name}.img`);
  writeFileSync(diskPath, "");
  truncateSync(diskPath, sizeBytes);
  const store = FileStore.open(diskPath);
  const path = join(folder, `${name}.sock`);
  const users: number[] = [];
  const refused: string[] = [];
  const server = await NbdServer.listen({
    path,
    exports: [{ name: "r0", backend: new StoreBackend(store), description: "a test" }],
    onConnectionsChanged: (n) => users.push(n),
    onRefused: (reason) => refused.push(reason),
  });
  const end = async (): Promise<void> => {
    await server.close();
    await store.close();
  };
  return { server, store, diskPath, uri: `nbd+unix:///r0?socket=${path}`, users, refused, end };
}

test("nbd: nbdinfo shows size, flush, fua and trim", async (t) => {
  if (skipUnless(t, { programs: { nbdinfo: "libnbd-bin" } })) return;
  const served = await serve(16 * MIB);
  try {
    const { stdout } = await run("nbdinfo", ["--json", served.uri], { timeout: 10_000 });
    const [info] = (JSON.parse(stdout) as { exports: Record<string, unknown>[] }).exports;
    assert.ok(info !== undefined);
    assert.equal(info["export-size"], 16 * MIB);
    for (const flag of ["can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn"]) {
      assert.equal(info[flag], true, flag);
    }
    assert.equal(info["is_read_only"], false);
    assert.equal(info["block_size_minimum"], 512);
  } finally {
    await served.end();
  }
  assert.deepEqual(served.users.at(-1), 0);
  assert.deepEqual(served.refused, []);
});

test("nbd: nbdcopy in and out is byte-identical", async (t) => {
  if (skipUnless(t, { programs: { nbdcopy: "libnbd-bin" } })) return;
  const served = await serve(24 * MIB);
  try {
    const from = join(folder, "in");
    const back = join(folder, "out");
    const data = Buffer.concat([randomBytes(7 * MIB), Buffer.alloc(9 * MIB), randomBytes(8 * MIB)]);
    writeFileSync(from, data);
    await run("nbdcopy", ["--flush", from, served.uri], { timeout: 30_000 });
    await run("nbdcopy", ["--connections=4", "--request-size=1048576", served.uri, back], { timeout: 30_000 });
    assert.equal(Buffer.compare(readFileSync(back), data), 0);
    assert.equal(Buffer.compare(readFileSync(served.diskPath), data), 0);
  } finally {
    await served.end();
  }
});

test("nbd: fio verifies random writes with crc32c", async (t) => {
  if (skipUnless(t, { programs: { fio: "fio" } })) return;
  const served = await serve(32 * MIB);
  try {
    for (const extra of [
      ["--bs=4k", "--iodepth=32", "--fsync=64"],
      ["--bsrange=512-256k", "--iodepth=8"],
      ["--bs=4m", "--iodepth=4", "--rw=write"],
    ]) {
      const common = ["--name=verify", "--ioengine=nbd", `--uri=${served.uri}`, "--rw=randwrite", "--size=32m"];
      const { stdout } = await run("fio", [...common, "--verify=crc32c", "--output-format=json", ...extra], {
        timeout: 60_000,
        cwd: folder,
      });
      const [job] = (JSON.parse(stdout.slice(stdout.indexOf("{"))) as { jobs: { error: number }[] }).jobs;
      assert.equal(job?.error, 0, extra.join(" "));
    }
  } finally {
    await served.end();
  }
});

test("nbd: qemu-io reads patterns, zeroes and discards, and is refused beyond the end", async (t) => {
  if (skipUnless(t, { programs: { "qemu-io": "qemu-utils" } })) return;
  const served = await serve(8 * MIB);
  try {
    const commands = [
      "write -P 0xa5 0 1M",
      "write -f -P 0x5a 512 512",
      "read -P 0xa5 0 512",
      "read -P 0x5a 512 512",
      "write -z -u 64k 64k",
      "read -P 0 64k 64k",
      "discard 512k 512k",
      "flush",
      "aio_write -P 0x11 4M 3M",
      "aio_read 0 1M",
      "aio_flush",
      "read -P 0x11 4M 3M",
    ];
    const args = commands.flatMap((command) => ["-c", command]);
    const { stdout } = await run("qemu-io", ["-f", "raw", ...args, served.uri], { timeout: 20_000 });
    assert.doesNotMatch(stdout, /fail|error/i);
    assert.equal(readFileSync(served.diskPath)[5 * MIB], 0x11);
  } finally {
    await served.end();
  }
});

/** Everything that the attach tests need; nbdfuse runs as a process of its own, so the server may be this one. */
const ATTACH = {
  root: true,
  programs: {
    nbdfuse: "libnbd-bin",
    fusermount3: "fuse3",
    losetup: "mount",
    "mkfs.ext4": "e2fsprogs",
    e2fsck: "e2fsprogs",
  },
  files: { "/dev/fuse": "kernel module fuse", "/dev/loop-control": "kernel module loop" },
};

test("attach: ext4 on the device survives detach, and a busy device stays", async (t) => {
  if (skipUnless(t, ATTACH)) return;
  const served = await serve(32 * MIB);
  const runDirectory = join(folder, "run");
  const mountPoint = join(folder, "mnt with space");
  const linkPath = join(folder, "dev", "drbd0");
  mkdirSync(mountPoint, { recursive: true });
  const options = {
    name: `t${process.pid}`,
    method: "fuse",
    socketPath: served.server.path,
    exportName: "r0",
    sizeBytes: 32 * MIB,
    linkPath,
    runDirectory,
  } as const;
  try {
    const attachment = await attachDevice(options);
    assert.match(attachment.devicePath, /^\/dev\/loop\d+$/);
    assert.equal(readlinkSync(linkPath), attachment.devicePath);
    assert.ok(served.server.connections > 0);
    await assert.rejects(attachDevice(options), { code: ErrorCode.deviceBusy });

    await run("mkfs.ext4", ["-q", linkPath], { timeout: 20_000 });
    await run("mount", [linkPath, mountPoint], { timeout: 20_000 });
    try {
      await run("cp", ["-r", "/etc/services", "/etc/passwd", mountPoint]);
      await assert.rejects(detachDevice(runDirectory, options.name), (error: HaError) => {
        assert.equal(error.code, ErrorCode.deviceBusy);
        assert.match(error.message, /mounted on .*mnt with space/);
        return true;
      });
      assert.match(attachedHolders(runDirectory, options.name), /mounted on/);
      assert.equal(readlinkSync(linkPath), attachment.devicePath, "nothing was changed by the refusal");
      assert.equal(readFileSync(join(mountPoint, "passwd"), "utf8"), readFileSync("/etc/passwd", "utf8"));
    } finally {
      await run("umount", [mountPoint], { timeout: 20_000 });
    }

    // somebody who has it open without claiming it is found too
    const reader = spawn("sh", ["-c", `echo; exec sleep 30 < ${attachment.devicePath}`]);
    try {
      await once(reader.stdout, "data");
      while (attachedHolders(runDirectory, options.name) === "") await sleep(5);
      await assert.rejects(detachDevice(runDirectory, options.name), {
        code: ErrorCode.deviceBusy,
        message: new RegExp(`open in process ${reader.pid} `),
      });
    } finally {
      reader.kill("SIGKILL");
      await once(reader, "exit");
    }
    await detachDevice(runDirectory, options.name);
    assert.equal(existsSync(linkPath), false);
    assert.equal(readAttachment(runDirectory, options.name), undefined);
    assert.doesNotMatch(execFileSync("losetup", ["-a"], { encoding: "utf8" }), new RegExp(`/${options.name}\\.`));
    await detachDevice(runDirectory, options.name);
  } finally {
    await cleanLeftovers(runDirectory, options.name).catch(() => {});
    await served.end();
  }
  await run("e2fsck", ["-f", "-n", served.diskPath], { timeout: 20_000 });
  assert.equal(served.users.at(-1), 0);
});

test("attach: what a killed process left is found and removed, and a foreign file at the link's path is kept", async (t) => {
  if (skipUnless(t, ATTACH)) return;
  const runDirectory = join(folder, "run-killed");
  const linkPath = join(folder, "dev", "drbd1");
  const name = `k${process.pid}`;
  const script = join(folder, "killed.mjs");
  const at = (file: string): string => JSON.stringify(import.meta.resolve(`@hacluster/blockrep/unstable/${file}`));
  const options = {
    name,
    method: "fuse",
    socketPath: join(folder, "killed.sock"),
    exportName: "r0",
    sizeBytes: 8 * MIB,
    linkPath,
    runDirectory,
  } as const;
  writeFileSync(
    script,
    `import { attachDevice } from ${at("drivers/attach")};
     import { MemoryStore } from ${at("drivers/memory-store")};
     import { NbdServer } from ${at("nbd/server")};
     import { StoreBackend } from ${at("nbd/store-backend")};
     const options = ${JSON.stringify(options)};
     const backend = new StoreBackend(new MemoryStore(options.sizeBytes));
     await NbdServer.listen({ path: options.socketPath, exports: [{ name: "r0", backend }] });
     await attachDevice(options);
     console.log("attached");`,
  );
  const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(child.stdout, "data");
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
  const left = readAttachment(runDirectory, name);
  assert.ok(left !== undefined && left.devicePath !== "");
  assert.equal(await cleanLeftovers(runDirectory, name, linkPath), true);
  assert.equal(processStartTicks(left.pid), undefined);
  assert.equal(existsSync(left.mountPoint), false);
  assert.equal(readAttachment(runDirectory, name), undefined);
  assert.doesNotMatch(execFileSync("losetup", ["-a"], { encoding: "utf8" }), new RegExp(`/${name}\\.`));
  assert.equal(await cleanLeftovers(runDirectory, name, linkPath), false);

  writeFileSync(linkPath, "mine");
  await assert.rejects(attachDevice(options), { code: ErrorCode.deviceBusy });
  assert.equal(readFileSync(linkPath, "utf8"), "mine");
});

test("attach: no server, or a device of another size, is refused and leaves nothing", async (t) => {
  if (skipUnless(t, ATTACH)) return;
  const runDirectory = join(folder, "run-refused");
  const served = await serve(8 * MIB);
  const options = {
    name: `n${process.pid}`,
    method: "fuse",
    socketPath: join(folder, "nobody.sock"),
    exportName: "r0",
    sizeBytes: 16 * MIB,
    runDirectory,
  } as const;
  try {
    await assert.rejects(attachDevice(options), { code: ErrorCode.programFailed, message: /nobody.sock/ });
    await assert.rejects(attachDevice({ ...options, socketPath: served.server.path }), {
      code: ErrorCode.storeTooSmall,
    });
    assert.equal(readAttachment(runDirectory, options.name), undefined);
    assert.doesNotMatch(execFileSync("losetup", ["-a"], { encoding: "utf8" }), new RegExp(`/${options.name}\\.`));
  } finally {
    await served.end();
  }
});

test("store: a block device is measured, used, and held against others", async (t) => {
  if (
    skipUnless(t, { root: true, programs: { losetup: "mount" }, files: { "/dev/loop-control": "kernel module loop" } })
  ) {
    return;
  }
  const image = join(folder, "device.img");
  writeFileSync(image, "");
  truncateSync(image, 4 * MIB);
  const device = execFileSync("losetup", ["--find", "--show", image], { encoding: "utf8" }).trim();
  try {
    const store = FileStore.open(device, { minimumBytes: 4 * MIB });
    assert.equal(store.sizeBytes, 4 * MIB);
    assert.equal(store.isBlockDevice, true);
    assert.throws(() => FileStore.open(device), { code: ErrorCode.storeBusy, message: /loop\d+ is / });
    const done = (call: (done: (error: HaError | undefined) => void) => void): Promise<HaError | undefined> =>
      new Promise(call);
    const data = randomBytes(2 * MIB);
    assert.equal(await done((d) => store.write(0, data, d)), undefined);
    assert.equal(await done((d) => store.discard(512 * 1024, MIB, d)), undefined);
    assert.equal(await done((d) => store.flush(d)), undefined);
    data.fill(0, 512 * 1024, 512 * 1024 + MIB);
    const seen = Buffer.alloc(2 * MIB);
    assert.equal(await done((d) => store.read(0, seen, d)), undefined);
    assert.equal(Buffer.compare(seen, data), 0);
    assert.equal(Buffer.compare(readFileSync(image).subarray(0, 2 * MIB), data), 0);
    await store.close();
    assert.throws(() => FileStore.open(device, { minimumBytes: 5 * MIB }), { code: ErrorCode.storeTooSmall });
  } finally {
    execFileSync("losetup", ["--detach", device]);
  }
});

test("store: after a flush failed every call fails, though the kernel would report it only once", async (t) => {
  if (
    skipUnless(t, { root: true, programs: { losetup: "mount" }, files: { "/dev/loop-control": "kernel module loop" } })
  ) {
    return;
  }
  // a loop device on a file system without space: writes reach the page cache, and are lost at the flush
  const mountPoint = join(folder, "full");
  mkdirSync(mountPoint);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", mountPoint]);
  let device = "";
  try {
    const image = join(mountPoint, "image");
    writeFileSync(image, "");
    truncateSync(image, 4 * MIB);
    device = execFileSync("losetup", ["--find", "--show", image], { encoding: "utf8" }).trim();
    const store = FileStore.open(device);
    const done = (call: (done: (error: HaError | undefined) => void) => void): Promise<HaError | undefined> =>
      new Promise(call);
    assert.equal(await done((d) => store.write(0, randomBytes(MIB), d)), undefined);
    const flushes = await Promise.all([done((d) => store.flush(d)), done((d) => store.flush(d))]);
    for (const error of flushes) assert.equal(error?.code, ErrorCode.storeIo);
    assert.match(flushes[0]?.message ?? "", /flush of \/dev\/loop\d+ .*failed: EIO/);
    assert.equal((await done((d) => store.flush(d)))?.code, ErrorCode.storeIo);
    assert.equal((await done((d) => store.write(0, randomBytes(512), d)))?.code, ErrorCode.storeIo);
    assert.equal((await done((d) => store.read(0, new Uint8Array(512), d)))?.code, ErrorCode.storeIo);
    await store.close();
  } finally {
    if (device !== "") execFileSync("losetup", ["--detach", device]);
    for (let tries = 0; existsSync(`/sys/block/${device.slice(5)}/loop/backing_file`) && tries < 200; tries++) {
      await sleep(10);
    }
    execFileSync("umount", [mountPoint]);
  }
});
