import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The oracle for drbd.conf; where Debian's drbd-utils puts it, outside of PATH. */
export const DRBDADM_84 = "/usr/lib/drbd/drbdadm-84";

export interface DrbdadmAnswer {
  readonly accepted: boolean;
  readonly dump: string;
  readonly message: string;
}

/** `drbdadm-84 -c FILE dump all`. */
export function drbdadmDump(file: string): DrbdadmAnswer {
  const run = spawnSync(DRBDADM_84, ["-c", file, "dump", "all"], { encoding: "utf8", timeout: 10_000 });
  if (run.error !== undefined) throw run.error;
  return { accepted: run.status === 0, dump: run.stdout, message: run.stderr };
}

/** test/vectors/drbd-config, from the compiled tests. */
export const DRBD_CONFIG_VECTORS: string = fileURLToPath(
  new URL("../../../test/vectors/drbd-config/", import.meta.url),
);

/** The name of the machine that recorded the vectors; in none of the configurations. */
export const RECORDING_HOST = "recorder";

export type Verdict = "accept" | "reject" | "stricter" | "looser";

export interface Statement {
  readonly verdict: Verdict;
  readonly name: string;
  readonly text: string;
}

const TWO =
  "resource r0 { device /dev/drbd5; disk /dev/d; meta-disk internal;" +
  " on nodo1 { address 192.0.2.1:7000; } on nodo2 { address 192.0.2.2:7000; }";
const HOSTS =
  "on nodo1 { device /dev/drbd0; disk /dev/sda6; address 192.0.2.1:7793; meta-disk internal; }" +
  " on nodo2 { device /dev/drbd0; disk /dev/sda6; address 192.0.2.2:7793; meta-disk internal; }";

/** The short configurations of statements.txt with their verdicts. */
export function readStatements(): Statement[] {
  return readBlocks(`${DRBD_CONFIG_VECTORS}statements.txt`).map(({ title, body }) => {
    const [verdict, ...name] = title.split(" ");
    const text = body.replaceAll("{{two}}", TWO).replaceAll("{{hosts}}", HOSTS);
    return { verdict: verdict as Verdict, name: name.join(" "), text };
  });
}

/** What drbdadm-84 printed for the accepted ones, by name; recorded for /etc/drbd.conf on `RECORDING_HOST`. */
export function readRecordedDumps(): Map<string, string> {
  return new Map(readBlocks(`${DRBD_CONFIG_VECTORS}statements.dumps.txt`).map(({ title, body }) => [title, body]));
}

function readBlocks(path: string): { title: string; body: string }[] {
  const blocks = readFileSync(path, "utf8").split(/^=== /m).slice(1);
  return blocks.map((block) => {
    const newline = block.indexOf("\n");
    return { title: block.slice(0, newline), body: block.slice(newline + 1) };
  });
}
