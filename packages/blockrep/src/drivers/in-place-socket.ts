import { Socket } from "node:net";

/** Who receives: memory for the next read, and what was read into it. */
export interface InPlaceReader {
  buffer(): Uint8Array;
  /** @returns false when the socket is to stop reading */
  received(chunk: Uint8Array): boolean;
}

/** The option of `net.connect` that lets a socket read straight into the reader's memory. */
export function onread(reader: InPlaceReader): {
  buffer: () => Uint8Array;
  callback: (bytes: number, memory: Uint8Array) => boolean;
} {
  return {
    buffer: () => reader.buffer(),
    callback: (bytes, memory) => reader.received(memory.subarray(0, bytes)),
  };
}

/**
 * The same for a socket that was accepted, to which Node does not offer it: its handle is moved to a new socket. Where the
 * handle is not to be had, data events do the same with a copy.
 * @param accepted from a server with `pauseOnConnect`
 * @returns the socket to use from now on
 */
export function adoptSocket(
  accepted: Socket,
  reader: InPlaceReader,
  options: { readonly allowHalfOpen: boolean; readonly inPlace?: boolean },
): Socket {
  const shell = accepted as unknown as { _handle: unknown };
  const handle = shell._handle;
  const usable = handle !== null && typeof handle === "object" && "useUserBuffer" in handle;
  if (options.inPlace !== false && usable) {
    shell._handle = null;
    accepted.destroy(); // the empty shell, so that the server no longer counts it
    const init = { handle, allowHalfOpen: options.allowHalfOpen, onread: onread(reader) };
    return new Socket(init as ConstructorParameters<typeof Socket>[0]);
  }
  accepted.on("data", (chunk: Uint8Array) => {
    if (!reader.received(chunk)) accepted.pause();
  });
  accepted.resume();
  return accepted;
}
