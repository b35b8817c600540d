// A running pair, its primary used by the programs that others use for NBD: nbdinfo, nbdcopy, fio.
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { EXPORT_URI, PAIR_NEEDS, Pair } from "../support/pair.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  ...PAIR_NEEDS,
  programs: { ...PAIR_NEEDS.programs, nbdinfo: "libnbd-bin", nbdcopy: "libnbd-bin", fio: "fio" },
};
const DISK_BYTES = 48 * 2 ** 20;

describe("a running primary, seen by NBD's own programs", () => {
  let pair: Pair;
  const unavailable = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) !== undefined) return;
    pair = await Pair.make({ name: "pairnbd", diskBytes: DISK_BYTES });
    await pair.firstSync(["--attach", "none"]);
  });
  after(async () => await pair?.end());

  test("nbdinfo shows size, flush, fua and trim", async (t) => {
    if (unavailable(t)) return;
    const { sizeBytes } = (await pair.one.status()).first;
    const info = JSON.parse(await pair.one.node.must(["nbdinfo", "--json", EXPORT_URI])) as {
      protocol: string;
      exports: Record<string, unknown>[];
    };
    const [shown] = info.exports;
    assert.equal(info.protocol, "newstyle-fixed");
    assert.equal(shown?.["export-name"], "r0");
    assert.equal(shown?.["export-size"], sizeBytes);
    assert.ok(sizeBytes < DISK_BYTES, "internal metadata takes room");
    for (const can of ["can_flush", "can_fua", "can_trim", "can_zero"]) assert.equal(shown?.[can], true, can);
    assert.equal(shown?.["is_read_only"], false);
  });

  test("nbdcopy in and out is byte-identical, and so are both disks", async (t) => {
    if (unavailable(t)) return;
    const { sizeBytes } = (await pair.one.status()).first;
    const { node } = pair.one;
    // data with holes: nbdcopy then sends zeroes and trims, too
    const make = `
      truncate -s ${sizeBytes} /run/in.img
      dd if=/dev/urandom of=/run/in.img bs=64k count=200 conv=notrunc status=none
      dd if=/dev/urandom of=/run/in.img bs=4k count=300 seek=6000 conv=notrunc status=none`;
    await node.must(["sh", "-ec", make]);
    await node.must(["nbdcopy", "--flush", "/run/in.img", EXPORT_URI]);
    await node.must(["nbdcopy", EXPORT_URI, "/run/out.img"]);
    await node.must(["cmp", "/run/in.img", "/run/out.img"]);
    const { code, stdout } = await pair.sameData();
    assert.equal(code, 0, stdout);
  });

  test("fio verifies random writes while they are replicated; the peer is identical afterwards", async (t) => {
    if (unavailable(t)) return;
    const fio = await pair.one.node.exec(
      [
        "fio",
        "--name=randwrite",
        "--ioengine=nbd",
        `--uri=${EXPORT_URI}`,
        "--rw=randwrite",
        "--bsrange=4k-64k",
        "--size=32M",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--fsync=64",
        "--output-format=terse",
      ],
      { timeoutMs: 40_000 },
    );
    assert.equal(fio.code, 0, fio.stdout + fio.stderr);
    const { first, connection } = await pair.one.status();
    assert.deepEqual([connection, first.disk, first.peerDisk], ["Connected", "UpToDate", "UpToDate"]);
    assert.equal(first.outOfSyncBytes, 0);
    assert.equal(first.resyncedBytes < DISK_BYTES * 1.5, true, "nothing but the first sync was resynced");
    const { code, stdout } = await pair.sameData();
    assert.equal(code, 0, stdout);
  });
});
