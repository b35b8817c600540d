/** One direction of a TCP connection, as far as a capture has it without a gap. */
export interface TcpStream {
  readonly source: string;
  readonly destination: string;
  /** Whether the capture has its SYN, so that the stream starts with the first byte that was sent. */
  readonly fromStart: boolean;
  /** Bytes that the capture cut off (snap length) read as 0. */
  readonly bytes: Uint8Array;
  /** Ranges [start, end) of `bytes` that the capture cut off, ascending. */
  readonly holes: readonly (readonly [number, number])[];
}

/** Two directions; `client` is the one that dialled, as far as the capture tells. */
export interface TcpConnection {
  readonly client: TcpStream;
  readonly server: TcpStream;
}

interface Segment {
  readonly sequence: number;
  readonly length: number;
  readonly captured: Uint8Array;
}

interface Flow {
  readonly source: string;
  readonly destination: string;
  readonly segments: Segment[];
  /** Sequence number of the first byte, from the SYN. */
  start: number | undefined;
  sentSynWithoutAck: boolean;
}

/** Reads a classic little-endian pcap of Ethernet frames and joins the TCP segments of each direction, IPv4 only. */
export function readTcpConnections(file: Uint8Array): TcpConnection[] {
  const flows = new Map<string, Flow>();
  for (const frame of frames(file)) addFrame(flows, frame.captured);
  const connections: TcpConnection[] = [];
  const seen = new Set<Flow>();
  for (const flow of flows.values()) {
    if (seen.has(flow)) continue;
    const other = flows.get(`${flow.destination}>${flow.source}`);
    if (other === undefined) continue;
    seen.add(flow).add(other);
    const [client, server] = other.sentSynWithoutAck ? [other, flow] : [flow, other];
    connections.push({ client: join(client), server: join(server) });
  }
  return connections;
}

function* frames(file: Uint8Array): Generator<{ captured: Uint8Array }> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(0, true) !== 0xa1b2c3d4 || view.getUint32(20, true) !== 1) throw new Error("not such a pcap");
  for (let at = 24; at < file.length; ) {
    const length = view.getUint32(at + 8, true);
    yield { captured: file.subarray(at + 16, at + 16 + length) };
    at += 16 + length;
  }
}

function addFrame(flows: Map<string, Flow>, frame: Uint8Array): void {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (view.getUint16(12) !== 0x0800 || frame[14 + 9] !== 6) return;
  const ipHeader = (frame[14]! & 15) * 4;
  const tcpAt = 14 + ipHeader;
  const dataAt = tcpAt + (frame[tcpAt + 12]! >> 4) * 4;
  const length = 14 + view.getUint16(16) - dataAt;
  const source = `${frame.subarray(26, 30).join(".")}:${view.getUint16(tcpAt)}`;
  const destination = `${frame.subarray(30, 34).join(".")}:${view.getUint16(tcpAt + 2)}`;
  const flags = frame[tcpAt + 13]!;
  const sequence = view.getUint32(tcpAt + 4);
  const key = `${source}>${destination}`;
  let flow = flows.get(key);
  if (flow === undefined) {
    flow = { source, destination, segments: [], start: undefined, sentSynWithoutAck: false };
    flows.set(key, flow);
  }
  if ((flags & 2) !== 0) {
    flow.start = (sequence + 1) >>> 0;
    flow.sentSynWithoutAck = (flags & 16) === 0;
  }
  if (length > 0) flow.segments.push({ sequence, length, captured: frame.subarray(dataAt, dataAt + length) });
}

function join(flow: Flow): TcpStream {
  const head = { source: flow.source, destination: flow.destination, fromStart: flow.start !== undefined };
  const base = flow.start ?? flow.segments[0]?.sequence ?? 0;
  const placed = flow.segments
    .map((s) => ({ ...s, at: (s.sequence - base) | 0 })) // 32-bit difference: sequence numbers wrap
    .filter((s) => s.at >= 0)
    .sort((a, b) => a.at - b.at || b.captured.length - a.captured.length);
  let end = 0;
  for (const s of placed) {
    if (s.at > end) break; // lost by the capture: what follows cannot be framed
    end = Math.max(end, s.at + s.length);
  }
  const bytes = new Uint8Array(end);
  const known = new Uint8Array(end);
  for (const s of placed) {
    if (s.at >= end) break;
    bytes.set(s.captured, s.at);
    known.fill(1, s.at, s.at + s.captured.length);
  }
  return { ...head, bytes, holes: unknownRanges(known) };
}

function unknownRanges(known: Uint8Array): [number, number][] {
  const holes: [number, number][] = [];
  for (let at = known.indexOf(0); at !== -1; ) {
    const end = known.indexOf(1, at);
    holes.push([at, end === -1 ? known.length : end]);
    at = end === -1 ? -1 : known.indexOf(0, end);
  }
  return holes;
}
