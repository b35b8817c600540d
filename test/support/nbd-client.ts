import { once } from "node:events";
import { connect, type Socket } from "node:net";

/** Big-endian fields one after the other, to write malformed messages by hand. */
export function fields(
  ...parts: readonly (readonly [bits: 8 | 16 | 32 | 64, value: number] | Uint8Array | string)[]
): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === "string") return Buffer.from(part);
      if (part instanceof Uint8Array) return Buffer.from(part);
      const [bits, value] = part;
      const out = Buffer.alloc(bits / 8);
      if (bits === 64) out.writeBigUInt64BE(BigInt(value));
      else out.writeUIntBE(value, 0, bits / 8);
      return out;
    }),
  );
}

export function option(number: number, data: Uint8Array = Buffer.alloc(0)): Buffer {
  return fields("IHAVEOPT", [32, number], [32, data.length], data);
}

export function goOption(name: string, number = 7, infos: readonly number[] = []): Buffer {
  const bytes = Buffer.from(name);
  return option(
    number,
    fields([32, bytes.length], bytes, [16, infos.length], ...infos.map((info) => [16, info] as const)),
  );
}

export function request(
  type: number,
  cookie: number,
  offset: number,
  length: number,
  options: { flags?: number; data?: Uint8Array; magic?: number } = {},
): Buffer {
  return fields(
    [32, options.magic ?? 0x25609513],
    [16, options.flags ?? 0],
    [16, type],
    [64, cookie],
    [64, offset],
    [32, length],
    options.data ?? Buffer.alloc(0),
  );
}

/** A socket that is read by the byte: enough of a client to say what no proper one would. */
export class RawNbdClient {
  readonly socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  closed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake?.();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
      this.#wake?.();
    });
  }

  static async open(path: string): Promise<RawNbdClient> {
    const socket = connect(path);
    await once(socket, "connect");
    return new RawNbdClient(socket);
  }

  /** Connects and gets as far as the first request. */
  static async begin(path: string, options: { structured?: boolean; name?: string } = {}): Promise<RawNbdClient> {
    const client = await RawNbdClient.open(path);
    await client.read(18);
    client.send(fields([32, 3]));
    if (options.structured === true) {
      client.send(option(8));
      await client.reply();
    }
    client.send(goOption(options.name ?? ""));
    while ((await client.reply()).type !== 1);
    return client;
  }

  send(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** The next `length` bytes. */
  async read(length: number): Promise<Buffer> {
    while (this.#bytes.length < length) {
      if (this.closed) throw new Error(`closed after ${this.#bytes.length} of ${length} bytes`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const out = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return out;
  }

  /** The next option reply. */
  async reply(): Promise<{ option: number; type: number; data: Buffer }> {
    const header = await this.read(20);
    const data = await this.read(header.readUInt32BE(16));
    return { option: header.readUInt32BE(8), type: header.readUInt32BE(12), data };
  }

  /** The next simple reply, without data. */
  async simple(): Promise<{ errno: number; cookie: number }> {
    const header = await this.read(16);
    if (header.readUInt32BE(0) !== 0x67446698) throw new Error(`not a simple reply: ${header.toString("hex")}`);
    return { errno: header.readUInt32BE(4), cookie: Number(header.readBigUInt64BE(8)) };
  }

  async end(): Promise<void> {
    if (this.closed) return;
    this.socket.destroy();
    await once(this.socket, "close");
  }

  /** Resolves when the server has hung up. */
  async hungUp(): Promise<void> {
    while (!this.closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}
