import { HaError } from "@hacluster/blockrep/base";
import { Command, CommanderError } from "commander";
import { blockrepCommand } from "./commands/blockrep/blockrep.ts";
import { clStatusCommand } from "./commands/cl-status.ts";
import { configCommand } from "./commands/config.ts";
import { CommandFailure, complain, exitCodeOf } from "./commands/context.ts";
import { daemonCommand } from "./commands/daemon.ts";
import { fenceCommands } from "./commands/fence.ts";
import { moveCommands } from "./commands/move.ts";
import { startCommand } from "./commands/start.ts";
import { statusCommand } from "./commands/status.ts";
import { stopCommand } from "./commands/stop.ts";
import { programVersion } from "./commands/version.ts";
import { ExitCode } from "./exit-codes.ts";

/** The whole command line as commander knows it; separate from `main` so that tests and the manual page can walk it. */
export function createProgram(): Command {
  const program = new Command("hacluster")
    .description("Keeps a service running on one of two machines and its disk identical on both.")
    .version(programVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .addHelpText(
      "after",
      `
Files: /etc/ha.d/ha.cf, authkeys, haresources; /etc/drbd.conf or /etc/drbd.d/*.res
Exit codes: 0 done, 1 failed, 2 wrong usage; "hacluster blockrep" adds drbdadm's (11 refused, 17 no UpToDate data)

First steps on two nodes:
  hacluster config                      are the files understood?
  hacluster blockrep create-md r0       on both nodes, once
  hacluster blockrep up r0              on both nodes
  hacluster blockrep primary --force r0 on the node whose data count, once; then mkfs
  hacluster start                       on both nodes, now and after every boot`,
    );
  program.addCommand(startCommand());
  program.addCommand(stopCommand());
  program.addCommand(statusCommand());
  for (const command of moveCommands()) program.addCommand(command);
  program.addCommand(clStatusCommand());
  for (const command of fenceCommands()) program.addCommand(command);
  program.addCommand(blockrepCommand());
  program.addCommand(configCommand());
  program.addCommand(daemonCommand(), { hidden: true });
  // sub-commands made on their own do not inherit this by themselves
  const walk = (command: Command, name: string): void => {
    command.exitOverride().showHelpAfterError(`(run "${name} --help" to see what can be written)`);
    for (const child of command.commands) walk(child, `${name} ${child.name()}`);
  };
  walk(program, "hacluster");
  return program;
}

/** Entry point of the `hacluster` command. Sets the exit code; never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    await createProgram().parseAsync(backendOptionsLast(withOldName(argv)));
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** Names under which a link to this program may stand: the commands of Heartbeat and dopd that scripts call. */
const OLD_NAMES: ReadonlyMap<string, string> = new Map([
  ["cl_status", "cl_status"],
  ["hb_standby", "standby"],
  ["hb_takeover", "takeover"],
  ["drbd-peer-outdater", "outdate-peer"],
]);

/** Called as `hb_standby local`, the program does `hacluster standby local`. */
export function withOldName(argv: readonly string[]): string[] {
  const [node = "", script = "", ...args] = argv;
  const command = OLD_NAMES.get(script.slice(script.lastIndexOf("/") + 1));
  return command === undefined ? [...argv] : [node, script, command, ...args];
}

/** drbdadm's old way to write options for its backend, `-- --force create-md r0`, as `create-md r0 --force`. */
export function backendOptionsLast(argv: readonly string[]): string[] {
  const dashes = argv.indexOf("--");
  if (dashes < 0 || !argv.slice(0, dashes).includes("blockrep")) return [...argv];
  const rest = argv.slice(dashes + 1);
  const verb = rest.findIndex((word) => !word.startsWith("-"));
  if (verb <= 0) return [...argv];
  return [...argv.slice(0, dashes), ...rest.slice(verb), ...rest.slice(0, verb)];
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.done : ExitCode.usage;
  if (error instanceof CommandFailure) {
    if (error.message !== "") complain(error.message);
    return error.exitCode;
  }
  if (error instanceof HaError) {
    complain(`hacluster: ${error.message}`);
    return exitCodeOf(error);
  }
  complain(`hacluster: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  return ExitCode.failed;
}
