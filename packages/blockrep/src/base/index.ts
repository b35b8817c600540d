/**
 * What both libraries stand on: assertions, errors with codes, units, seeded chance, findings about configuration.
 * Imports nothing.
 * @packageDocumentation
 */
export * from "./assert.ts";
export * from "./diagnostics.ts";
export * from "./errors.ts";
export * from "./prng.ts";
export * from "./units.ts";
