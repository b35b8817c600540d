/** One IPv4 datagram of a capture. */
export interface CapturedDatagram {
  readonly timeMs: number;
  readonly source: string;
  readonly destination: string;
  /** 17 UDP, 1 ICMP. */
  readonly protocol: number;
  /** UDP ports; 0 for ICMP. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** UDP payload, or the data of an ICMP echo. */
  readonly payload: Uint8Array;
}

/** Reads a classic little-endian pcap of Ethernet frames with microseconds; IPv4 UDP and ICMP echo, whole packets only. */
export function readPcap(file: Uint8Array): CapturedDatagram[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, true) !== 0xa1b2c3d4 || view.getUint32(20, true) !== 1) throw new Error("not such a pcap");
  const out: CapturedDatagram[] = [];
  for (let at = 24; at < file.length; ) {
    const timeMs = view.getUint32(at, true) * 1000 + view.getUint32(at + 4, true) / 1000;
    const length = view.getUint32(at + 8, true);
    const frame = file.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    if (frame[12] !== 0x08 || frame[13] !== 0x00) continue;
    const ip = frame.subarray(14);
    const headerLength = (ip[0]! & 0x0f) * 4;
    const total = (ip[2]! << 8) | ip[3]!;
    const protocol = ip[9]!;
    const body = ip.subarray(headerLength, total);
    if (protocol !== 17 && protocol !== 1) continue;
    const port = (offset: number): number => (protocol === 17 ? (body[offset]! << 8) | body[offset + 1]! : 0);
    out.push({
      timeMs,
      source: ip.subarray(12, 16).join("."),
      destination: ip.subarray(16, 20).join("."),
      protocol,
      sourcePort: port(0),
      destinationPort: port(2),
      payload: body.subarray(8),
    });
  }
  return out;
}
