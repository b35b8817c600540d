import { inflateSync } from "node:zlib";
import type { Inflate } from "../wire/compression.ts";

/** zlib of Node with a bound on the result; a damaged or oversized stream gives undefined. */
export const inflate: Inflate = (bytes, maxBytes) => {
  try {
    return inflateSync(bytes, { maxOutputLength: maxBytes });
  } catch {
    return undefined;
  }
};
