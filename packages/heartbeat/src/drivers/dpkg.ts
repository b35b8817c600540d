import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type FileOrigin =
  | { readonly kind: "package"; readonly packageName: string }
  | { readonly kind: "changed"; readonly packageName: string }
  | { readonly kind: "own" };

/**
 * Whether a file is as its Debian package left it, was changed since, or belongs to no package. Reads dpkg's database
 * directly, so that it also answers for another root and needs no child process.
 */
export function fileOrigin(path: string, dpkgFolder = "/var/lib/dpkg"): FileOrigin {
  const owner = packageOf(path, dpkgFolder);
  if (owner === undefined) return { kind: "own" };
  const recorded = recordedDigest(path, owner, dpkgFolder);
  if (recorded === undefined) return { kind: "package", packageName: owner };
  const actual = createHash("md5").update(readFileSync(path)).digest("hex");
  return { kind: actual === recorded ? "package" : "changed", packageName: owner };
}

function packageOf(path: string, dpkgFolder: string): string | undefined {
  const info = join(dpkgFolder, "info");
  let names: string[];
  try {
    names = readdirSync(info);
  } catch {
    return undefined; // not a Debian system: every file is the administrator's own
  }
  const line = `\n${path}\n`;
  for (const name of names) {
    if (!name.endsWith(".list")) continue;
    if (`\n${readFileSync(join(info, name), "utf8")}`.includes(line)) return name.slice(0, -".list".length);
  }
  return undefined;
}

/** Configuration files have their digest in `status`, all others in the package's md5sums. */
function recordedDigest(path: string, owner: string, dpkgFolder: string): string | undefined {
  const packageName = owner.split(":")[0] as string;
  const status = readText(join(dpkgFolder, "status"));
  const stanza = status.split("\n\n").find((text) => text.startsWith(`Package: ${packageName}\n`)) ?? "";
  const conffile = stanza.split("\n").find((text) => text.startsWith(` ${path} `));
  if (conffile !== undefined) return conffile.trim().split(" ")[1];
  const sums = readText(join(dpkgFolder, "info", `${owner}.md5sums`));
  const sum = sums.split("\n").find((text) => text.endsWith(`  ${path.slice(1)}`));
  return sum?.split("  ")[0];
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
