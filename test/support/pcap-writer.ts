/** Makes a capture of one TCP connection in which one side sends `segments`, each up to 60 KiB; Ethernet, IPv4. */
export function tcpPcap(port: number, segments: readonly Uint8Array[]): Uint8Array {
  const fileHeader = new Uint8Array(24);
  const view = new DataView(fileHeader.buffer);
  view.setUint32(0, 0xa1b2c3d4, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, 0x40000, true);
  view.setUint32(20, 1, true);
  let sequence = 1;
  const frames = segments.map((bytes, i) => {
    const frame = tcpFrame(port, sequence, bytes);
    sequence += bytes.length;
    const record = new Uint8Array(16);
    const r = new DataView(record.buffer);
    r.setUint32(0, 1_700_000_000 + i, true);
    r.setUint32(8, frame.length, true);
    r.setUint32(12, frame.length, true);
    return Buffer.concat([record, frame]);
  });
  return Buffer.concat([fileHeader, ...frames]);
}

function tcpFrame(port: number, sequence: number, bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(14 + 20 + 20 + bytes.length);
  const v = new DataView(frame.buffer);
  v.setUint16(12, 0x0800);
  v.setUint8(14, 0x45);
  v.setUint16(16, 40 + bytes.length);
  v.setUint8(22, 64);
  v.setUint8(23, 6);
  v.setUint32(26, 0x0a4d0002);
  v.setUint32(30, 0x0a4d0001);
  v.setUint16(34, 50000);
  v.setUint16(36, port);
  v.setUint32(38, sequence);
  v.setUint32(42, 1);
  v.setUint8(46, 0x50);
  v.setUint8(47, 0x18);
  v.setUint16(48, 0xffff);
  frame.set(bytes, 54);
  return frame;
}
