import type { OptionSection, OptionSections, OptionSetting, ProxyPlugin } from "./model.ts";
import { FORGOTTEN, findOption, type OptionWord, sectionWords } from "./options.ts";
import { describe, likelyWord, listWords, StatementBroken, type TokenStream } from "./token-stream.ts";
import { parseValue } from "./values.ts";

/** Read statements up to the closing brace, going on behind each broken one. The opening brace is already taken. */
export function parseBlock(stream: TokenStream, what: string, statement: () => void): void {
  const opened = stream.behind.line;
  while (!stream.is("}")) {
    if (stream.atEnd) {
      const message = `${what}, opened in line ${opened}, is not closed at the end of the file`;
      stream.diagnostics.error(stream.current.at, message, 'write "}" where it ends');
      return;
    }
    const before = stream.current;
    try {
      statement();
    } catch (error) {
      if (!(error instanceof StatementBroken)) throw error;
      stream.recover();
      // a stray symbol that recovery does not pass must not stop the reader
      if (stream.current === before && !stream.is("}")) stream.take();
    }
  }
  stream.take();
}

/** The options of one section into `into`, each under its 8.4 name and in its 8.4 section. */
export function parseOptions(stream: TokenStream, section: OptionSection | "syncer", into: OptionSections): void {
  parseBlock(stream, `section ${section}`, () => parseOption(stream, section, into));
}

function parseOption(stream: TokenStream, section: OptionSection | "syncer", into: OptionSections): void {
  const words = sectionWords(section);
  const name = stream.take();
  const word = name.kind === "word" ? words.get(name.text) : undefined;
  if (word === undefined) {
    if (name.kind === "word" && (section === "net" || section === "disk") && FORGOTTEN.has(name.text)) {
      stream.string(`the value of ${name.text}`, true);
      stream.semicolon(name.text);
      stream.diagnostics.warning(
        name.at,
        `${name.text} is an option of DRBD 8.3 without effect since 8.4`,
        "remove it",
      );
      return;
    }
    if (name.text === ";") stream.fail(name.at, 'unexpected ";"', "remove it: nothing stands before it");
    const elsewhere = name.kind === "word" ? otherSection(section, name.text) : undefined;
    const near = likelyWord(name.text, words.keys());
    const hint =
      elsewhere !== undefined
        ? `it belongs into section ${elsewhere}`
        : near === undefined
          ? listWords(`section ${section}`, words.keys())
          : `did you mean ${near}?`;
    stream.fail(name.at, `unknown option ${describe(name)} in section ${section}`, hint);
  }
  const { option } = word;
  const at = name.at;
  const setting = (value: string | undefined, valueAt = at): OptionSetting => ({
    name: option.name,
    value,
    at,
    valueAt,
  });
  const list = into[option.section];

  switch (option.type.kind) {
    case "flag":
      stream.semicolon(name.text);
      replace(list, setting(undefined));
      return;
    case "boolean":
      list.push(setting(parseBoolean(stream, word, name.text)));
      return;
    case "names": {
      const names: string[] = [];
      const valueAt = stream.current.at;
      do names.push(stream.string(`a host name of ${name.text}`, false).text);
      while (!stream.is(";") && !stream.is("}") && !stream.atEnd && stream.current.at.line === stream.behind.line);
      stream.semicolon(name.text);
      replace(list, setting(names.join(" "), valueAt));
      return;
    }
    default: {
      const token = stream.string(`the value of ${name.text}`, true);
      // a quoted value may be long, and a secret does not belong into a message
      stream.semicolon(
        token.kind === "string" || option.name === "shared-secret" ? name.text : `${name.text} ${token.text}`,
      );
      const result = parseValue(option, token.text);
      if ("fault" in result) {
        stream.diagnostics.error(token.at, result.fault.message, result.fault.hint);
        return;
      }
      list.push(setting(option.name === "protocol" ? String(result.value) : token.text, token.at));
    }
  }
}

/** Of these options the later statement takes the place of the earlier one. */
function replace(list: OptionSetting[], setting: OptionSetting): void {
  const previous = list.findIndex((s) => s.name === setting.name);
  if (previous !== -1) list.splice(previous, 1);
  list.push(setting);
}

function parseBoolean(stream: TokenStream, word: OptionWord, spelling: string): string {
  if (word.negated) {
    const { current } = stream;
    if (stream.is("yes") || stream.is("no")) {
      const opposite = current.text === "yes" ? "no" : "yes";
      stream.fail(current.at, `${spelling} takes no value`, `write "${word.option.name} ${opposite};"`);
    }
    stream.semicolon(spelling);
    return "no";
  }
  const { current } = stream;
  if (stream.is("yes") || stream.is("no")) {
    stream.take();
    stream.semicolon(`${spelling} ${current.text}`);
    return current.text;
  }
  const misspelt = !stream.is(";") && !stream.is("}") && current.at.line === stream.behind.line && !stream.atEnd;
  if (misspelt) stream.fail(current.at, `${spelling} cannot be ${describe(current)}`, "write yes or no");
  stream.semicolon(spelling);
  return "yes";
}

function otherSection(section: OptionSection | "syncer", name: string): string | undefined {
  const sections: readonly OptionSection[] = ["net", "disk", "options", "startup", "handlers"];
  return sections.find((s) => s !== section && (findOption(s, name) !== undefined || sectionWords(s).has(name)));
}

/** `proxy {}` at the resource: its options and `plugin { NAME VALUES; }`. */
export function parseProxySection(stream: TokenStream, into: OptionSections, plugins: ProxyPlugin[]): void {
  parseBlock(stream, "section proxy", () => parseProxyStatement(stream, into, plugins));
}

export function parseProxyStatement(stream: TokenStream, into: OptionSections, plugins: ProxyPlugin[]): void {
  if (!stream.accept("plugin")) {
    parseOption(stream, "proxy", into);
    return;
  }
  stream.openBrace("plugin");
  parseBlock(stream, "section plugin", () => {
    const words: string[] = [];
    while (!stream.is(";") && !stream.is("}") && !stream.atEnd) words.push(stream.take().text);
    stream.semicolon("this plugin");
    plugins.push(words);
  });
}
