// npm test [-- FOLDER-OR-FILE ...] [--grep TEXT]: set up, then run the tests below build/test (all of them by default).
// Closes with "N passed, N failed, N skipped". With CI=true a skip for want of a package or of root is a failure.
import { existsSync, readdirSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { run } from "node:test";
import { ensureReady, root } from "./setup.mjs";

const wanted = [];
const patterns = [];
const args = process.argv.slice(2);
for (let i = 0; i < args.length; i++) {
  if (args[i] === "--grep") patterns.push(new RegExp(args[++i] ?? "", "i"));
  else wanted.push(args[i]);
}

ensureReady(process.env.CI === "true");

const built = join(root, "build/test");

function testFiles(path) {
  if (!existsSync(path)) throw new Error(`no such test: ${path}`);
  if (statSync(path).isFile()) return [path];
  return readdirSync(path, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const child = join(path, entry.name);
      if (entry.isDirectory()) return testFiles(child);
      // a test whose source is gone stays in build/ until the next clean
      return entry.name.endsWith(".test.js") && existsSync(sourceOf(child)) ? [child] : [];
    });
}

function sourceOf(compiled) {
  return join(root, "test", relative(built, compiled)).replace(/\.js$/, ".ts");
}

function compiledOf(name) {
  const inTest = relative(join(root, "test"), resolve(root, name));
  return join(built, inTest).replace(/\.ts$/, ".js");
}

// interop with kernel DRBD in User-Mode Linux has a command of its own, since it takes minutes
const defaultFolders = readdirSync(built, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && existsSync(join(root, "test", entry.name)) && entry.name !== "interop")
  .map((entry) => join(built, entry.name));
const files = (wanted.length > 0 ? wanted.map(compiledOf) : defaultFolders).flatMap(testFiles);

let passed = 0;
let failed = 0;
let skipped = 0;
const skips = [];
const failures = [];
const started = Date.now();

// Tests with mounts, namespaces and daemons run one after the other: a namespace that is made while another test has a
// filesystem mounted takes a copy of that mount with it, and then the device stays busy.
const alone = (file) => /\/build\/test\/(e2e|netns|interop)\//.test(file);
for (const [group, concurrency] of [
  [files.filter((file) => !alone(file)), 2],
  [files.filter(alone), 1],
]) {
  if (group.length > 0) await runGroup(group, concurrency);
}

async function runGroup(group, concurrency) {
  const stream = run({
    files: group,
    concurrency,
    ...(patterns.length > 0 ? { testNamePatterns: patterns } : {}),
  });
  stream.on("test:pass", (data) => {
    if (data.details?.type === "suite" || isFileEntry(data)) return;
    if (data.skip !== undefined && data.skip !== false) {
      skipped++;
      skips.push(`${data.name}: ${data.skip}`);
    } else passed++;
  });
  stream.on("test:fail", (data) => {
    if (data.details?.type === "suite") return;
    if (isFileEntry(data) && data.details?.error?.failureType === "subtestsFailed") return;
    failed++;
    failures.push(data);
    console.log(`FAIL ${data.name}`);
  });
  stream.on("test:stderr", (data) => process.stderr.write(data.message));
  stream.on("test:stdout", (data) => {
    if (process.env.VERBOSE) process.stdout.write(data.message);
  });
  for await (const _ of stream);
}

function isFileEntry(data) {
  return data.nesting === 0 && typeof data.name === "string" && data.name.endsWith(".test.js");
}

for (const data of failures) {
  const error = data.details?.error;
  console.log(`\nFAIL ${data.name}\n  at ${data.file ? relative(root, data.file) : "?"}:${data.line ?? "?"}`);
  console.log(indent(String(error?.cause?.stack ?? error?.cause ?? error?.stack ?? error)));
}
for (const skip of skips) console.log(`skipped ${skip}`);
if (process.env.CI === "true" && skipped > 0) {
  console.log(
    `with CI=true nothing may be skipped for want of a package or of root: ${skipped} skipped count as failed`,
  );
  process.exitCode = 1;
}
console.log(`test files: ${files.length}, seconds: ${((Date.now() - started) / 1000).toFixed(1)}`);
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
if (failed > 0 || passed === 0) process.exitCode = 1;

function indent(text) {
  return text
    .split("\n")
    .map((line) => `  ${line}`)
    .join("\n");
}
