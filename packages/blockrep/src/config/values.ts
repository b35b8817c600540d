import { nearestWord } from "../base/index.ts";
import type { OptionSpec, OptionUnit } from "./options.ts";

/** What is wrong with a value and what to write. */
export interface ValueFault {
  readonly message: string;
  readonly hint: string;
}

/** An option's value in the units of its own plain number (see `OptionUnit`). */
export type OptionValue = number | boolean | string;

/** Bytes that a plain number of this unit counts by; 1 where it counts no bytes. */
function unitBytes(unit: OptionUnit): number {
  return unit === "sectors" ? 512 : unit === "KiB/s" ? 1024 : 1;
}

const SUFFIX: Readonly<Record<string, number>> = { s: 512, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/**
 * A number with an optional suffix, in the given unit; undefined when it is none. `K`, `M`, `G` multiply by 1024 and `s`
 * counts sectors; with a suffix the number is in bytes, without one in `unit`; fractions are rounded up.
 * @see DRBD 8.4 drbd.conf(5) "K, M or G"
 */
export function parseNumber(text: string, unit: OptionUnit): number | undefined {
  const parts = /^\s*\+?([0-9]+)([kKmMgGs]?)$/.exec(text);
  if (parts === null) return undefined;
  const suffix = parts[2] as string;
  const plain = Number(parts[1]);
  if (suffix === "") return plain;
  return Math.ceil((plain * (SUFFIX[suffix.toLowerCase()] as number)) / unitBytes(unit));
}

/** An option's value, checked against its type and range. */
export function parseValue(option: OptionSpec, text: string): { value: OptionValue } | { fault: ValueFault } {
  const { type, name } = option;
  switch (type.kind) {
    case "number": {
      const value = parseNumber(text, type.unit);
      const range = describeRange(option);
      if (value === undefined) {
        const negative = /^\s*-[0-9]/.test(text);
        const what = negative ? `${name} cannot be negative` : `"${text}" is no number for ${name}`;
        return { fault: { message: what, hint: `write ${range}` } };
      }
      if (value < type.min || value > type.max) {
        return { fault: { message: `${name} ${text} is out of range`, hint: `write ${range}` } };
      }
      return { value };
    }
    case "boolean":
      return { value: text === "yes" };
    case "enum": {
      const value = type.values.find((v) => v === text || (name === "protocol" && v === text.toUpperCase()));
      if (value !== undefined) return { value };
      if (type.prefix !== undefined && text.startsWith(type.prefix) && text.length > type.prefix.length) {
        return { value: text };
      }
      const near = nearestWord(text, type.values);
      const list = type.values.join(", ");
      const hint = near === undefined ? `write one of ${list}` : `did you mean ${near}? It can be ${list}`;
      return { fault: { message: `unknown value "${text}" of ${name}`, hint } };
    }
    case "string": {
      const length = new TextEncoder().encode(text).length;
      if (type.maxLength !== undefined && length > type.maxLength) {
        const message = `${name} has ${length} bytes`;
        return { fault: { message, hint: `write at most ${type.maxLength}` } };
      }
      return { value: text };
    }
    case "names":
    case "flag":
      return { value: text };
  }
}

/** `1 to 600 (in 0.1 s)`, for messages. */
export function describeRange(option: OptionSpec): string {
  const { type } = option;
  if (type.kind !== "number") return "";
  const unit = type.unit === "count" ? "" : ` (in ${type.unit})`;
  const suffix = unitBytes(type.unit) > 1 || type.unit === "bytes" ? ", or with suffix K, M, G" : "";
  return `${type.min} to ${type.max}${unit}${suffix}`;
}
