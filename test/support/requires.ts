import { execFileSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import type { TestContext } from "node:test";

/** What a test needs from the machine. `programs` maps a program to the Debian package that brings it. */
export interface Needs {
  readonly root?: boolean;
  /** A private network namespace can be made (CAP_SYS_ADMIN; not in every container). */
  readonly namespaces?: boolean;
  readonly programs?: Readonly<Record<string, string>>;
  /** Device nodes or other files by path, with what brings them. */
  readonly files?: Readonly<Record<string, string>>;
  /** Asked last, when nothing else is missing: tries it out, and returns the reason why it does not work here. */
  readonly works?: () => string | undefined;
}

const PATH = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** Full path of a program, or undefined where it is not installed. */
export function findProgram(name: string): string | undefined {
  for (const folder of PATH) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not in this folder
    }
  }
  return undefined;
}

/** The reason why this machine cannot run a test, or undefined. Pass it as `{ skip: missing({...}) ?? false }`. */
export function missing(needs: Needs): string | undefined {
  const reasons: string[] = [];
  if (needs.root === true && process.getuid?.() !== 0) reasons.push("needs root");
  for (const [program, debianPackage] of Object.entries(needs.programs ?? {})) {
    if (findProgram(program) === undefined) reasons.push(`needs ${program} (Debian package ${debianPackage})`);
  }
  for (const [path, source] of Object.entries(needs.files ?? {})) {
    try {
      accessSync(path);
    } catch {
      reasons.push(`needs ${path} (${source})`);
    }
  }
  if (needs.namespaces === true && reasons.length === 0) {
    try {
      execFileSync("unshare", ["--net", "--mount", "true"], { stdio: "ignore" });
    } catch {
      reasons.push("needs network and mount namespaces (root outside a restricted container)");
    }
  }
  if (reasons.length === 0) return needs.works?.();
  return reasons.join(", ");
}

/**
 * Skip the running test, with the reason, where the machine lacks something; returns true when it was skipped.
 * With CI=true the runner turns such a skip into a failure, so that no test is lost unnoticed.
 */
export function skipUnless(t: TestContext, needs: Needs): boolean {
  const reason = missing(needs);
  if (reason === undefined) return false;
  t.skip(reason);
  return true;
}
