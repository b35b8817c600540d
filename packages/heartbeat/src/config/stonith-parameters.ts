/** Parameters of a STONITH device by name. */
export type StonithParameters = Readonly<Record<string, string>>;

/**
 * The words of a `stonith_host` line. A real Heartbeat assigns them by position, the last name taking the rest of the line;
 * `name=value` is an extension that counts when every word names a parameter of the device.
 * @throws Error naming what is missing
 * @see Heartbeat 3.0.6 stonith_host
 */
export function assignParameters(names: readonly string[], words: readonly string[]): StonithParameters {
  const named = byName(words);
  if (named !== undefined && Object.keys(named).every((name) => names.includes(name))) return named;
  if (names.length > 0 && words.length < names.length) {
    throw new Error(
      `it takes the parameters ${names.join(", ")} in this order, ${words.length} of ${names.length} are given`,
    );
  }
  const values: Record<string, string> = {};
  names.forEach((name, index) => {
    const last = index === names.length - 1;
    values[name] = last ? words.slice(index).join(" ") : (words[index] ?? "");
  });
  return values;
}

/** `name=value` words; undefined when a word is something else. */
export function byName(words: readonly string[]): StonithParameters | undefined {
  const values: Record<string, string> = {};
  for (const word of words) {
    const equals = word.indexOf("=");
    if (equals < 1 || !/^[A-Za-z_][\w-]*$/.test(word.slice(0, equals))) return undefined;
    values[word.slice(0, equals)] = word.slice(equals + 1);
  }
  return words.length === 0 ? undefined : values;
}

/**
 * The words of a `stonith TYPE FILE` file: its first line that is neither empty nor a comment; when that is `name=value`,
 * the further lines too.
 */
export function wordsOfStonithFile(text: string): string[] {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const split = (line: string): string[] => line.split(/\s+/);
  const first = split(lines[0] ?? "").filter((word) => word !== "");
  return byName(first) === undefined ? first : lines.flatMap(split);
}
