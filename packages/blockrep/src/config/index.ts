/**
 * drbd.conf of DRBD 8.4 and its 8.3 spellings: text to values and findings, and back to text.
 * @packageDocumentation
 */
export * from "./address.ts";
export * from "./dump.ts";
export * from "./lexer.ts";
export * from "./model.ts";
export * from "./options.ts";
export * from "./parser.ts";
export * from "./resolve.ts";
export * from "./resolved.ts";
