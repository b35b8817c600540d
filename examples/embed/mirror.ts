// A replicated block device inside your own program: two processes, two files, no root, no configuration.
//   node build/examples/embed/mirror.js
import { fork } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDevice, Resource } from "@hacluster/blockrep";

const folder = process.argv[2] ?? mkdtempSync(join(tmpdir(), "mirror-"));
const isPeer = process.argv[3] === "peer";
const port = Number(process.env["MIRROR_PORT"] ?? 17788);
const [a, b] = [
  { host: "127.0.0.1", port },
  { host: "127.0.0.1", port: port + 1 },
];
const [local, peer] = isPeer ? [b, a] : [a, b];

const device = await openDevice({
  name: "r0",
  backing: join(folder, isPeer ? "b.img" : "a.img"),
  createBytes: 16 * 1024 * 1024,
  local,
  peer,
  sharedSecret: "only the two of us",
  net: { connectIntMs: 1000 },
});

if (isPeer) process.on("message", () => void device.close().then(() => process.disconnect()));
else {
  const other = fork(process.argv[1] as string, [folder, "peer"]);
  const watching = new AbortController();
  const watch = (async () => {
    for await (const event of device.events(watching.signal)) {
      if (event.type !== "state" && event.type !== "resync-progress") console.log("event:", event.type);
    }
  })();

  await device.resource.waitUntil(Resource.isConnected, { timeoutMs: 30_000 });
  await device.resource.primary({ force: true }); // the first time nobody knows whose data count
  await device.resource.waitUntil(Resource.isInSync, { timeoutMs: 30_000 });

  await device.write(8192, Buffer.from("on both disks when this resolves".padEnd(512)));
  await device.flush();
  console.log(
    "read:",
    Buffer.from(await device.read(8192, 512))
      .toString()
      .trim(),
  );
  const { role, connection, volumes } = device.status();
  console.log("status:", role, connection, `${volumes[0]?.disk}/${volumes[0]?.peerDisk}`);

  watching.abort();
  await watch;
  await device.close();
  other.send("close");
  other.on("exit", (code) => console.log("peer ended with", code, "- the images are in", folder));
}
