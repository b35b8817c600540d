// npm run bench [-- --help]: replicated pair and peers side by side over NBD. See bench/options.ts for its flags.
import { spawnSync } from "node:child_process";
import { missingPackages } from "./debian.mjs";
import { BENCH } from "./packages.mjs";
import { ensureReady, root } from "./setup.mjs";

const args = process.argv.slice(2);
ensureReady(process.env.CI === "true");
if (!args.includes("--help") && spawnSync("fio", ["--version"]).status !== 0) {
  const names = missingPackages(BENCH).join(" ");
  console.error(
    `bench: needs fio with its nbd engine, and measures peers that are installed: apt-get install ${names}`,
  );
  process.exit(2);
}
const { main } = await import(new URL("build/bench/main.js", `file://${root}/`));
process.exitCode = await main(args);
