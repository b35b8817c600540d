import { type Diagnostics, nearestWord } from "@hacluster/blockrep/base";
import type { AuthKey, AuthKeys, AuthMethod } from "./model.ts";
import { splitLines, type Word, words } from "./text.ts";
import { parseInteger } from "./values.ts";

/** @see Heartbeat 3.0.6 authkeys */
const INDEX_MAX = 15;
const METHODS: ReadonlySet<string> = new Set(["crc", "md5", "sha1", "sha256"]);

/**
 * Read authkeys. A key is the bytes of the file, so the text has one character per byte (read the file as latin1);
 * only line starts can be comments. The text never appears in a message.
 * @returns what was understood; undefined when no key could be chosen, which is then among the errors
 * @see Heartbeat 3.0.6 authkeys
 */
export function parseAuthkeys(text: string, file: string, diagnostics: Diagnostics): AuthKeys | undefined {
  const keys = new Map<number, AuthKey & { readonly word: Word }>();
  const broken = new Set<number>();
  let auth: { index: number; word: Word } | undefined;
  let authBroken = false;
  let keyBeforeAuth: Word | undefined;
  let found = false;

  splitLines(text).forEach((raw, lineIndex) => {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    const [first, ...args] = words(line, file, lineIndex + 1, " \t");
    if (first === undefined || first.text.startsWith("#")) return;
    if (line !== raw) {
      diagnostics.warning(
        { file, line: lineIndex + 1, column: raw.length },
        "the line ends with a carriage return, which is not taken for part of a key",
        "convert the file to Unix line ends",
      );
    }
    if (first.text === "auth") {
      const index = args[0] === undefined ? undefined : parseInteger(args[0].text, 0, INDEX_MAX);
      if (index === undefined) {
        authBroken = true;
        diagnostics.error((args[0] ?? first).at, `auth needs the number of a key, 0..${INDEX_MAX}`, 'write "auth 1"');
        return;
      }
      if (auth !== undefined) {
        diagnostics.warning(first.at, `auth ${index} replaces auth ${auth.index} of line ${auth.word.at.line}`);
      }
      auth = { index, word: first };
      found = false;
      return;
    }
    const index = parseInteger(first.text, 0, INDEX_MAX);
    if (index === undefined) {
      diagnostics.error(
        first.at,
        /^[0-9]+$/.test(first.text)
          ? `key number ${first.text} is above ${INDEX_MAX}`
          : "a line begins with auth or with the number of a key",
        'write "auth 1" and "1 sha1 SECRET"',
      );
      return;
    }
    const key = parseKey(index, first, args, diagnostics);
    if (key === undefined) {
      broken.add(index);
      return;
    }
    const earlier = keys.get(index);
    if (earlier !== undefined) {
      diagnostics.warning(first.at, `key ${index} replaces key ${index} of line ${earlier.word.at.line}`);
    }
    keys.set(index, { ...key, word: first });
    if (auth?.index === index) found = true;
    else if (auth === undefined) keyBeforeAuth = first;
  });

  return choose();

  function choose(): AuthKeys | undefined {
    if (auth === undefined) {
      if (!authBroken) {
        diagnostics.error(
          { file, line: 1, column: 1 },
          "no auth line says which key signs",
          'write "auth 1" above the key lines',
        );
      }
      return undefined;
    }
    const active = keys.get(auth.index);
    if (active === undefined) {
      if (!broken.has(auth.index)) {
        diagnostics.error(
          auth.word.at,
          `auth ${auth.index} names a key that no line defines`,
          `write "${auth.index} sha1 SECRET" below`,
        );
      }
      return undefined;
    }
    if (!found) {
      diagnostics.error(
        (keyBeforeAuth ?? active.word).at,
        `key ${auth.index} stands above the line "auth ${auth.index}"`,
        "put the auth line first: Heartbeat reads the file from top to bottom",
      );
    }
    warnOfCrc(auth.index);
    return {
      active: auth.index,
      keys: new Map([...keys].map(([index, key]) => [index, { method: key.method, key: key.key }])),
    };
  }

  function warnOfCrc(active: number): void {
    for (const [index, key] of keys) {
      if (key.method !== "crc") continue;
      diagnostics.warning(
        key.word.at,
        index === active
          ? "crc holds no secret: whoever can send to the port is believed"
          : `crc holds no secret, and whoever signs with key ${index} is believed although key ${active} is in use`,
        index === active
          ? 'write "sha1 SECRET" on both nodes unless the link is a cable of their own'
          : `remove the line as soon as both nodes use key ${active}`,
      );
    }
  }
}

function parseKey(index: number, first: Word, args: readonly Word[], diagnostics: Diagnostics): AuthKey | undefined {
  const [method, key, extra] = args;
  if (method === undefined || !METHODS.has(method.text)) {
    const near = method === undefined ? undefined : nearestWord(method.text, METHODS);
    diagnostics.error(
      (method ?? first).at,
      method === undefined ? `key ${index} lacks its method` : `key ${index}: "${method.text}" is no method`,
      near === undefined ? `write "${index} sha1 SECRET"` : `write "${near}"`,
    );
    return undefined;
  }
  const name = method.text as AuthMethod;
  if (name === "crc") {
    if (key === undefined) return { method: name, key: new Uint8Array() };
    diagnostics.error(
      key.at,
      key.text.startsWith("#") ? "a comment cannot stand behind a key, only on a line of its own" : "crc takes no key",
      key.text.startsWith("#") ? "move it to its own line" : `write "${index} crc" or "${index} sha1 SECRET"`,
    );
    return undefined;
  }
  if (key === undefined) {
    diagnostics.error(method.at, `${name} needs a key`, `write "${index} ${name} SECRET"`);
    return undefined;
  }
  if (extra !== undefined && !extra.text.startsWith("#")) {
    diagnostics.warning(extra.at, "a key is one word; what follows it is ignored");
  }
  if (name === "sha256") {
    diagnostics.warning(method.at, "a Heartbeat 3 node refuses a file with sha256, only hacluster nodes know it");
  }
  return { method: name, key: Uint8Array.from(key.text, (c) => c.charCodeAt(0) & 0xff) };
}

/**
 * The file must not be readable by group or others; write bits are not looked at, as in the original.
 * @param mode permission bits of the file
 * @returns true when they are good; otherwise the error is reported
 */
export function checkAuthkeysMode(mode: number, file: string, diagnostics: Diagnostics): boolean {
  if ((mode & 0o044) === 0) return true;
  const shown = (mode & 0o777).toString(8).padStart(3, "0");
  diagnostics.error({ file, line: 1, column: 1 }, `mode ${shown} lets others read the keys`, `run "chmod 600 ${file}"`);
  return false;
}
