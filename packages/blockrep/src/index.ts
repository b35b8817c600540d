/**
 * `@hacluster/blockrep`: DRBD-compatible synchronous block replication in userspace.
 * @packageDocumentation
 */
export * from "./base/index.ts";
export { ConnState, DiskState, Role } from "./wire/state-word.ts";
