import { InvalidArgumentError, Option } from "commander";

/** `--attach METHOD` of `up` and of the daemon. */
export function attachOption(): Option {
  return new Option("--attach <method>", "how the device comes under /dev")
    .choices(["auto", "nbd", "fuse", "none"])
    .default("auto");
}

/** An option such as `-t, --wfc-timeout <seconds>`; the text is kept, once it is known to be a number. */
export function secondsOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    const seconds = Number(text);
    if (text.trim() !== "" && Number.isFinite(seconds) && seconds >= 0) return text;
    throw new InvalidArgumentError("Write a number of seconds.");
  });
}
