// npm run clean: remove everything that a build makes.
import { rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "./setup.mjs";

for (const path of ["build", "packages/blockrep/dist", "packages/heartbeat/dist", "packages/cli/dist"]) {
  rmSync(join(root, path), { recursive: true, force: true });
}
