import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import { Packr } from "msgpackr";

/**
 * What travels on a control socket: frames of a u32 big-endian length and one msgpack value.
 *
 *     client → daemon   { id, method, params }
 *     daemon → client   { id, result } or { id, error: { code, message, details } }
 *     daemon → client   { event, data }            after a "subscribe" request
 */
export type ControlValue =
  | null
  | boolean
  | number
  | string
  | readonly ControlValue[]
  | { readonly [key: string]: ControlValue };

/** The text of a value that is meant to be one; anything else is `otherwise`. */
export function textOf(value: ControlValue | undefined, otherwise = ""): string {
  return typeof value === "string" ? value : otherwise;
}

export interface ControlRequest {
  readonly id: number;
  readonly method: string;
  readonly params: { readonly [key: string]: ControlValue };
}

export interface ControlFailure {
  readonly code: string;
  readonly message: string;
  readonly details: { readonly [key: string]: ControlValue };
}

export interface ControlReply {
  readonly id: number;
  readonly result?: ControlValue;
  readonly error?: ControlFailure;
}

export interface ControlEvent {
  readonly event: string;
  readonly data: ControlValue;
}

/** A control frame is a command or a status, never bulk data; more is a broken or hostile client. */
export const CONTROL_FRAME_MAX: number = 4 * 1024 * 1024;

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });

/** One value as a frame ready to be written. */
export function encodeFrame(value: unknown): Buffer {
  const body = packr.pack(value);
  const frame = Buffer.alloc(4 + body.length);
  frame.writeUInt32BE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

/** Collects chunks of a stream and gives back the values of complete frames. */
export class FrameReader {
  #pending: Buffer = Buffer.alloc(0);

  /** @throws HaError HA_CONTROL_PROTOCOL when a frame is too long or is no msgpack value: drop the connection. */
  push(chunk: Buffer): unknown[] {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const values: unknown[] = [];
    while (this.#pending.length >= 4) {
      const length = this.#pending.readUInt32BE(0);
      if (length > CONTROL_FRAME_MAX) {
        throw new HaError(ErrorCode.controlProtocol, "control frame is too long", { length });
      }
      if (this.#pending.length < 4 + length) break;
      const body = this.#pending.subarray(4, 4 + length);
      try {
        values.push(packr.unpack(body));
      } catch (cause) {
        throw new HaError(ErrorCode.controlProtocol, "control frame is not msgpack", { length }, cause);
      }
      this.#pending = this.#pending.subarray(4 + length);
    }
    return values;
  }
}
