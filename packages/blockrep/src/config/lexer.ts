import type { Diagnostics, SourcePosition } from "../base/index.ts";

/** One text to parse, under the name that findings show. */
export interface SourceFile {
  readonly file: string;
  readonly text: string;
}

/**
 * `word`: bare letters, digits, `. / _ -`; `string`: quoted; `ipv4`, `ipv6`: numeric addresses, which drbd.conf takes
 * only after `address` and `floating`; `punctuation`: one character.
 */
export type TokenKind = "word" | "string" | "ipv4" | "ipv6" | "punctuation" | "end";

export interface Token {
  readonly kind: TokenKind;
  /** What it stands for: without quotes, escapes undone. */
  readonly text: string;
  readonly at: SourcePosition;
  /** Just behind its last character: where a missing `;` belongs. */
  readonly end: SourcePosition;
}

/** Longest bare word and longest quoted string that DRBD 8.4's scanner takes. */
export const WORD_MAX = 128;
export const STRING_MAX = 255;

const WORD = /[A-Za-z0-9._/-]+/y;
const LOW_SURROGATE = /[\uDC00-\uDFFF]/;
const IPV4 = /^[0-9]{1,3}(?:\.[0-9]{1,3}){3}$/;
// at least two colons tell an address from `HOST:PORT`
const IPV6 = /[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?/y;

/**
 * Split drbd.conf text into tokens; the last one is always `end`. A string without its closing quote ends with its line.
 * @see DRBD 8.4 drbd.conf(5): `#` comments, words of `[A-Za-z0-9._/-]`, `"..."` with backslash escapes on one line.
 */
export function tokenize(source: SourceFile, diagnostics: Diagnostics): Token[] {
  const { file, text } = source;
  const tokens: Token[] = [];
  let offset = text.startsWith("\uFEFF") ? 1 : 0;
  let line = 1;
  let lineStart = offset;
  // columns count characters, not UTF-16 halves; counted on from the last place, so that long lines stay cheap
  let counted = offset;
  let column = 1;
  const position = (at: number): SourcePosition => {
    if (counted < lineStart) {
      counted = lineStart;
      column = 1;
    }
    for (; counted < at; counted++) if (!LOW_SURROGATE.test(text[counted] as string)) column++;
    return { file, line, column };
  };

  while (offset < text.length) {
    const char = text[offset] as string;
    if (char === "\n") {
      offset++;
      line++;
      lineStart = offset;
      continue;
    }
    if (char === " " || char === "\t" || char === "\r") {
      offset++;
      continue;
    }
    if (char === "#") {
      const newline = text.indexOf("\n", offset);
      offset = newline === -1 ? text.length : newline;
      continue;
    }
    const at = position(offset);
    if (char === '"') {
      const { value, length, closed } = quoted(text, offset);
      offset += length;
      if (!closed) {
        diagnostics.error(
          at,
          "this string has no closing quote",
          'write the second " in front of the semicolon, on the same line',
        );
      } else if (new TextEncoder().encode(value).length > STRING_MAX) {
        diagnostics.error(at, `this string is longer than ${STRING_MAX} bytes`, "shorten it; call a script instead");
      }
      tokens.push({ kind: "string", text: value, at, end: position(offset) });
      continue;
    }
    const ipv6 = match(IPV6, text, offset);
    const word = match(WORD, text, offset);
    if (ipv6.length > word.length) {
      offset += ipv6.length;
      tokens.push({ kind: "ipv6", text: ipv6, at, end: position(offset) });
    } else if (word !== "") {
      offset += word.length;
      if (word.length > WORD_MAX)
        diagnostics.error(at, `this word is longer than ${WORD_MAX} characters`, "shorten it");
      tokens.push({ kind: IPV4.test(word) ? "ipv4" : "word", text: word, at, end: position(offset) });
    } else {
      const symbol = String.fromCodePoint(text.codePointAt(offset) as number);
      offset += symbol.length;
      tokens.push({ kind: "punctuation", text: symbol, at, end: position(offset) });
    }
  }
  const end = position(text.length);
  tokens.push({ kind: "end", text: "", at: end, end });
  return tokens;
}

function match(pattern: RegExp, text: string, offset: number): string {
  pattern.lastIndex = offset;
  return pattern.exec(text)?.[0] ?? "";
}

function quoted(text: string, start: number): { value: string; length: number; closed: boolean } {
  let value = "";
  let i = start + 1;
  while (i < text.length && text[i] !== "\n") {
    if (text[i] === '"') return { value, length: i + 1 - start, closed: true };
    // a backslash takes the next character as it is: \" and \\, but also \n is just n
    if (text[i] === "\\" && i + 1 < text.length && text[i + 1] !== "\n") i++;
    value += text[i];
    i++;
  }
  // most likely the quote is missing in front of the semicolon or brace: reading on there avoids further findings
  const rest = text.slice(start + 1, i);
  const stop = rest.search(/[;}]/);
  if (stop === -1) return { value, length: i - start, closed: false };
  return { value: rest.slice(0, stop), length: stop + 1, closed: false };
}
