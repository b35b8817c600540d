import { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { type ConfigFile, filesFor, WEB_FILES } from "./configuration.ts";

/** Large enough that a resync of whole activity-log extents (4 MiB each) stays a small part of it. */
export const DISK_BYTES: number = 640 * 2 ** 20;
export const SERVICE_ADDRESS = "192.168.0.29";
export const DEVICE = "/dev/drbd0";
export const MOUNT_POINT = "/home/jorge/datos";

export async function makeLab(): Promise<Lab> {
  return await Lab.up({ name: "demo", diskBytes: DISK_BYTES });
}

/** Bring a node's /etc into the state that an administrator would: the user's four files, the web server's site. */
export async function configure(node: LabNode, classic: boolean): Promise<void> {
  const name = node.name;
  if (name !== "nodo1" && name !== "nodo2") throw new Error(`${name} is no node of the cluster`);
  // what the host has of DRBD, Heartbeat and Apache sites is the host's affair; these are the node's own layers
  const clear = [
    "rm -rf /etc/ha.d /etc/drbd.d /etc/drbd.conf /etc/apache2/sites-enabled",
    // started by the cluster, and by nothing else: update-rc.d apache2 disable
    "rm -f /etc/rc[2-5].d/S[0-9][0-9]apache2 /etc/systemd/system/multi-user.target.wants/apache2.service",
    `mkdir -p ${MOUNT_POINT}`,
  ].join("\n");
  await node.must(["sh", "-c", clear]);
  await writeFiles(node, [...filesFor(name, classic), ...WEB_FILES]);
}

async function writeFiles(node: LabNode, files: readonly ConfigFile[]): Promise<void> {
  for (const { path, text, mode } of files) await node.writeFile(`/etc/${path}`, text, mode);
}

/** What a node's logs say last, for the report of a failure. */
export async function lastWords(node: LabNode): Promise<string> {
  if (!node.isOn) return `${node.name} is off`;
  const script = `
    for log in /var/log/ha-log /var/log/ha-debug /var/log/hacluster/*.log /var/log/hacluster*.log; do
      [ -s "$log" ] && echo "--- ${node.name} $log" && tail -n 25 "$log"
    done
    echo "--- ${node.name} processes, mounts, addresses"
    ps -eo pid,ppid,stat,etimes,args | grep -v ' ps -eo' | cut -c1-150
    grep -E ' (ext4|fuse[^ ]*) ' /proc/mounts
    ip -4 -o addr show dev eth0`;
  const result = await node.exec(["sh", "-c", script], { timeoutMs: 10_000 });
  return `${result.stdout}${result.stderr}`.trim();
}
