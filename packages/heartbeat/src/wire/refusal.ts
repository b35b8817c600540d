/**
 * Why a datagram was not accepted. `framing`: neither of the two framings, or cut off; `length`: above a limit;
 * `field`: a field that cannot be read; `unsigned`: no signature; `key-unknown`: signed with an index that authkeys
 * does not have; `signature`: the signature is wrong; `compression`: cannot be unpacked; `incomplete`: lacks a field
 * that every message must have.
 */
export type RefusalCode =
  | "framing"
  | "length"
  | "field"
  | "unsigned"
  | "key-unknown"
  | "signature"
  | "compression"
  | "incomplete";

/** A refused input is a value: strangers send what they like, and nothing they send may unwind the receiver. */
export class Refusal {
  readonly code: RefusalCode;
  /** One clause for the log; holds no more than a few bytes of what was received. */
  readonly detail: string;
  constructor(code: RefusalCode, detail: string) {
    this.code = code;
    this.detail = detail;
  }
}
