import { Diagnostics, type SourcePosition } from "../base/index.ts";
import { reportEffects } from "./effects.ts";
import { parseGlobal } from "./global-parser.ts";
import { duplicateReporter } from "./host-parser.ts";
import { withTemplates } from "./inheritance.ts";
import { type SourceFile, tokenize } from "./lexer.ts";
import type { CommonConfig, DrbdConfig, GlobalConfig, ResourceConfig } from "./model.ts";
import { parseResourceBody } from "./resource-parser.ts";
import { describe, likelyWord, StatementBroken, TokenStream } from "./token-stream.ts";
import { validate } from "./validate.ts";

/** Files of an `include`, or why there are none. The reader resolves globs, relative to the including file. */
export type IncludeResult = readonly SourceFile[] | { readonly error: string };
export type IncludeReader = (pattern: string, includingFile: string) => IncludeResult;

export interface ParseResult {
  readonly config: DrbdConfig;
  readonly diagnostics: Diagnostics;
}

/** Deepest nesting of includes, as in DRBD's scanner; it also ends a file that includes itself. */
export const INCLUDE_DEPTH_MAX = 10;

/**
 * Read a drbd.conf of DRBD 8.4, with the spellings of 8.3. Goes on after each error, so that one run shows them all; the
 * configuration is what could be understood, and nothing may start from it while `diagnostics.hasErrors`.
 * @see DRBD 8.4 drbd.conf(5)
 */
export function parseDrbdConf(main: SourceFile, include: IncludeReader = () => []): ParseResult {
  const parser = new Parser(include, new Diagnostics());
  parser.parseFile(main, 0);
  return parser.finish(main.file);
}

/** Like `parseDrbdConf` for several files side by side, as `global_common.conf` and the `*.res` without a drbd.conf. */
export function parseDrbdConfFiles(
  file: string,
  sources: readonly SourceFile[],
  include: IncludeReader = () => [],
): ParseResult {
  const parser = new Parser(include, new Diagnostics());
  for (const source of sources) parser.parseFile(source, 1);
  return parser.finish(file);
}

const TOP_WORDS = ["global", "common", "resource", "skip", "include"];
class Parser {
  readonly #include: IncludeReader;
  readonly #diagnostics: Diagnostics;
  #global: GlobalConfig | undefined;
  #common: CommonConfig | undefined;
  readonly #resources: ResourceConfig[] = [];

  constructor(include: IncludeReader, diagnostics: Diagnostics) {
    this.#include = include;
    this.#diagnostics = diagnostics;
  }

  finish(file: string): ParseResult {
    const config: DrbdConfig = { file, global: this.#global, common: this.#common, resources: this.#resources };
    const checked = validate(config, this.#diagnostics);
    reportEffects(checked, this.#diagnostics);
    sortByPlace(this.#diagnostics);
    return { config: checked, diagnostics: this.#diagnostics };
  }

  parseFile(source: SourceFile, depth: number): void {
    const stream = new TokenStream(tokenize(source, this.#diagnostics), this.#diagnostics);
    while (!stream.atEnd) {
      const before = stream.current;
      try {
        this.#topLevel(stream, depth);
      } catch (error) {
        if (!(error instanceof StatementBroken)) throw error;
        stream.recover();
        if (stream.current === before || stream.is("}")) stream.take();
      }
    }
  }

  #topLevel(stream: TokenStream, depth: number): void {
    const token = stream.current;
    const { at } = token;
    const duplicate = duplicateReporter(stream);
    if (stream.accept("global")) {
      stream.openBrace("global");
      duplicate("section global", at, this.#global?.at);
      if (this.#resources.length > 0) {
        stream.diagnostics.warning(at, "section global stands behind a resource", "put it in front of every resource");
      }
      this.#global = parseGlobal(stream, at);
    } else if (stream.accept("common")) {
      stream.openBrace("common");
      duplicate("section common", at, this.#common?.at);
      const body = parseResourceBody(stream, "section common");
      for (const host of body.hosts) {
        stream.diagnostics.error(host.at, "a host section cannot stand in common", "put it into a resource");
      }
      this.#common = { at, sections: body.sections, plugins: body.plugins };
    } else if (stream.accept("resource")) {
      const name = stream.string("the name of the resource", false).text;
      stream.openBrace(`resource ${name}`);
      duplicate(`resource ${name}`, at, this.#resources.find((r) => r.name === name)?.at);
      const { sections, plugins, hosts, volumes } = parseResourceBody(stream, `resource ${name}`);
      this.#resources.push({ name, at, sections, plugins, hosts: withTemplates(hosts, volumes) });
    } else if (stream.accept("skip")) {
      this.#skip(stream);
    } else if (stream.accept("include")) {
      this.#includeFiles(stream, token.at, depth);
    } else {
      const near = token.kind === "word" ? likelyWord(token.text, TOP_WORDS) : undefined;
      const hint = near !== undefined ? `did you mean ${near}?` : `here stand ${TOP_WORDS.join(", ")}`;
      stream.take();
      stream.fail(at, `unexpected ${describe(token)} outside of any section`, hint);
    }
  }

  #skip(stream: TokenStream): void {
    const { at } = stream.current;
    if (!stream.is("{")) stream.string("the note behind skip", false);
    stream.openBrace("skip");
    for (let depth = 1; depth > 0; ) {
      if (stream.atEnd) stream.fail(at, "this skip block is not closed at the end of the file", 'write "}"');
      if (stream.is("{")) depth++;
      if (stream.is("}")) depth--;
      stream.take();
    }
  }

  #includeFiles(stream: TokenStream, at: SourcePosition, depth: number): void {
    const pattern = stream.string("the name of the included file", false).text;
    stream.semicolon("include");
    if (depth >= INCLUDE_DEPTH_MAX) {
      const hint = "does a file include itself?";
      stream.diagnostics.error(at, `includes are nested deeper than ${INCLUDE_DEPTH_MAX}`, hint);
      return;
    }
    const result = this.#include(pattern, at.file);
    if ("error" in result) {
      stream.diagnostics.error(at, `cannot include "${pattern}": ${result.error}`, "correct the name or remove it");
      return;
    }
    for (const source of result) this.parseFile(source, depth + 1);
  }
}

/** Findings in the order of the text: scanner, parser and checks have each added theirs. */
function sortByPlace(diagnostics: Diagnostics): void {
  const files = [...new Set(diagnostics.items.map(({ at }) => at.file))];
  diagnostics.items.sort(
    ({ at: a }, { at: b }) => files.indexOf(a.file) - files.indexOf(b.file) || a.line - b.line || a.column - b.column,
  );
}
