// The Debian packages that the project uses, in one place. `--tests`: all that the tests need; `--demo`: the demo's.
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

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const lists = { "--build": BUILD, "--demo": DEMO, "--tests": [...BUILD, ...DEMO, ...TESTS] };
  const list = lists[process.argv[2]];
  if (list === undefined) {
    console.error("usage: packages.mjs --build | --demo | --tests");
    process.exitCode = 2;
  } else console.log(list.join(" "));
}
