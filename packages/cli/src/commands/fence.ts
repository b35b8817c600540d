import { Command } from "commander";
import { textOf } from "../control/protocol.ts";
import { CommandFailure, complain, print } from "./context.ts";
import { callHeartbeat } from "./control.ts";

/** Longest wait for the other node's answer, as drbd-peer-outdater has it. */
const OUTDATE_SECONDS = "60";

/** `hacluster fence-confirm` and `hacluster outdate-peer`. */
export function fenceCommands(): Command[] {
  return [fenceConfirmCommand(), outdatePeerCommand()];
}

function fenceConfirmCommand(): Command {
  return new Command("fence-confirm")
    .description("say that a node whose reset is waited for is surely down: the takeover goes on")
    .argument("<node>", "the dead node; if it still runs, services and data are damaged")
    .action(async (node: string) => {
      print(textOf(await callHeartbeat("fence-confirm", { node: node.toLowerCase() })));
    });
}

/** DRBD's fence-peer handler over heartbeat's links; takes the options of drbd-peer-outdater. */
export function outdatePeerCommand(name = "outdate-peer"): Command {
  return new Command(name)
    .description("fence-peer handler: have the other node call its copy Outdated (what drbd-peer-outdater did)")
    .argument("[resource]", "default: $DRBD_RESOURCE, which a handler has")
    .option("-t, --timeout <seconds>", "how long to wait for the other node's answer", OUTDATE_SECONDS)
    .action(async (argument: string | undefined, options: { timeout: string }) => {
      const resource = argument ?? process.env["DRBD_RESOURCE"];
      if (resource === undefined || resource === "") {
        throw new CommandFailure(`hacluster: name a resource: "hacluster ${name} r0"`, 2);
      }
      const seconds = Number(options.timeout);
      if (!(seconds > 0 && seconds <= 3600)) {
        throw new CommandFailure(`hacluster: --timeout ${options.timeout}: write seconds, 1 to 3600`, 2);
      }
      const answer = (await callHeartbeat("outdate-peer", { resource, timeoutMs: Math.round(seconds * 1000) })) as {
        readonly text: string;
        readonly exitCode: number;
      };
      complain(answer.text);
      // the exit code is the answer: 3 inconsistent, 4 outdated, 5 unreachable, 6 primary, 7 fenced
      throw new CommandFailure("", answer.exitCode);
    });
}
