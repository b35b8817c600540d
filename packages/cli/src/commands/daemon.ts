import { type AttachMethod, metadataTargets, resolveResource, settingsOf } from "@hacluster/blockrep";
import { loadHeartbeatConfig, readNodeName } from "@hacluster/heartbeat";
import { Command } from "commander";
import type { Logger } from "pino";
import { hostName, localAddresses, requireDrbdConfig, requireHeartbeatConfig } from "../configuration.ts";
import { type BlockrepConfiguration, BlockrepDaemon } from "../daemon/blockrep-daemon.ts";
import { withOwnPeerOutdater } from "../daemon/fence-peer.ts";
import { handlerSurroundings, ownsTheMachine, whyNoHandlers } from "../daemon/handler-safety.ts";
import { HeartbeatDaemon, raisePriority } from "../daemon/heartbeat-daemon.ts";
import { createLogger, type LogTargets } from "../daemon/log.ts";
import { reportFailure, reportReady } from "../daemon/start-up.ts";
import { attachOption } from "./options.ts";

const EXIT_GRACE_MS = 1_000;
const FALLBACK_LOG = "/var/log/hacluster.log";

/** `hacluster daemon`: the processes themselves, for systemd and for `hacluster start`. */
export function daemonCommand(): Command {
  const command = new Command("daemon").description("run one of the daemons in the foreground (what systemd starts)");
  command
    .command("blockrep")
    .description("serve one replicated resource: attach, connect, stay")
    .argument("<resource>")
    .option("-c, --config <file>", "read this DRBD configuration")
    .addOption(attachOption())
    .option("--idle", "only serve the control socket; attach and connect when told to")
    .action((name: string, options: BlockrepOptions) => guard(() => runBlockrep(name, options)));
  command
    .command("heartbeat")
    .description("be a node of the cluster: membership, takeover, service groups")
    .action(() => guard(runHeartbeat));
  return command;
}

/** Whoever started us in the background hears why it failed, and systemd sees the exit code. */
async function guard(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    reportFailure(error);
    // what a half-made daemon still holds must not keep a process alive that serves nothing
    setTimeout(() => process.exit(), EXIT_GRACE_MS).unref();
    throw error;
  }
}

interface BlockrepOptions {
  readonly config?: string;
  readonly attach: AttachMethod | "auto";
  readonly idle?: boolean;
}

async function runBlockrep(name: string, options: BlockrepOptions): Promise<void> {
  const logger = createLogger({ ...logTargets(), program: "blockrep", bindings: { resource: name } });
  const runHandlers = handlersAreSafe(logger);
  const read = (): BlockrepConfiguration => {
    const config = requireDrbdConfig(options.config);
    const resolved = resolveResource(config, name, hostName(), { localAddresses: localAddresses() });
    return {
      settings: withOwnPeerOutdater(settingsOf(resolved, { runHandlers })),
      metadata: metadataTargets(resolved),
    };
  };
  const daemon = new BlockrepDaemon({
    ...read(),
    reload: read,
    attachMethod: options.attach,
    logger,
    onDown: () => process.exit(0),
  });
  keepRunning(logger, async () => {
    await daemon.stop();
  });
  try {
    await daemon.start();
    if (options.idle !== true) await upOrAbandon(daemon);
  } catch (error) {
    logger.error({ event: "start.failed" }, error instanceof Error ? error.message : String(error));
    throw error;
  }
  reportReady();
}

async function upOrAbandon(daemon: BlockrepDaemon): Promise<void> {
  try {
    await daemon.up();
  } catch (error) {
    await daemon.abandon();
    throw error;
  }
}

async function runHeartbeat(): Promise<void> {
  const config = requireHeartbeatConfig();
  const { haCf } = config;
  const logger = createLogger({ ...logTargets(), program: "heartbeat", bindings: { node: readNodeName() } });
  let resources: string[] = [];
  try {
    resources = requireDrbdConfig().resources.map((resource) => resource.name);
  } catch {
    logger.info({ event: "config.drbd" }, "no DRBD configuration: service groups without replicated disks");
  }
  const daemon = new HeartbeatDaemon({
    config,
    resources,
    logger,
    mayReboot: ownsTheMachine(handlerSurroundings()),
    onEnd: (code) => process.exit(code),
  });
  if (haCf.realtime) raisePriority(logger);
  keepRunning(logger, () => daemon.stop());
  await daemon.start();
  reportReady();
}

function logTargets(): Omit<LogTargets, "program" | "bindings"> {
  const { haCf } = loadHeartbeatConfig({ checkMachine: false });
  // under a terminal or systemd the lines go to standard error as well; started in the background nobody reads it
  const terminal = process.stderr.isTTY === true || process.env["INVOCATION_ID"] !== undefined;
  if (haCf?.logfile === undefined && haCf?.debugfile === undefined && haCf?.logfacility === undefined) {
    return { logfile: FALLBACK_LOG, terminal };
  }
  return { logfile: haCf.logfile, debugfile: haCf.debugfile, facility: haCf.logfacility, terminal };
}

/** Handlers are the user's commands: they must not reach beyond this node. */
function handlersAreSafe(logger: Logger): boolean {
  const reason = whyNoHandlers(handlerSurroundings());
  if (reason === undefined) return true;
  logger.warn({ event: "handlers.off" }, `${reason}: no handler will be run`);
  return false;
}

/** Signals end the daemon in order; what nobody expected is logged with its stack and ends it at once. */
function keepRunning(logger: Logger, stop: () => Promise<void>): void {
  let stopping = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopping) return;
    stopping = true;
    logger.info({ event: "signal", signal }, `${signal}: stopping`);
    stop().catch((error: unknown) => {
      stopping = false;
      logger.error({ event: "stop.refused" }, error instanceof Error ? error.message : String(error));
    });
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  process.on("SIGHUP", () => logger.info({ event: "signal" }, "SIGHUP: configuration is read at the next start"));
  process.on("SIGPIPE", () => {});
  const die = (error: unknown): void => {
    logger.fatal({ event: "crash" }, error instanceof Error ? (error.stack ?? error.message) : String(error));
    logger.flush();
    setTimeout(() => process.exit(70), 50);
  };
  process.on("uncaughtException", die);
  process.on("unhandledRejection", die);
}
