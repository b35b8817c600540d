// npm run sim -- --seeds N [--from S] [--seed X --trace] [--only NAME]: the simulator; the last line is the summary.
import { ensureReady, root } from "./setup.mjs";

ensureReady(process.env.CI === "true");
const { main } = await import(new URL("build/test/sim/main.js", `file://${root}/`));
try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
