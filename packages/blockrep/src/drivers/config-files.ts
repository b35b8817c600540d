import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { ErrorCode, HaError } from "../base/index.ts";
import type { SourceFile } from "../config/lexer.ts";
import { type IncludeResult, type ParseResult, parseDrbdConf, parseDrbdConfFiles } from "../config/parser.ts";

/** Where DRBD's configuration stands below the root. */
export const DRBD_CONF = "etc/drbd.conf";
export const DRBD_FOLDER = "etc/drbd.d";

export interface ReadDrbdConfOptions {
  /** Instead of `/`: the files of another machine or of an example. Absolute includes are looked up below it. */
  readonly root?: string;
  /** This one file instead of the usual ones, as `-c FILE`. */
  readonly file?: string;
}

/**
 * Read and parse the DRBD configuration: `file`; or ROOT/etc/drbd.conf with its includes; or, where that does not exist,
 * ROOT/etc/drbd.d/global_common.conf and ROOT/etc/drbd.d/*.res. Undefined when none of them is there.
 * @throws HaError HA_CONFIG_INVALID when a file is there but cannot be read, or `file` is not there.
 */
export function readDrbdConf(options: ReadDrbdConfOptions = {}): ParseResult | undefined {
  const root = options.root ?? "/";
  const include = (pattern: string, includingFile: string): IncludeResult => readInclude(pattern, includingFile, root);
  if (options.file !== undefined) return parseDrbdConf(readSource(options.file), include);

  const main = join(root, DRBD_CONF);
  if (isFile(main)) return parseDrbdConf(readSource(main), include);
  const folder = join(root, DRBD_FOLDER);
  const common = join(folder, "global_common.conf");
  const files = [...(isFile(common) ? [common] : []), ...expandGlob(join(folder, "*.res"))];
  if (files.length === 0) return undefined;
  return parseDrbdConfFiles(main, files.map(readSource), include);
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function readSource(file: string): SourceFile {
  try {
    return { file, text: readFileSync(file, "utf8") };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new HaError(ErrorCode.configInvalid, `cannot read the configuration ${file}: ${reason}`, { file }, error);
  }
}

function readInclude(pattern: string, includingFile: string, root: string): IncludeResult {
  const path = isAbsolute(pattern) ? join(root, pattern) : join(dirname(includingFile), pattern);
  // a pattern may match nothing, a plain name must exist
  if (!/[*?[]/.test(pattern)) {
    if (!isFile(path)) return { error: `there is no file ${path}` };
    return readAll([path]);
  }
  return readAll(expandGlob(path));
}

function readAll(paths: readonly string[]): IncludeResult {
  try {
    return paths.map(readSource);
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * Paths that match a glob of the shell (`*`, `?`, `[abc]`, `[!a-z]`) in byte order, as glob(3) gives them; a leading dot
 * is matched only by a dot.
 */
export function expandGlob(pattern: string): string[] {
  const absolute = isAbsolute(pattern);
  const parts = pattern.split("/").filter((part) => part !== "");
  let found = [absolute ? "/" : ""];
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    found = found.flatMap((folder) => {
      if (!/[*?[]/.test(part)) return exists(join(folder, part)) ? [join(folder, part)] : [];
      const test = globPart(part);
      return listFolder(folder === "" ? "." : folder)
        .filter((name) => test.test(name) && (part.startsWith(".") || !name.startsWith(".")))
        .map((name) => join(folder, name))
        .filter((path) => last || statSync(path, { throwIfNoEntry: false })?.isDirectory() === true);
    });
  }
  return found;
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder).sort((a, b) => (a < b ? -1 : 1));
  } catch {
    return [];
  }
}

function globPart(part: string): RegExp {
  const source = part.replace(/\[!?\]?[^\]]*\]|[*?]|[.+^${}()|\\[\]]/g, (token) => {
    if (token === "*") return ".*";
    if (token === "?") return ".";
    if (token.length > 1) return token.replace(/^\[!/, "[^").replaceAll("\\", "\\\\");
    return `\\${token}`;
  });
  return new RegExp(`^${source}$`, "s");
}

/** A file's name as `drbdadm dump` prints it. */
export function absoluteConfigFile(file: string): string {
  return resolve(file);
}
