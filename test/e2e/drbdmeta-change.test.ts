// outdate, invalidate and dstate of a volume that is down, beside drbdmeta's.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  createMetadata,
  generationIdentifiers,
  invalidateMetadata,
  type MetadataTarget,
  outdateMetadata,
  readDiskState,
} from "@hacluster/blockrep";
import { skipUnless } from "../support/requires.ts";

const NEEDS = {
  root: true,
  programs: { drbdmeta: "drbd-utils", losetup: "util-linux" },
  files: { "/dev/loop-control": "kernel module loop" },
};
/** A minor that no configuration uses. */
const MINOR = "250";

function loopDevice(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "hacluster-mdc-"));
  const fd = openSync(join(folder, "disk"), "w+");
  ftruncateSync(fd, 8 * 2 ** 20);
  closeSync(fd);
  const path = execFileSync("losetup", ["--find", "--show", join(folder, "disk")], { encoding: "utf8" }).trim();
  t.after(() => {
    execFileSync("losetup", ["--detach", path]);
    rmSync(folder, { recursive: true });
    rmSync(`/var/lib/drbd/drbd-minor-${MINOR}.lkbd`, { force: true });
  });
  return path;
}

function drbdmeta(device: string, ...args: string[]): { code: number | null; text: string } {
  const all = ["--force", MINOR, "v08", device, "internal", ...args];
  const result = spawnSync("drbdmeta", all, { encoding: "utf8", timeout: 10_000 });
  return { code: result.status, text: `${result.stdout}${result.stderr}`.trim() };
}

function superblock(device: string): string {
  execFileSync("blockdev", ["--flushbufs", device]);
  return readFileSync(device).subarray(-4096).toString("hex");
}

test("drbdmeta: outdate, invalidate and dstate leave the same superblock and say the same", async (t) => {
  if (skipUnless(t, NEEDS)) return;
  const ours = loopDevice(t);
  const theirs = loopDevice(t);
  const target: MetadataTarget = { disk: ours, placement: "internal" };
  await createMetadata(target);
  const same = async (what: string): Promise<string> => {
    assert.equal(superblock(ours), superblock(theirs), what);
    const state = await readDiskState(target);
    assert.equal(state, drbdmeta(theirs, "dstate").text, what);
    assert.equal((await generationIdentifiers(target)).get.trim(), drbdmeta(theirs, "get-gi").text, what);
    return state;
  };
  assert.equal(drbdmeta(ours, "set-gi", "F039E43C11354B76:0:9CA9D339660C12A3:0:1:1").code, 0);
  execFileSync("dd", [`if=${ours}`, `of=${theirs}`, "bs=1M", "conv=fsync", "status=none"]);
  assert.equal(await same("up to date"), "Consistent");

  assert.equal(await outdateMetadata(target), true);
  assert.equal(drbdmeta(theirs, "outdate").code, 0);
  assert.equal(await same("outdate"), "Outdated");

  await invalidateMetadata(target);
  assert.equal(drbdmeta(theirs, "invalidate").code, 0);
  assert.equal(await same("invalidate"), "Inconsistent");

  assert.equal(await outdateMetadata(target), false);
  assert.deepEqual(drbdmeta(theirs, "outdate"), { code: 5, text: "Device is inconsistent." });
  await same("outdate of what is inconsistent");
});
