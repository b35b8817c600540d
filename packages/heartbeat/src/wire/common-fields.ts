import { formatHex, type HaField, HaMessage, isUnsequenced } from "./message.ts";

/** What the sending node adds to each message. */
export interface Sender {
  /** Own node name, lower case. */
  readonly node: string;
  /** Own uuid, 16 bytes. */
  readonly uuid: Uint8Array;
  readonly generation: number;
  /** Contents of /proc/loadavg without its newline; `n/a` where it cannot be read. */
  readonly loadAverage: string;
  /** `hopfudge` plus the number of configured nodes, ping nodes included. */
  readonly ttl: number;
}

/**
 * Append the common fields in Heartbeat's order: destuuid, src, srcuuid, seq, hg, ts, ld, ttl. A value that is
 * already there stays (a ping reply keeps its `src`); an `NS_` message gets neither `seq` nor `ld`.
 * @param seq      next sequence number, from 1; ignored for `NS_` messages
 * @param unixTime seconds
 * @param destUuid uuid of the node in `dest`, where it is known
 * @see Heartbeat 3.0.6, fields added by the sender
 */
export function withCommonFields(
  message: HaMessage,
  sender: Sender,
  seq: number,
  unixTime: number,
  destUuid?: Uint8Array,
): HaMessage {
  const fields: HaField[] = [...message.fields];
  const add = (field: HaField): void => {
    if (!message.has(field.name)) fields.push(field);
  };
  const unsequenced = isUnsequenced(message.type);
  if (destUuid !== undefined && message.has("dest")) add({ name: "destuuid", type: 1, value: destUuid });
  add({ name: "src", type: 0, value: sender.node });
  add({ name: "srcuuid", type: 1, value: sender.uuid });
  if (!unsequenced) add({ name: "seq", type: 0, value: formatHex(seq) });
  add({ name: "hg", type: 0, value: formatHex(sender.generation) });
  add({ name: "ts", type: 0, value: formatHex(unixTime) });
  if (!unsequenced) add({ name: "ld", type: 0, value: sender.loadAverage });
  add({ name: "ttl", type: 0, value: String(sender.ttl) });
  return new HaMessage(fields);
}

/** Why a message cannot be used by any receiver, or undefined: `t`, `src`, `ts` and (unless `NS_…`) `seq` must be there. */
export function missingMandatoryField(message: HaMessage): string | undefined {
  const t = message.get("t");
  if (t === undefined || t === "") return "t";
  if ((message.get("src") ?? "") === "") return "src";
  if ((message.hex("ts") ?? 0) === 0) return "ts";
  if (!isUnsequenced(t) && (message.hex("seq") ?? 0) === 0) return "seq";
  return undefined;
}
