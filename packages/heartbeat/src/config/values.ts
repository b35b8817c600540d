/**
 * Milliseconds of a time: digits with an optional fraction, and `ms`, `us` or nothing for seconds. Units are matched
 * by prefix in any case (`500msec` is fine), `s` is not one. Rounded to whole milliseconds.
 * @returns undefined for anything else
 * @see Heartbeat 3.0.6 ha.cf, time values
 */
export function parseTimeMs(text: string): number | undefined {
  const parts = /^([0-9]+\.?[0-9]*|\.[0-9]+)([mu]s[a-z]*)?$/i.exec(text);
  if (parts === null) return undefined;
  const unit = parts[2]?.slice(0, 2).toLowerCase();
  const perUnit = unit === undefined ? 1000 : unit === "ms" ? 1 : 0.001;
  const ms = Math.round(Number(parts[1]) * perUnit);
  return Number.isSafeInteger(ms) ? ms : undefined;
}

/** A time as ha.cf writes it: whole seconds bare, everything else in `ms`. */
export function formatTimeMs(ms: number): string {
  return ms % 1000 === 0 ? String(ms / 1000) : `${ms}ms`;
}

/** true on yes y 1, false off no n 0, in any case. */
export function parseBoolean(text: string): boolean | undefined {
  const lower = text.toLowerCase();
  if (["true", "on", "yes", "y", "1"].includes(lower)) return true;
  if (["false", "off", "no", "n", "0"].includes(lower)) return false;
  return undefined;
}

/** A decimal integer low..high. */
export function parseInteger(text: string, low: number, high: number): number | undefined {
  if (!/^[0-9]{1,10}$/.test(text)) return undefined;
  const value = Number(text);
  return value >= low && value <= high ? value : undefined;
}

/** Four decimal numbers 0..255. */
export function isIpv4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 && parts.every((part) => parseInteger(part, 0, 255) !== undefined && part.length <= 3);
}

/** Rough shape of an IPv6 address; the system has the last word. */
export function looksLikeIpv6(text: string): boolean {
  return text.includes(":") && /^[0-9a-fA-F:.]{2,45}(%[\w.-]+)?$/.test(text);
}

/** Number of leading ones of a dotted netmask; undefined when it is none. */
export function prefixBitsOfNetmask(text: string): number | undefined {
  if (!isIpv4(text)) return undefined;
  const bits = text
    .split(".")
    .map((part) => Number(part).toString(2).padStart(8, "0"))
    .join("");
  return /^1*0*$/.test(bits) ? bits.lastIndexOf("1") + 1 : undefined;
}

const FACILITIES = [
  "auth authpriv cron daemon ftp kern lpr mail news security syslog user uucp",
  "local0 local1 local2 local3 local4 local5 local6 local7",
].flatMap((line) => line.split(" "));

/** Names of syslog(3). */
export const LOG_FACILITIES: ReadonlySet<string> = new Set(FACILITIES);
