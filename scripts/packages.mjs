// The Debian packages that the project uses, in one place. `--tests`: all that the tests need; `--demo`: the demo's;
// `--bench`: the benchmark's.
import { pathToFileURL } from "node:url";

/** Compiles fs-ext at npm install. */
export const BUILD = ["make", "g++", "python3"];
/** What the demo runs: nodes, device, filesystem, service, addresses. */
export const DEMO = [
  "apache2",
  "e2fsprogs",
  "fuse3",
  "iproute2",
  "iputils-arping",
  "iputils-ping",
  "libnbd-bin",
  "nftables",
  "procps",
  "psmisc",
  "util-linux",
];
/** Judges and peers in the tests. */
export const TESTS = [
  "curl",
  "drbd-utils",
  "fio",
  "heartbeat",
  "nbdkit",
  "qemu-utils",
  "resource-agents",
  "tcpdump",
  "tshark",
  "user-mode-linux",
];

/** The load generator, and the peers that `npm run bench` measures where they are installed. */
export const BENCH = ["fio", "nbdkit", "qemu-system-common", "qemu-utils"];

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const lists = { "--build": BUILD, "--demo": DEMO, "--tests": [...BUILD, ...DEMO, ...TESTS], "--bench": BENCH };
  const list = lists[process.argv[2]];
  if (list === undefined) {
    console.error("usage: packages.mjs --build | --demo | --tests | --bench");
    process.exitCode = 2;
  } else console.log(list.join(" "));
}
