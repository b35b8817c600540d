import type { SourcePosition } from "../base/index.ts";
import type { GlobalConfig } from "./model.ts";
import { parseBlock } from "./option-parser.ts";
import { describe, likelyWord, listWords, type TokenStream } from "./token-stream.ts";
import { parseNumber } from "./values.ts";

type GlobalNumber = "minorCount" | "dialogRefresh" | "cmdTimeoutShort" | "cmdTimeoutMedium" | "cmdTimeoutLong";

/** Numbers of `global {}` with their ranges; the timeouts and the refresh are in seconds. */
const NUMBERS: Readonly<Record<string, { readonly field: GlobalNumber; readonly min: number; readonly max: number }>> =
  {
    "minor-count": { field: "minorCount", min: 1, max: 255 },
    "dialog-refresh": { field: "dialogRefresh", min: 0, max: 600 },
    "cmd-timeout-short": { field: "cmdTimeoutShort", min: 0, max: 900 },
    "cmd-timeout-medium": { field: "cmdTimeoutMedium", min: 0, max: 900 },
    "cmd-timeout-long": { field: "cmdTimeoutLong", min: 0, max: 900 },
  };

const WORDS: readonly string[] = [
  ...Object.keys(NUMBERS),
  "usage-count",
  "disable-ip-verification",
  "udev-always-use-vnr",
];

/** `global {}` up to its closing brace; the opening one is taken. Of a repeated statement the later one counts. */
export function parseGlobal(stream: TokenStream, at: SourcePosition): GlobalConfig {
  let global: GlobalConfig = {
    at,
    usageCount: undefined,
    minorCount: undefined,
    dialogRefresh: undefined,
    disableIpVerification: false,
    udevAlwaysUseVnr: false,
    cmdTimeoutShort: undefined,
    cmdTimeoutMedium: undefined,
    cmdTimeoutLong: undefined,
  };
  parseBlock(stream, "section global", () => {
    const name = stream.take();
    const range = NUMBERS[name.text];
    if (name.kind === "word" && range !== undefined) {
      const token = stream.current;
      const value = token.kind === "word" ? parseNumber(token.text, "count") : undefined;
      const hint = `write ${range.min} to ${range.max}`;
      if (value === undefined) stream.fail(token.at, `${describe(token)} is no number for ${name.text}`, hint);
      stream.take();
      stream.semicolon(name.text);
      if (value < range.min || value > range.max) {
        stream.diagnostics.error(token.at, `${name.text} ${token.text} is out of range`, hint);
        return;
      }
      global = { ...global, [range.field]: value };
      return;
    }
    if (name.kind === "word" && name.text === "usage-count") {
      const { text, kind, at: valueAt } = stream.current;
      if (kind !== "word" || (text !== "yes" && text !== "no" && text !== "ask")) {
        stream.fail(valueAt, `usage-count cannot be ${describe(stream.current)}`, "write yes, no or ask");
      }
      stream.take();
      stream.semicolon(name.text);
      global = { ...global, usageCount: text };
      return;
    }
    if (name.kind === "word" && name.text === "disable-ip-verification") {
      stream.semicolon(name.text);
      global = { ...global, disableIpVerification: true };
      return;
    }
    if (name.kind === "word" && name.text === "udev-always-use-vnr") {
      stream.semicolon(name.text);
      global = { ...global, udevAlwaysUseVnr: true };
      return;
    }
    const near = likelyWord(name.text, WORDS);
    const hint = near === undefined ? listWords("section global", WORDS) : `did you mean ${near}?`;
    stream.fail(name.at, `unknown option ${describe(name)} in section global`, hint);
  });
  return global;
}
