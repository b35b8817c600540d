import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { detachLoops } from "./loop.ts";
import { isAlive, killProcess, type ProcessId, run, waitFor } from "./process.ts";

/** Running labs: a record and a tmpfs each. */
const STATE = "/run/hacluster-nodes";
/** Disk images: large, so not in memory. */
const IMAGES = "/var/tmp/hacluster-nodes";

/** What is needed to take a lab away without the process that made it. */
export interface LabRecord {
  readonly name: string;
  readonly owner: ProcessId;
  /** Meant to outlive its owner. */
  readonly kept: boolean;
  readonly switchHolder: ProcessId | undefined;
  readonly nodes: readonly { readonly init: ProcessId | undefined; readonly supervisor: ProcessId | undefined }[];
}

export function stateFolder(lab: string): string {
  return join(STATE, lab);
}

export function imageFolder(lab: string): string {
  return join(IMAGES, lab);
}

function recordFile(lab: string): string {
  return join(STATE, `${lab}.json`);
}

export function writeRecord(record: LabRecord): void {
  const text = JSON.stringify(record);
  for (let attempt = 0; ; attempt++) {
    mkdirSync(STATE, { recursive: true });
    try {
      writeFileSync(recordFile(record.name), text);
      return;
    } catch (error) {
      if (attempt === 3) throw error; // another lab, the last one, removed the folder just now
    }
  }
}

export function readRecords(): LabRecord[] {
  if (!existsSync(STATE)) return [];
  return readdirSync(STATE)
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) => {
      try {
        return [JSON.parse(readFileSync(join(STATE, name), "utf8")) as LabRecord];
      } catch {
        return []; // being written, or being removed
      }
    });
}

/** Remove labs whose owner ended without removing them (and that were not kept on purpose). */
export async function removeStaleLabs(): Promise<void> {
  for (const record of readRecords()) {
    if (!record.kept && !isAlive(record.owner)) await removeLab(record);
  }
}

/** Take away everything of a lab: processes, namespaces, loop devices, mounts, files. Does no harm when done twice. */
export async function removeLab(record: LabRecord): Promise<void> {
  await Promise.all(
    record.nodes.map(async ({ init, supervisor }) => {
      if (init !== undefined) await killProcess(init);
      if (supervisor === undefined) return;
      // it takes the node's mounts and loop devices away and ends by itself
      const gone = init !== undefined && (await waitFor(() => !isAlive(supervisor), 30_000));
      if (!gone) await killProcess(supervisor);
    }),
  );
  if (record.switchHolder !== undefined) await killProcess(record.switchHolder);
  await detachLoops(imageFolder(record.name));
  rmSync(imageFolder(record.name), { recursive: true, force: true });
  const state = stateFolder(record.name);
  if (existsSync(state)) {
    const unmounted = (await run(["umount", state])).code === 0;
    if (!unmounted) await run(["umount", "--lazy", state]);
    rmSync(state, { recursive: true, force: true });
  }
  rmSync(recordFile(record.name), { force: true });
  for (const folder of [STATE, IMAGES]) {
    try {
      rmdirSync(folder);
    } catch {
      // another lab is there, or nothing is
    }
  }
}
