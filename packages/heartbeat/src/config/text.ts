import type { SourcePosition } from "@hacluster/blockrep/base";

/** A word of a configuration file and where its first character stands. */
export interface Word {
  readonly text: string;
  readonly at: SourcePosition;
}

/** The words of a line: runs of characters that are not in `separators`. */
export function words(line: string, file: string, lineNumber: number, separators: string): Word[] {
  const out: Word[] = [];
  for (let at = 0; at < line.length; ) {
    if (separators.includes(line[at]!)) {
      at++;
      continue;
    }
    let end = at;
    while (end < line.length && !separators.includes(line[end]!)) end++;
    out.push({ text: line.slice(at, end), at: { file, line: lineNumber, column: at + 1 } });
    at = end;
  }
  return out;
}

/** Everything from `#` on is a comment, wherever it stands. */
export function stripComment(line: string): string {
  const at = line.indexOf("#");
  return at < 0 ? line : line.slice(0, at);
}

/** Lines of a text; the empty piece behind a final newline is none. */
export function splitLines(text: string): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}
