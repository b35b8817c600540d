import { hostname } from "node:os";
import { dumpDrbdConf, readDrbdConf } from "@hacluster/blockrep";
import type { Diagnostic } from "@hacluster/blockrep/base";
import { loadHeartbeatConfig, serializeAuthkeys, serializeHaCf, serializeHaresources } from "@hacluster/heartbeat";
import { Command } from "commander";
import { ExitCode } from "../exit-codes.ts";
import { CommandFailure, print, showDiagnostics } from "./context.ts";
import { crossChecks } from "./cross-checks.ts";

/** `hacluster config`: all four files as they are understood. Reads files only. */
export function configCommand(): Command {
  return new Command("config")
    .description("show ha.cf, authkeys, haresources and drbd.conf as understood; findings go to standard error")
    .option("--root <dir>", "read DIR/etc/ha.d and DIR/etc/drbd.conf or DIR/etc/drbd.d", "/")
    .option("--json", "the same as JSON, with the findings in it")
    .action((options: { root: string; json?: boolean }) => {
      const heartbeat = loadHeartbeatConfig({ root: options.root });
      const drbd = readDrbdConf({ root: options.root });
      const findings: Diagnostic[] = [...heartbeat.diagnostics.items, ...(drbd?.diagnostics.items ?? [])];
      findings.push(...crossChecks(heartbeat, drbd?.config, options.root));
      if (options.json === true) {
        print(
          JSON.stringify(
            {
              haCf: heartbeat.haCf ?? null,
              authkeys: heartbeat.authkeys === undefined ? null : authkeysForJson(heartbeat.authkeys),
              haresources: heartbeat.haresources ?? null,
              drbd: drbd?.config ?? null,
              findings,
            },
            null,
            2,
          ),
        );
      } else {
        const parts: string[] = [];
        if (heartbeat.haCf !== undefined) parts.push(section(heartbeat.haCf.file, serializeHaCf(heartbeat.haCf)));
        if (heartbeat.authkeys !== undefined) {
          parts.push(section("authkeys", hideKeys(serializeAuthkeys(heartbeat.authkeys))));
        }
        if (heartbeat.haresources !== undefined) {
          parts.push(section(heartbeat.haresources.file, serializeHaresources(heartbeat.haresources)));
        }
        if (drbd !== undefined) parts.push(hideSecrets(dumpDrbdConf(drbd.config, { hostName: hostname() })));
        print(parts.map((part) => part.trimEnd()).join("\n\n"));
      }
      showDiagnostics(findings);
      if (findings.some((finding) => finding.severity === "error")) throw new CommandFailure("", ExitCode.failed);
    });
}

function section(file: string, text: string): string {
  return `# ${file}\n${text}`;
}

/** What is shown on a screen ends up in tickets: keys stay in their file. */
function hideKeys(text: string): string {
  return text.replace(/^(\d+\s+(?:md5|sha1|sha256)\s+).*$/gm, "$1(hidden)");
}

function hideSecrets(text: string): string {
  return text.replace(/^(\s*shared-secret\s+).*$/gm, '$1"(hidden)";');
}

function authkeysForJson(authkeys: NonNullable<ReturnType<typeof loadHeartbeatConfig>["authkeys"]>): unknown {
  return {
    active: authkeys.active,
    keys: [...authkeys.keys].map(([index, { method }]) => ({ index, method })),
  };
}
