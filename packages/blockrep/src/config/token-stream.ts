import { type Diagnostics, nearestWord, type SourcePosition } from "../base/index.ts";
import type { Token } from "./lexer.ts";
import { KEYWORDS } from "./options.ts";

/** Thrown inside the parser to leave a broken statement; the finding is already recorded. */
export class StatementBroken extends Error {}

/** The tokens of one file with what every rule of the grammar needs: look ahead, demand, recover. */
export class TokenStream {
  readonly diagnostics: Diagnostics;
  readonly #tokens: readonly Token[];
  #index = 0;

  constructor(tokens: readonly Token[], diagnostics: Diagnostics) {
    this.#tokens = tokens;
    this.diagnostics = diagnostics;
  }

  get current(): Token {
    return this.#tokens[this.#index] as Token;
  }

  /** Just behind the last token taken: where something missing belongs. */
  get behind(): SourcePosition {
    return this.#tokens[this.#index - 1]?.end ?? this.current.at;
  }

  get atEnd(): boolean {
    return this.current.kind === "end";
  }

  take(): Token {
    const token = this.current;
    if (!this.atEnd) this.#index++;
    return token;
  }

  /** Is the current token this symbol or bare word? A quoted word is never a keyword. */
  is(text: string): boolean {
    const { kind } = this.current;
    return this.current.text === text && (kind === "punctuation" || kind === "word");
  }

  accept(text: string): boolean {
    if (!this.is(text)) return false;
    this.take();
    return true;
  }

  /** Demand `{`; without it the statement is broken. */
  openBrace(what: string): void {
    if (this.accept("{")) return;
    this.fail(this.behind, `${what} is not followed by "{" but by ${describe(this.current)}`, 'write "{" here');
  }

  /**
   * Demand `;`. When it is only forgotten (the line ends, or a word that starts something follows), the finding points at
   * its place and reading goes on; otherwise the surplus is named and skipped.
   */
  semicolon(what: string): void {
    if (this.accept(";")) return;
    const { current } = this;
    const forgotten =
      this.atEnd ||
      current.at.line > this.behind.line ||
      this.is("}") ||
      (current.kind === "word" && KEYWORDS.has(current.text) && !this.is("yes") && !this.is("no"));
    if (forgotten) {
      this.diagnostics.error(this.behind, `${what} has no ";" at its end`, 'write ";" here');
      return;
    }
    this.fail(current.at, `unexpected ${describe(current)} after ${what}`, 'end the statement with ";" before it');
  }

  /** Record an error and leave the statement. */
  fail(at: SourcePosition, message: string, hint?: string): never {
    this.diagnostics.error(at, message, hint);
    throw new StatementBroken();
  }

  /** Skip the rest of a broken statement: to behind its `;` or its block, or to the `}` that closes the section. */
  recover(): void {
    let depth = 0;
    while (!this.atEnd) {
      if (this.is("{")) depth++;
      else if (this.is("}")) {
        if (depth === 0) return;
        depth--;
        if (depth === 0) {
          this.take();
          return;
        }
      } else if (this.is(";") && depth === 0) {
        this.take();
        return;
      }
      this.take();
    }
  }

  /** A number without suffix, as ports, minors and volume numbers are. */
  integer(what: string, min: number, max: number): number {
    const token = this.current;
    if (token.kind !== "word" || !/^[0-9]+$/.test(token.text)) {
      this.fail(token.at, `expected the number of ${what} but found ${describe(token)}`, `write ${min} to ${max}`);
    }
    this.take();
    const value = Number(token.text);
    if (value < min || value > max) {
      this.diagnostics.error(token.at, `${what} ${token.text} is out of range`, `write ${min} to ${max}`);
    }
    return Math.min(Math.max(value, min), max);
  }

  /** A bare or quoted word that is no keyword; `numeric` allows one that starts like a number. */
  string(what: string, numeric: boolean): Token {
    const token = this.current;
    if (token.kind === "string") return this.take();
    if (token.kind === "word") {
      if (KEYWORDS.has(token.text)) {
        this.fail(
          token.at,
          `"${token.text}" is a keyword and cannot be ${what} bare`,
          `write "${token.text}" in quotes`,
        );
      }
      if (!numeric && isInteger(token.text)) {
        this.fail(token.at, `a bare number cannot be ${what}`, `write "${token.text}" in quotes`);
      }
      return this.take();
    }
    if (token.kind === "ipv4" || token.kind === "ipv6") {
      this.fail(token.at, `a bare address cannot be ${what}`, `write "${token.text}" in quotes`);
    }
    const missing = token.text === ";" || token.text === "}" || token.kind === "end" || token.text === "{";
    if (missing) this.fail(this.behind, `${what} is missing`, "write it here");
    this.fail(token.at, `unexpected ${describe(token)} where ${what} belongs`, "put it in quotes if it is part of it");
  }
}

/** The known word that a misspelt one most likely means; words of a few letters are near to too many. */
export function likelyWord(word: string, known: Iterable<string>): string | undefined {
  return word.length < 4 ? undefined : nearestWord(word, known);
}

/** `a, b, c` for a hint, or where to read on when there are too many. */
export function listWords(what: string, words: Iterable<string>): string {
  const list = [...words];
  return list.length > WORDS_SHOWN ? `drbd.conf(5) lists the options of ${what}` : `${what} knows ${list.join(", ")}`;
}

const WORDS_SHOWN = 14; // more do not help in an error line

/** What DRBD's scanner takes for a number: digits with at most one suffix. */
export function isInteger(text: string): boolean {
  return /^[0-9]+[kKmMgGs]?$/.test(text);
}

/** A token as messages name it. */
export function describe(token: Token): string {
  if (token.kind === "end") return "the end of the file";
  const shown = token.text.length > 40 ? `${token.text.slice(0, 40)}...` : token.text;
  return `"${shown}"`;
}
