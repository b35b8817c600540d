import {
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_FLAG_SEND_DF,
  NBD_IHAVEOPT_HIGH,
  NBD_IHAVEOPT_LOW,
  NBD_INFO_BLOCK_SIZE,
  NBD_INFO_DESCRIPTION,
  NBD_INFO_EXPORT,
  NBD_INFO_NAME,
  NBD_MAGIC_HIGH,
  NBD_MAGIC_LOW,
  NBD_NAME_MAX,
  NBD_OPT_ABORT,
  NBD_OPT_EXPORT_NAME,
  NBD_OPT_GO,
  NBD_OPT_INFO,
  NBD_OPT_LIST,
  NBD_OPT_LIST_META_CONTEXT,
  NBD_OPT_SET_META_CONTEXT,
  NBD_OPT_STRUCTURED_REPLY,
  NBD_OPTION_COUNT_MAX,
  NBD_OPTION_HEADER_BYTES,
  NBD_OPTION_LENGTH_MAX,
  NBD_OPTION_REPLY_MAGIC_HIGH,
  NBD_OPTION_REPLY_MAGIC_LOW,
  NBD_REP_ACK,
  NBD_REP_ERR_INVALID,
  NBD_REP_ERR_TOO_BIG,
  NBD_REP_ERR_UNKNOWN,
  NBD_REP_ERR_UNSUP,
  NBD_REP_INFO,
  NBD_REP_SERVER,
} from "./constants.ts";

/** What the handshake tells a client about one export. */
export interface ExportInfo {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  /** NBD_FLAG_* of the transmission phase, without SEND_DF, which depends on the client. */
  readonly flags: number;
  readonly blockSizes: { readonly minimum: number; readonly preferred: number; readonly maximum: number };
}

/** `flags` and `options`: talking; `transmission`: an export is chosen; `closed`: send the reply, then hang up. */
export type HandshakeState = "flags" | "options" | "transmission" | "closed";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * The server's side of the fixed newstyle negotiation, without a socket: bytes in, bytes out.
 * One instance per connection; it is finished when `state` is `transmission` or `closed`.
 * @see NBD proto.md, "Fixed newstyle negotiation"
 */
export class Handshake {
  state: HandshakeState = "flags";
  /** The export that the client chose; set when `state` is `transmission`. */
  selected: ExportInfo | undefined = undefined;
  structuredReplies = false;
  /** Why the state is `closed`, for the log; empty when the client said goodbye. */
  closedBecause = "";
  readonly exports: readonly ExportInfo[];
  #zeroes = true;
  #optionCount = 0;
  #skipBytes = 0;
  #replies: Uint8Array[] = [];

  /** @param exports what is offered; the empty name stands for the first. */
  constructor(exports: readonly ExportInfo[]) {
    this.exports = exports;
    const greeting = new Message();
    greeting.u32(NBD_MAGIC_HIGH).u32(NBD_MAGIC_LOW).u32(NBD_IHAVEOPT_HIGH).u32(NBD_IHAVEOPT_LOW);
    greeting.u16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    this.#replies.push(greeting.bytes());
  }

  /**
   * Takes whole messages from `bytes[start..end)` and stops where the transmission phase begins.
   * @returns how many bytes were taken; the rest is to be offered again with what follows it.
   */
  receive(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    for (;;) {
      const taken = this.#step(bytes, at, end);
      if (taken === 0) return at - start;
      at += taken;
    }
  }

  /** Bytes of the message that begins at `start`, as far as they are known yet; at most a small slab. */
  needed(bytes: Uint8Array, start: number, end: number): number {
    if (this.state === "flags") return 4;
    if (end - start < NBD_OPTION_HEADER_BYTES) return NBD_OPTION_HEADER_BYTES;
    return NBD_OPTION_HEADER_BYTES + Math.min(u32(bytes, start + 12), NBD_OPTION_LENGTH_MAX);
  }

