import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Lab } from "../lab/lab.ts";
import { loopDevices } from "../lab/loop.ts";
import { MASKED_FILES } from "../lab/node.ts";
import { exitOf, must, processId, waitFor } from "../lab/process.ts";
import { missing, type Needs, skipUnless } from "../support/requires.ts";

const NEEDS: Needs = {
  root: true,
  namespaces: true,
  programs: { ip: "iproute2", ping: "iputils-ping", nft: "nftables", "mkfs.ext4": "e2fsprogs", setpriv: "util-linux" },
};
const HERE = dirname(fileURLToPath(import.meta.url));
const LAB_MODULE = join(HERE, "../lab/lab.js");
const MIB = 2 ** 20;

/** Marks of this process's labs on the host; other labs may run beside this test. */
function traces(name: string): string[] {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  return [
    ...mounts.filter((line) => line.includes(name)),
    ...loopDevices().flatMap(({ device, backing }) => (backing.includes(name) ? [`${device} ${backing}`] : [])),
    ...[`/run/hacluster-nodes/${name}`, `/run/hacluster-nodes/${name}.json`, `/var/tmp/hacluster-nodes/${name}`].filter(
      (path) => existsSync(path),
    ),
    ...readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .flatMap((pid) => {
        try {
          const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
          return environment.includes(`/run/hacluster-nodes/${name}/`) ? [`process ${pid}`] : [];
        } catch {
          return [];
        }
      }),
  ];
}

async function canPing(lab: Lab, from: string, to: string): Promise<boolean> {
  return (await lab.node(from).exec(["ping", "-c1", "-W1", to])).code === 0;
}

