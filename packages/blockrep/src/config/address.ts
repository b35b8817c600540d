import type { ConfigAddress } from "./model.ts";

/** `192.168.0.27:7788` or `[fd00::1]:7788`. */
export function formatAddress(address: ConfigAddress): string {
  return address.family === "ipv6" ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
