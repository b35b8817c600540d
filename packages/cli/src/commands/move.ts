import { Argument, Command } from "commander";
import { textOf } from "../control/protocol.ts";
import { print } from "./context.ts";
import { callHeartbeat } from "./control.ts";

const SETS = ["all", "foreign", "local", "failback"];

/** `hacluster standby` and `hacluster takeover`: what hb_standby and hb_takeover do. */
export function moveCommands(): Command[] {
  return [
    move("standby", "give service groups to the other node (hb_standby)"),
    move("takeover", "take service groups from the other node (hb_takeover)"),
  ];
}

function move(name: "standby" | "takeover", description: string): Command {
  return new Command(name)
    .description(description)
    .addArgument(
      new Argument("[set]", "which groups, as seen from this node; failback is foreign").choices(SETS).default("all"),
    )
    .action(async (set: string) => {
      const result = await callHeartbeat(name, { set: set === "failback" ? "foreign" : set });
      print(textOf(result));
    });
}