describe("lab: nodes", () => {
  let lab: Lab;
  const needed = (t: TestContext): boolean => skipUnless(t, NEEDS);
  before(async () => {
    if (missing(NEEDS) === undefined)
      lab = await Lab.up({ name: "nodes", diskBytes: 16 * MIB, links: ["eth0", "eth1"] });
  });
  after(async () => await lab?.down());

  test("lab: each node has its host name, addresses and an empty /run", async (t) => {
    if (needed(t)) return;
    const seen = async (name: string): Promise<string> => {
      const node = lab.node(name);
      const addresses = await node.must(["ip", "-4", "-o", "addr", "show"]);
      const found = [...addresses.matchAll(/inet ([\d.]+\/\d+)/g)].map((match) => match[1]).join(" ");
      return `${(await node.must(["hostname"])).trim()} ${found} ${(await node.must(["ls", "/run"])).split("\n").join(" ")}`;
    };
    assert.equal(await seen("nodo1"), "nodo1 127.0.0.1/8 192.168.0.27/24 10.0.0.27/24 lab lock mount ");
    assert.equal(await seen("nodo2"), "nodo2 127.0.0.1/8 192.168.0.28/24 10.0.0.28/24 lab lock mount ");
    assert.equal(await seen("client"), "client 127.0.0.1/8 192.168.0.100/24 lab lock mount ");
    const mac = await lab.node("nodo2").readFile("/sys/class/net/eth0/address");
    assert.equal(mac.trim(), "02:00:00:00:00:1c");
  });

  test("lab: exec passes exit status, output, input and environment, and ends at its time limit", async (t) => {
    if (needed(t)) return;
    const node = lab.node("nodo1");
    const script = 'read -r line; echo "$line $WORD"; echo problem >&2; exit 7';
    const result = await node.exec(["sh", "-c", script], { input: "hello\n", env: { WORD: "world" } });
    assert.deepEqual([result.code, result.stdout, result.stderr], [7, "hello world\n", "problem\n"]);
    const slow = await node.exec(["sleep", "1000"], { timeoutMs: 100 });
    assert.equal(slow.timedOut, true);
    const left = async (): Promise<boolean> => (await node.exec(["pgrep", "-f", "sleep 1000"])).code === 1;
    assert.ok(await waitFor(left, 2_000), "the command outlived its time limit");
    await assert.rejects(node.must(["sh", "-c", "echo why >&2; exit 3"]), /nodo1: sh .* exit code 3: why/);
  });

  test("lab: a background command gets its signals", async (t) => {
    if (needed(t)) return;
    const job = lab.node("nodo1").spawn(["sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"]);
    await new Promise((resolve) => job.child.stdout.once("data", resolve));
    assert.equal(await job.stop(), 5);
  });

  test("lab: nodes reach each other; a cut is for a pair, a direction, a link; heal undoes it", async (t) => {
    if (needed(t)) return;
    assert.deepEqual(
      [await canPing(lab, "nodo1", "nodo2"), await canPing(lab, "client", "192.168.0.254")],
      [true, true],
    );
    await lab.cut("nodo1", "nodo2", { links: ["eth0"] });
    const [peer, client, second] = await Promise.all([
      canPing(lab, "nodo1", "nodo2"),
      canPing(lab, "nodo1", "client"),
      canPing(lab, "nodo1", "10.0.0.28"),
    ]);
    assert.deepEqual([peer, client, second], [false, true, true]);
    await lab.heal();
    assert.equal(await canPing(lab, "nodo2", "nodo1"), true);
    await lab.node("nodo2").unplug();
    assert.equal((await lab.node("nodo2").readFile("/sys/class/net/eth0/carrier")).trim(), "0");
    await lab.heal();
    assert.equal((await lab.node("nodo2").readFile("/sys/class/net/eth0/carrier")).trim(), "1");
  });

  test("lab: a power loss keeps /etc, /var and the disk, empties /run, and frees what the node held", async (t) => {
    if (needed(t)) return;
    const node = lab.node("nodo2");
    await node.writeFile("/etc/mine", "etc");
    await node.writeFile("/var/lib/mine", "var");
    await node.writeFile("/run/mine", "run");
    // ext4 over a loop device over a file of the node's own: as an attached replicated device, but for the server
    await node.must(["sh", "-c", "truncate -s 8M /var/lib/fs && mkfs.ext4 -q /var/lib/fs && mkdir -p /srv/fs"]);
    await node.must(["mount", "-o", "loop", "/var/lib/fs", "/srv/fs"]);
    await node.must(["sh", "-c", "echo disk | dd of=/dev/sda6 conv=fsync status=none"]);
    const job = node.spawn(["sh", "-c", "exec sleep 1000 >/srv/fs/open"]);
    await node.kill();
    assert.equal(job.running, false);
    await assert.rejects(node.exec(["true"]), /nodo2 is off/);
    // other labs of this machine have a nodo2 as well
    const ours = ({ backing }: { backing: string }): boolean =>
      (backing.includes(lab.name) && backing.includes("nodo2")) || backing.endsWith("/var/lib/fs");
    assert.ok(await waitFor(() => !loopDevices().some(ours), 2_000), JSON.stringify(loopDevices()));
    assert.equal(await canPing(lab, "nodo1", "nodo2"), false);
    await node.start();
    assert.equal(await node.readFile("/etc/mine"), "etc");
    assert.equal(await node.readFile("/var/lib/mine"), "var");
    assert.equal((await node.exec(["test", "-e", "/run/mine"])).code, 1);
    assert.equal(await node.must(["head", "-c", "4", "/dev/sda6"]), "disk");
    assert.equal(await canPing(lab, "nodo1", "nodo2"), true);
    assert.equal(existsSync("/etc/mine"), false);
  });

  test("lab: a power loss frees a device attached by FUSE whose server died with the node", async (t) => {
    if (skipUnless(t, { ...NEEDS, programs: { ...NEEDS.programs, nbdfuse: "libnbd-bin", nbdkit: "nbdkit" } })) return;
    const node = lab.node("nodo2");
    await node.start();
    node.spawn(["nbdkit", "-f", "-U", "/run/disk.sock", "file", "/dev/sda6"]);
    const file = `disk-${process.pid}`; // loop devices are global: another lab may run beside this one
    const attach = [
      "until [ -S /run/disk.sock ]; do sleep 0.02; done",
      `mkdir /run/view && setsid nbdfuse /run/view/${file} nbd+unix:///?socket=/run/disk.sock </dev/null >/dev/null 2>&1 &`,
      `until [ -e /run/view/${file} ]; do sleep 0.02; done`,
      `losetup --find --show --direct-io=on /run/view/${file}`,
    ].join("\n");
    const device = (await node.must(["sh", "-c", attach], { timeoutMs: 10_000 })).trim();
    await node.must(["sh", "-c", `mkfs.ext4 -q ${device} && mount ${device} /mnt && echo x >/mnt/file`]);
    await node.kill();
    assert.deepEqual(
      loopDevices().filter((entry) => entry.backing.endsWith(file)),
      [],
    );
    await node.start();
  });

  test("lab: what would reach the host's kernel is masked, and a node without the mask is refused", async (t) => {
    if (needed(t)) return;
    const node = lab.node("nodo1");
    await node.start();
    // core_pattern stands for all: every kernel has it, and a write to it that got through could be undone
    const file = "/proc/sys/kernel/core_pattern";
    assert.ok(MASKED_FILES.includes(file) && MASKED_FILES.includes("/proc/sysrq-trigger"));
    const before = readFileSync(file, "utf8");
    await node.must(["sh", "-c", `echo "|/bin/false" > ${file}`]);
    assert.equal(readFileSync(file, "utf8"), before);
    await node.assertHarmless();
    await node.must(["umount", file]);
    await assert.rejects(node.assertHarmless(), /nodo1: \/proc\/sys\/kernel\/core_pattern is not masked/);
    await node.kill();
    await node.start();
    await node.assertHarmless();
  });

  test("lab: the user's handlers end only the node they run in, never the host", async (t) => {
    if (needed(t)) return;
    const node = lab.node("nodo1");
    await lab.node("nodo2").start();
    const handler = "echo o > /proc/sysrq-trigger ; halt -f";
    const hostInit = processId(1);
    // nothing of the kind runs before the mask is seen in place, from inside and from here
    await node.assertHarmless();
    const kind = await node.must(["sh", "-c", "stat -c %F:%t:%T /proc/sysrq-trigger 2>/dev/null || echo absent"]);
    assert.ok(["character special file:1:3", "absent"].includes(kind.trim()), `sysrq-trigger is ${kind}`);
    assert.notEqual(await node.must(["readlink", "/proc/self/ns/pid"]), await must(["readlink", "/proc/self/ns/pid"]));

    for (const command of [handler, "poweroff -f", "reboot -f"]) {
      await node.start();
      await node.assertHarmless();
      await node.exec(["sh", "-c", command], { timeoutMs: 5_000 });
      if (node.isOn) await node.kill(); // this machine has no such program: it did nothing
      await node.off();
    }
    assert.deepEqual(processId(1), hostInit);
    assert.equal(lab.node("nodo2").isOn, true, "the other node is not touched");
    await node.start();
    assert.equal((await node.must(["hostname"])).trim(), "nodo1");
  });
});

