import { fileURLToPath } from "node:url";
import type { ResourceSettings } from "@hacluster/blockrep";

const BIN = fileURLToPath(new URL("../../bin/hacluster.js", import.meta.url));
/** Heartbeat's program for this, wherever a distribution put it. */
const OLD_NAME = /^(?:\S*\/)?drbd-peer-outdater(?=\s|$)/;

/**
 * A `fence-peer "/usr/lib/heartbeat/drbd-peer-outdater -t 5"` of an existing drbd.conf means our own: the old program talks
 * to a real Heartbeat's dopd, which does not run here. The other handlers stay as they are.
 */
export function withOwnPeerOutdater(settings: ResourceSettings): ResourceSettings {
  const handler = settings.handlers["fence-peer"]?.trim();
  if (handler === undefined || !OLD_NAME.test(handler)) return settings;
  const own = handler.replace(OLD_NAME, () => `'${process.execPath}' '${BIN}' outdate-peer`);
  return { ...settings, handlers: { ...settings.handlers, "fence-peer": own } };
}
