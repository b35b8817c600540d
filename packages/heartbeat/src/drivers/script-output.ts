/** Lines kept of one run: what a script that fails normally has to say. */
const LINES_MAX = 200;
const LINE_LENGTH_MAX = 1000;

/**
 * Cuts what a script prints into lines as it comes, and bounds what goes to the log: a script that prints for ever
 * fills no disk.
 */
export class ScriptOutput {
  readonly #line: (text: string) => void;
  readonly #partial = new Map<string, string>();
  #lines = 0;

  constructor(line: (text: string) => void) {
    this.#line = line;
  }

  /** `stream` tells standard output from standard error: their halves of a line must not mix. */
  write(stream: "stdout" | "stderr", chunk: string): void {
    const lines = ((this.#partial.get(stream) ?? "") + chunk).split(/\r?\n/);
    const rest = lines.pop() ?? "";
    for (const line of lines) this.#emit(line);
    if (rest.length > LINE_LENGTH_MAX) this.#emit(rest);
    this.#partial.set(stream, rest.length > LINE_LENGTH_MAX ? "" : rest);
  }

  /** The script has ended: lines without an end, and how many were left out. */
  end(): void {
    for (const rest of this.#partial.values()) this.#emit(rest);
    this.#partial.clear();
    if (this.#lines > LINES_MAX) this.#line(`(${this.#lines - LINES_MAX} more lines)`);
    this.#lines = 0;
  }

  #emit(text: string): void {
    const line = text.trimEnd();
    if (line === "") return;
    if (this.#lines++ < LINES_MAX) this.#line(printable(line.slice(0, LINE_LENGTH_MAX)));
  }
}

/** Colours and other control sequences do not belong in a log. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, " ");
}
