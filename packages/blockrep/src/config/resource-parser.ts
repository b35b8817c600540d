import type { SourcePosition } from "../base/index.ts";
import {
  duplicateReporter,
  newVolume,
  parseAddress,
  parseHostBody,
  parseHostNames,
  parseVolume,
  parseVolumeStatement,
  type VolumeDraft,
} from "./host-parser.ts";
import { emptySections, type HostConfig, type OptionSection, type OptionSections, type ProxyPlugin } from "./model.ts";
import { parseBlock, parseOptions, parseProxySection } from "./option-parser.ts";
import { findOption, sectionWords } from "./options.ts";
import { describe, likelyWord, type TokenStream } from "./token-stream.ts";
import { parseValue } from "./values.ts";

const SECTION_NAMES: readonly (OptionSection | "syncer")[] = [
  "net",
  "disk",
  "syncer",
  "startup",
  "handlers",
  "options",
  "proxy",
];

const RESOURCE_WORDS: readonly string[] = [
  "on",
  "floating",
  "stacked-on-top-of",
  "protocol",
  "device",
  "meta-disk",
  "flexible-meta-disk",
  "volume",
  ...SECTION_NAMES,
];

/** What stands in `resource NAME {}` or `common {}`. */
export interface ResourceBody {
  readonly sections: OptionSections;
  readonly plugins: ProxyPlugin[];
  readonly hosts: HostConfig[];
  /** `device`, `disk`, `meta-disk` and `volume` of the resource itself: what its hosts inherit. */
  readonly volumes: VolumeDraft[];
  /** Sections and statements seen, for those that may stand once. */
  readonly seen: Map<string, SourcePosition>;
}

/** Read up to the closing brace; the opening one is taken. `title` names the section in messages. */
export function parseResourceBody(stream: TokenStream, title: string): ResourceBody {
  const body: ResourceBody = { sections: emptySections(), plugins: [], hosts: [], volumes: [], seen: new Map() };
  parseBlock(stream, title, () => parseStatement(stream, body, title));
  return body;
}

function parseStatement(stream: TokenStream, body: ResourceBody, title: string): void {
  const token = stream.current;
  const { at } = token;
  const once = (what: string): void => {
    duplicateReporter(stream)(what, at, body.seen.get(what));
    body.seen.set(what, at);
  };
  if (stream.accept("protocol")) {
    once("protocol");
    const value = stream.string("the protocol", false);
    stream.semicolon(`protocol ${value.text}`);
    const option = findOption("net", "protocol");
    const result = option === undefined ? undefined : parseValue(option, value.text);
    if (result !== undefined && "fault" in result) {
      stream.diagnostics.error(value.at, result.fault.message, result.fault.hint);
    } else body.sections.net.push({ name: "protocol", value: value.text.toUpperCase(), at, valueAt: value.at });
    return;
  }
  if (token.kind === "word" && (SECTION_NAMES as readonly string[]).includes(token.text)) {
    stream.take();
    if (token.text === "disk" && !stream.is("{")) {
      const path = stream.string("the path of the disk", false).text;
      stream.semicolon(`disk ${path}`);
      const volume = implicitVolume(body, at);
      duplicateReporter(stream)("disk", at, volume.disk?.at);
      volume.disk = { path, at };
      return;
    }
    stream.openBrace(token.text);
    once(`section ${token.text}`);
    if (token.text === "proxy") parseProxySection(stream, body.sections, body.plugins);
    else parseOptions(stream, token.text as OptionSection | "syncer", body.sections);
    return;
  }
  if (stream.accept("volume")) {
    body.volumes.push(parseVolume(stream, at));
    return;
  }
  if (stream.is("on") || stream.is("floating") || stream.is("stacked-on-top-of")) {
    body.hosts.push(parseHost(stream));
    return;
  }
  if (stream.accept("ignore-on")) {
    const host = stream.string("a host name", false).text;
    stream.semicolon(`ignore-on ${host}`);
    if (body.hosts.length > 0) stream.diagnostics.error(at, "ignore-on stands behind a host section", "put it before");
    else stream.diagnostics.warning(at, "ignore-on is deprecated and has no effect", "remove it");
    return;
  }
  if (stream.is("device") || stream.is("meta-disk") || stream.is("flexible-meta-disk")) {
    parseVolumeStatement(stream, implicitVolume(body, at), true);
    return;
  }
  if (stream.is("address")) {
    stream.take();
    stream.fail(at, "an address belongs to a host", 'write it into "on HOST { }"');
  }
  stream.take();
  const near = token.kind === "word" ? likelyWord(token.text, RESOURCE_WORDS) : undefined;
  const home = token.kind === "word" ? homeOf(token.text) : undefined;
  const hint =
    home !== undefined
      ? `write it into "${home} { }"`
      : near !== undefined
        ? `did you mean ${near}?`
        : token.text === ";"
          ? "remove it: nothing stands before it"
          : `here stand ${RESOURCE_WORDS.join(", ")}`;
  if (token.text === ";") {
    stream.diagnostics.error(at, `unexpected ";" in ${title}`, hint);
    return;
  }
  stream.fail(at, `unexpected ${describe(token)} in ${title}`, hint);
}

function implicitVolume(body: ResourceBody, at: SourcePosition): VolumeDraft {
  const present = body.volumes.find((v) => v.implicit);
  if (present !== undefined) return present;
  const volume = newVolume(0, true, at);
  body.volumes.push(volume);
  return volume;
}

function parseHost(stream: TokenStream): HostConfig {
  const { text, at } = stream.take();
  if (text === "on") {
    const names = parseHostNames(stream, "on");
    const head = { kind: "on", names, lower: undefined, address: undefined, at } as const;
    return parseHostBody(stream, head, `section on ${names.join(" ")}`);
  }
  if (text === "stacked-on-top-of") {
    const lower = stream.string("the name of the lower resource", false).text;
    stream.openBrace(`stacked-on-top-of ${lower}`);
    const head = { kind: "stacked-on-top-of", names: [], lower, address: undefined, at } as const;
    return parseHostBody(stream, head, `section stacked-on-top-of ${lower}`);
  }
  const address = parseAddress(stream);
  const head = { kind: "floating", names: [], lower: undefined, address, at } as const;
  // the short form ends here; everything else is inherited
  if (stream.accept(";")) return { ...head, volumes: [], options: [], proxy: undefined };
  stream.openBrace("floating ADDRESS:PORT");
  return parseHostBody(stream, head, "section floating");
}

/** The section that knows a word as an option. */
function homeOf(word: string): OptionSection | undefined {
  const sections: readonly OptionSection[] = ["net", "disk", "options", "startup", "handlers"];
  return sections.find((section) => sectionWords(section).has(word));
}