describe("lab: end", () => {
  test("lab: down leaves nothing, with a filesystem in use too", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    const namespaces = readNetns();
    const lab = await Lab.up({ name: "gone", diskBytes: 16 * MIB });
    const node = lab.node("nodo1");
    await node.must(["sh", "-c", "mkfs.ext4 -q /dev/sda6 && mount /dev/sda6 /mnt"]);
    node.spawn(["sh", "-c", "exec sleep 1000 >/mnt/open"]);
    assert.notDeepEqual(traces(lab.name), []);
    await lab.down();
    assert.deepEqual(traces(lab.name), []);
    assert.deepEqual(readNetns(), namespaces);
  });

  test("lab: SIGTERM removes it; what SIGKILL left is removed by the next lab", async (t) => {
    if (skipUnless(t, NEEDS)) return;
    const [asked, killed] = await Promise.all([otherLab("term"), otherLab("kill")]);
    asked.process.kill("SIGTERM");
    assert.equal(await exitOf(asked.process), 143);
    assert.deepEqual(traces(asked.name), []);
    killed.process.kill("SIGKILL");
    await exitOf(killed.process);
    assert.notDeepEqual(traces(killed.name), []);
    const next = await Lab.up({ name: "next", nodes: ["nodo1"], client: false });
    await next.down();
    assert.deepEqual(traces(killed.name), []);
  });
});

function readNetns(): string[] {
  return existsSync("/run/netns") ? readdirSync("/run/netns") : [];
}

/** A lab in a process of its own. */
async function otherLab(name: string): Promise<{ process: ChildProcess; name: string }> {
  const text = `
    import { Lab } from ${JSON.stringify(LAB_MODULE)};
    const lab = await Lab.up({ name: ${JSON.stringify(name)}, nodes: ["nodo1"], diskBytes: 1 << 20 });
    console.log(lab.name);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", text], { stdio: ["ignore", "pipe", "inherit"] });
  const labName = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(String(data).trim()));
    child.once("exit", () => reject(new Error("the other lab did not come up")));
  });
  return { process: child, name: labName };
}
