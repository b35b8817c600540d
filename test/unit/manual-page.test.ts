import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { backendOptionsLast, createProgram } from "hacluster/unstable/main";

const PAGE = readFileSync(fileURLToPath(new URL("../../../packages/cli/man/hacluster.8", import.meta.url)), "utf8");
/** Without troff's escapes: what a reader sees. */
const TEXT = PAGE.replace(/\\f[BIRP]/g, "").replaceAll("\\-", "-");

function has(word: string): boolean {
  return new RegExp(`(?<![\\w-])${word}(?![\\w-])`).test(TEXT);
}

function walk(command: Command, path: string, visit: (command: Command, path: string) => void): void {
  for (const child of command.commands) {
    visit(child, `${path} ${child.name()}`);
    walk(child, `${path} ${child.name()}`, visit);
  }
}

test("manual page: every command and every option of the program is in it", () => {
  const absent: string[] = [];
  let commands = 0;
  walk(createProgram(), "hacluster", (command, path) => {
    commands++;
    if (!has(command.name())) absent.push(path);
    for (const option of command.options) {
      const flag = option.long ?? option.short ?? "";
      if (!has(flag)) absent.push(`${path} ${flag}`);
    }
  });
  assert.ok(commands > 60);
  assert.deepEqual(absent, []);
});

test("manual page: no verb of blockrep that the program does not have", () => {
  const names = new Set<string>();
  walk(createProgram(), "", (command) => names.add(command.name()));
  const section = /^\.SS blockrep$([\s\S]*?)^\.SS /m.exec(PAGE)?.[1] ?? "";
  const verbs = [...section.matchAll(/^\.TP\n\.B (.*?)\\fR/gm)].flatMap((m) =>
    (m[1] ?? "").replaceAll("\\-", "-").split(", "),
  );
  assert.ok(verbs.length > 40);
  assert.deepEqual(
    verbs.filter((verb) => !names.has(verb)),
    [],
  );
});

test("options for drbdadm's backend may stand before the verb, behind two dashes", () => {
  const start = ["node", "hacluster", "blockrep"];
  assert.deepEqual(backendOptionsLast([...start, "--", "--force", "create-md", "r0"]), [
    ...start,
    "create-md",
    "r0",
    "--force",
  ]);
  assert.deepEqual(backendOptionsLast([...start, "primary", "--", "r0"]), [...start, "primary", "--", "r0"]);
  assert.deepEqual(backendOptionsLast(["node", "hacluster", "status"]), ["node", "hacluster", "status"]);
});
