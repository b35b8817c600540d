import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Stage } from "./stage.ts";

// compiled to build/test/scenarios; the transcripts stay in the sources. REWRITE=1 writes what happens now into them.
const folder = fileURLToPath(new URL("../../../test/scenarios", import.meta.url));

/** Text in between stays; each step is a line "> command", then "----", then what it gave, then an empty line. */
function perform(text: string): string {
  const stage = new Stage();
  const out: string[] = [];
  let skipping = false;
  for (const line of text.split("\n")) {
    if (skipping && line !== "") continue;
    skipping = false;
    out.push(line);
    if (!line.startsWith("> ")) continue;
    const result = stage.run(line.slice(2));
    if (result.length === 0) continue;
    out.push("----", ...result);
    skipping = true;
  }
  return out.join("\n");
}

for (const name of readdirSync(folder).filter((file) => file.endsWith(".txt"))) {
  test(`scenario ${name}`, () => {
    const path = join(folder, name);
    const text = readFileSync(path, "utf8");
    const now = perform(text);
    if (process.env["REWRITE"] === "1") writeFileSync(path, now);
    else assert.equal(now, text, `REWRITE=1 npm test -- test/scenarios accepts the new one`);
  });
}
