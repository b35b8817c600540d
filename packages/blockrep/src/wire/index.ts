/**
 * The replication protocol of DRBD 8.4 as values and bytes: packets, headers, framing, bitmaps, digests. No I/O.
 * @packageDocumentation
 */
export * from "./auth.ts";
export * from "./bitmap-codec.ts";
export * from "./codec.ts";
export * from "./constants.ts";
export * from "./dialect.ts";
export * from "./digest.ts";
export * from "./framer.ts";
export * from "./layout.ts";
export * from "./packets.ts";
export * from "./state-word.ts";
