#!/usr/bin/env node
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const main = new URL("../dist/main.js", import.meta.url);
if (!existsSync(fileURLToPath(main))) {
  console.error('hacluster: not built yet: run "npm ci && npm run build" in the checkout first');
  process.exit(1);
}
const { main: run } = await import(main.href);
await run(process.argv);