  /** Everything to send since the last call (the greeting first), or undefined. */
  takeReply(): Uint8Array | undefined {
    if (this.#replies.length === 0) return undefined;
    const length = this.#replies.reduce((sum, part) => sum + part.length, 0);
    const out = new Uint8Array(length);
    let at = 0;
    for (const part of this.#replies) {
      out.set(part, at);
      at += part.length;
    }
    this.#replies = [];
    return out;
  }

  #step(bytes: Uint8Array, at: number, end: number): number {
    const available = end - at;
    if (available === 0 || this.state === "closed" || this.state === "transmission") return 0;
    if (this.#skipBytes > 0) {
      const taken = Math.min(this.#skipBytes, available);
      this.#skipBytes -= taken;
      return taken;
    }
    if (this.state === "flags") return available < 4 ? 0 : this.#clientFlags(u32(bytes, at));
    if (available < NBD_OPTION_HEADER_BYTES) return 0;
    if (u32(bytes, at) !== NBD_IHAVEOPT_HIGH || u32(bytes, at + 4) !== NBD_IHAVEOPT_LOW) {
      return this.#close("an option without its magic number", NBD_OPTION_HEADER_BYTES);
    }
    const option = u32(bytes, at + 8);
    const length = u32(bytes, at + 12);
    if (length > NBD_OPTION_LENGTH_MAX) return this.#tooLong(option, length);
    if (available < NBD_OPTION_HEADER_BYTES + length) return 0;
    if (++this.#optionCount > NBD_OPTION_COUNT_MAX) {
      return this.#close(`more than ${NBD_OPTION_COUNT_MAX} options`, NBD_OPTION_HEADER_BYTES + length);
    }
    const from = at + NBD_OPTION_HEADER_BYTES;
    const handler = OPTIONS[option];
    if (handler === undefined) this.refuse(option, NBD_REP_ERR_UNSUP, `option ${option} is not supported`);
    else handler(this, option, bytes.subarray(from, from + length));
    return NBD_OPTION_HEADER_BYTES + length;
  }

  #clientFlags(flags: number): number {
    if ((flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES)) !== 0) {
      return this.#close(`unknown client flags 0x${flags.toString(16)}`, 4);
    }
    this.#zeroes = (flags & NBD_FLAG_NO_ZEROES) === 0;
    this.state = "options";
    return 4;
  }

  #tooLong(option: number, length: number): number {
    // EXPORT_NAME has no way to refuse other than hanging up
    if (option === NBD_OPT_EXPORT_NAME) return this.#close("an export name that is too long", NBD_OPTION_HEADER_BYTES);
    if (++this.#optionCount > NBD_OPTION_COUNT_MAX) return this.#close("too many options", NBD_OPTION_HEADER_BYTES);
    this.refuse(option, NBD_REP_ERR_TOO_BIG, `an option of ${length} bytes; at most ${NBD_OPTION_LENGTH_MAX}`);
    this.#skipBytes = length;
    return NBD_OPTION_HEADER_BYTES;
  }

  #close(reason: string, taken: number): number {
    this.state = "closed";
    this.closedBecause = reason;
    return taken;
  }

  /** The export of that name; the empty name is the first one. */
  find(name: string): ExportInfo | undefined {
    return name === "" ? this.exports[0] : this.exports.find((e) => e.name === name);
  }

  reply(option: number, type: number, payload: Uint8Array): void {
    const message = new Message();
    message.u32(NBD_OPTION_REPLY_MAGIC_HIGH).u32(NBD_OPTION_REPLY_MAGIC_LOW).u32(option).u32(type);
    message.u32(payload.length).raw(payload);
    this.#replies.push(message.bytes());
  }

  /** An error reply; the text is for the client's user. */
  refuse(option: number, type: number, text: string): void {
    this.reply(option, type, encoder.encode(text));
  }

  acknowledge(option: number): void {
    this.reply(option, NBD_REP_ACK, NOTHING);
  }

  hangUp(reason: string): void {
    this.#close(reason, 0);
  }

  begin(selected: ExportInfo): void {
    this.selected = selected;
    this.state = "transmission";
  }

  /** SEND_DF means something only to a client that takes structured replies. */
  transmissionFlags(info: ExportInfo): number {
    return this.structuredReplies ? info.flags | NBD_FLAG_SEND_DF : info.flags;
  }

  /** The answer to EXPORT_NAME has no header, and 124 zeroes for clients that did not waive them. */
  replyExportName(info: ExportInfo): void {
    const message = new Message().u64(info.sizeBytes).u16(this.transmissionFlags(info));
    if (this.#zeroes) message.raw(new Uint8Array(124));
    this.#replies.push(message.bytes());
  }
}

const NOTHING = new Uint8Array(0);

type OptionHandler = (handshake: Handshake, option: number, data: Uint8Array) => void;

const OPTIONS: Readonly<Record<number, OptionHandler>> = {
  [NBD_OPT_EXPORT_NAME]: exportName,
  [NBD_OPT_ABORT]: abort,
  [NBD_OPT_LIST]: list,
  [NBD_OPT_INFO]: infoOrGo,
  [NBD_OPT_GO]: infoOrGo,
  [NBD_OPT_STRUCTURED_REPLY]: structuredReply,
  [NBD_OPT_LIST_META_CONTEXT]: metaContext,
  [NBD_OPT_SET_META_CONTEXT]: metaContext,
};

function exportName(handshake: Handshake, _option: number, data: Uint8Array): void {
  const name = text(data);
  const info = name === undefined ? undefined : handshake.find(name);
  if (info === undefined) {
    handshake.hangUp(name === undefined ? "an export name that is not UTF-8" : `no export ${quote(name)}`);
    return;
  }
  handshake.replyExportName(info);
  handshake.begin(info);
}

function abort(handshake: Handshake, option: number): void {
  handshake.acknowledge(option);
  handshake.hangUp("");
}

function list(handshake: Handshake, option: number, data: Uint8Array): void {
  if (data.length > 0) {
    handshake.refuse(option, NBD_REP_ERR_INVALID, "LIST takes no data");
    return;
  }
  for (const info of handshake.exports) {
    const name = encoder.encode(info.name);
    handshake.reply(
      option,
      NBD_REP_SERVER,
      new Message().u32(name.length).raw(name).raw(encoder.encode(info.description)).bytes(),
    );
  }
  handshake.acknowledge(option);
}

