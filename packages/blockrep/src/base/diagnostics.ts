/** Where in a configuration file something stands. Lines and columns count from 1; a column counts characters. */
export interface SourcePosition {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/**
 * One finding about a configuration. `error`: wrong text or a contradiction, nothing may start from it.
 * `warning`: understood, but not implemented, without meaning here, or absent from this machine.
 */
export interface Diagnostic {
  readonly severity: "error" | "warning";
  readonly at: SourcePosition;
  /** What is wrong, in one clause. */
  readonly message: string;
  /** What to write instead, or what to do; ends the printed line. */
  readonly hint?: string;
}

/** `FILE:LINE:COLUMN: error: MESSAGE; HINT`, the form that editors jump to. */
export function formatDiagnostic(d: Diagnostic): string {
  const hint = d.hint === undefined ? "" : `; ${d.hint}`;
  return `${d.at.file}:${d.at.line}:${d.at.column}: ${d.severity}: ${d.message}${hint}`;
}

/** Collects findings in the order of the text; a parser goes on after an error so that one run shows them all. */
export class Diagnostics {
  readonly items: Diagnostic[] = [];

  error(at: SourcePosition, message: string, hint?: string): void {
    this.items.push({ severity: "error", at, message, ...(hint === undefined ? {} : { hint }) });
  }

  warning(at: SourcePosition, message: string, hint?: string): void {
    this.items.push({ severity: "warning", at, message, ...(hint === undefined ? {} : { hint }) });
  }

  get hasErrors(): boolean {
    return this.items.some((d) => d.severity === "error");
  }
}

/** The known word that is nearest to a misspelt one (edit distance at most 2, or a third of its length). */
export function nearestWord(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, substitution));
    }
    previous = row;
  }
  return previous[b.length] ?? 0;
}
