// examples/embed, as its README says it is run: two processes, two files, no root.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { run } from "../lab/process.ts";

const MIRROR = fileURLToPath(new URL("../../examples/embed/mirror.js", import.meta.url));

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** Two ports in a row that nobody uses, below those that the system hands out by itself. */
async function freePorts(): Promise<number> {
  for (let port = 20_000 + (process.pid % 5_000) * 2; port < 32_000; port += 2) {
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
  throw new Error("no two free ports");
}

test("examples/embed: mirrors a write between two processes, tells what happens, ends by itself", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "hacluster-embed-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const env = { MIRROR_PORT: String(await freePorts()) };
  const { code, stdout, stderr } = await run([process.execPath, MIRROR, folder], { env, timeoutMs: 30_000 });
  assert.equal(code, 0, stdout + stderr);
  for (const line of [
    "event: connected",
    "event: resync-end",
    "read: on both disks when this resolves",
    "status: Primary Connected UpToDate/UpToDate",
    `peer ended with 0 - the images are in ${folder}`,
  ]) {
    assert.ok(stdout.includes(line), `${line} is missing:\n${stdout}${stderr}`);
  }
  const size = String(16 * 2 ** 20 - 64 * 1024); // the rest is metadata
  const same = await run(["cmp", "--bytes", size, join(folder, "a.img"), join(folder, "b.img")]);
  assert.equal(same.code, 0, same.stdout);
});
