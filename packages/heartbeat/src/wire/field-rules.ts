import { assert } from "@hacluster/blockrep/base";
import { printable } from "./bytes.ts";
import type { HaField } from "./message.ts";
import { Refusal } from "./refusal.ts";

/** Stands for a newline inside a string. @see Heartbeat 3.0.6, classic text values */
export const NEWLINE_SUBSTITUTE = "\x13";

/** Names are graphic ASCII without `=`; they become names of environment variables. */
const NAME = /^[\x21-\x3c\x3e-\x7e]{1,255}$/;

export function badName(name: string): Refusal | undefined {
  return NAME.test(name) ? undefined : new Refusal("field", `field name "${printable(name)}"`);
}

/** A string field cannot hold NUL or newline, neither on the wire nor in an environment. */
export function badText(name: string, value: string): Refusal | undefined {
  return /[\0\n]/.test(value) ? new Refusal("field", `field ${printable(name)} holds a NUL or a newline`) : undefined;
}

/** The value of a string field as it goes on the wire. */
export function wireText(field: HaField & { readonly type: 0 }): string {
  assert(NAME.test(field.name), `field name "${field.name}"`);
  assert(!field.value.includes("\0"), `field ${field.name} holds a NUL`);
  return field.value.includes("\n") ? field.value.replaceAll("\n", NEWLINE_SUBSTITUTE) : field.value;
}