function infoOrGo(handshake: Handshake, option: number, data: Uint8Array): void {
  const wanted = parseInfoRequest(data);
  if (typeof wanted === "string") {
    handshake.refuse(option, NBD_REP_ERR_INVALID, wanted);
    return;
  }
  const info = handshake.find(wanted.name);
  if (info === undefined) {
    handshake.refuse(option, NBD_REP_ERR_UNKNOWN, `no export ${quote(wanted.name)}`);
    return;
  }
  const answer = (message: Message): void => handshake.reply(option, NBD_REP_INFO, message.bytes());
  answer(new Message().u16(NBD_INFO_EXPORT).u64(info.sizeBytes).u16(handshake.transmissionFlags(info)));
  if (wanted.infos.has(NBD_INFO_NAME)) answer(new Message().u16(NBD_INFO_NAME).raw(encoder.encode(info.name)));
  if (wanted.infos.has(NBD_INFO_DESCRIPTION)) {
    answer(new Message().u16(NBD_INFO_DESCRIPTION).raw(encoder.encode(info.description)));
  }
  if (wanted.infos.has(NBD_INFO_BLOCK_SIZE)) {
    const { minimum, preferred, maximum } = info.blockSizes;
    answer(new Message().u16(NBD_INFO_BLOCK_SIZE).u32(minimum).u32(preferred).u32(maximum));
  }
  handshake.acknowledge(option);
  if (option === NBD_OPT_GO) handshake.begin(info);
}

function parseInfoRequest(data: Uint8Array): { name: string; infos: Set<number> } | string {
  if (data.length < 6) return "the option is too short";
  const nameLength = u32(data, 0);
  if (nameLength > NBD_NAME_MAX) return `a name of ${nameLength} bytes; at most ${NBD_NAME_MAX}`;
  if (nameLength > data.length - 6) return "the name is longer than the option";
  const name = text(data.subarray(4, 4 + nameLength));
  if (name === undefined) return "the name is not UTF-8";
  const count = u16(data, 4 + nameLength);
  const from = 6 + nameLength;
  if (data.length !== from + 2 * count) return "the number of information requests does not fit the option's length";
  const infos = new Set<number>();
  for (let i = 0; i < count; i++) infos.add(u16(data, from + 2 * i));
  return { name, infos };
}

function structuredReply(handshake: Handshake, option: number, data: Uint8Array): void {
  if (data.length > 0) {
    handshake.refuse(option, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY takes no data");
    return;
  }
  handshake.structuredReplies = true;
  handshake.acknowledge(option);
}

/** No context is offered, so a correct question gets the empty list; block status is then never asked for. */
function metaContext(handshake: Handshake, option: number, data: Uint8Array): void {
  const problem = handshake.structuredReplies
    ? checkMetaRequest(data, handshake)
    : "negotiate STRUCTURED_REPLY before meta contexts";
  if (typeof problem === "string") handshake.refuse(option, NBD_REP_ERR_INVALID, problem);
  else if (!problem) handshake.refuse(option, NBD_REP_ERR_UNKNOWN, "no such export");
  else handshake.acknowledge(option);
}

/** True for a sound question, false for an unknown export, a sentence for a malformed one. */
function checkMetaRequest(data: Uint8Array, handshake: Handshake): boolean | string {
  if (data.length < 8) return "the option is too short";
  const nameLength = u32(data, 0);
  if (nameLength > NBD_NAME_MAX || nameLength > data.length - 8) return "the name is longer than the option";
  const name = text(data.subarray(4, 4 + nameLength));
  if (name === undefined) return "the name is not UTF-8";
  let queries = u32(data, 4 + nameLength);
  let at = 8 + nameLength;
  for (; queries > 0; queries--) {
    if (data.length - at < 4) return "a query is missing";
    const length = u32(data, at);
    if (length > data.length - at - 4) return "a query is longer than the option";
    at += 4 + length;
  }
  if (at !== data.length) return "bytes after the last query";
  return handshake.find(name) !== undefined;
}

function text(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function quote(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}...` : name);
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}

function u32(bytes: Uint8Array, at: number): number {
  return ((u16(bytes, at) << 16) | u16(bytes, at + 2)) >>> 0;
}

/** Big-endian fields one after the other; for the cold path only. */
class Message {
  readonly #out: number[] = [];

  u16(value: number): this {
    this.#out.push((value >>> 8) & 0xff, value & 0xff);
    return this;
  }

  u32(value: number): this {
    return this.u16(value >>> 16).u16(value & 0xffff);
  }

  u64(value: number): this {
    return this.u32(Math.floor(value / 0x1_0000_0000)).u32(value >>> 0);
  }

  raw(bytes: Uint8Array): this {
    for (const byte of bytes) this.#out.push(byte);
    return this;
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#out);
  }
}
