import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** Which folders of its own package a folder may import; the order of the keys is the order of the layers. */
const LAYERS: Record<string, readonly string[]> = {
  base: [],
  wire: ["base"],
  meta: ["base"],
  config: ["base"],
  core: ["base", "wire", "meta", "config"],
  nbd: ["base", "wire", "meta", "config", "core", "drivers"],
  drivers: ["base", "wire", "meta", "config", "core"],
  daemon: ["base", "wire", "meta", "config", "core", "drivers", "nbd"],
};
const PURE = new Set(["base", "wire", "meta", "config", "core"]);
const PURE_NBD = /\/nbd\/(handshake|transmission|constants)\.ts$/;
const IMPORT = /(?:^|\n)\s*(?:import|export)\s[^;]*?from\s+"([^"]+)"|import\("([^"]+)"\)|(?:^|\n)import\s+"([^"]+)"/g;

export function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "dist" || entry.name === "node_modules" ? [] : sources(path);
    return entry.name.endsWith(".ts") ? [path] : [];
  });
}

function importsOf(text: string): string[] {
  return [...text.matchAll(IMPORT)].map((m) => m[1] ?? m[2] ?? m[3] ?? "");
}

function stripComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|[^:"'`])\/\/.*$/gm, "$1");
}

const files = ["blockrep", "heartbeat", "cli"].flatMap((name) => sources(join(root, "packages", name, "src")));

test("layers: imports point one way", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const path = relative(root, file);
    const [, packageName, , layer] = path.split("/") as [string, string, string, string];
    for (const target of importsOf(readFileSync(file, "utf8"))) {
      if (target.startsWith("@hacluster/") || target === "hacluster") {
        const allowed =
          packageName === "cli"
            ? target.split("/").length === 2 || target === "@hacluster/blockrep/base"
            : packageName === "heartbeat" && target === "@hacluster/blockrep/base";
        if (!allowed) wrong.push(`${path} imports ${target}`);
      }
      if (!target.startsWith(".") || packageName === "cli" || !(layer in LAYERS)) continue;
      const resolved = relative(join(root, "packages", packageName, "src"), join(file, "..", target));
      const targetLayer = resolved.split("/")[0] as string;
      if (targetLayer === layer || !resolved.includes("/")) continue;
      if (!(LAYERS[layer] as readonly string[]).includes(targetLayer)) wrong.push(`${path} imports ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test("layers: pure folders have no I/O, clock, chance, promise or log", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const path = relative(root, file);
    const layer = path.split("/")[3] as string;
    if (!PURE.has(layer) && !PURE_NBD.test(path)) continue;
    const text = stripComments(readFileSync(file, "utf8"));
    for (const target of importsOf(text)) {
      const digest = target === "node:crypto" && (layer === "wire" || layer === "meta");
      if (!target.startsWith(".") && target !== "@hacluster/blockrep/base" && !digest) wrong.push(`${path}: ${target}`);
    }
    for (const banned of [
      /\bDate\b/,
      /\bMath\.random\b/,
      /\bset(Timeout|Interval|Immediate)\b/,
      /\bPromise\b/,
      /\bawait\b/,
      /\basync\b/,
      /\bprocess\b(?!\w)\s*\./,
      /\bconsole\./,
      /\bqueueMicrotask\b/,
    ]) {
      if (banned.test(text)) wrong.push(`${path}: ${banned.source}`);
    }
  }
  assert.deepEqual(wrong, []);
});
