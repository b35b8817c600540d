/** Text with one character per byte; see HaField. */
export function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** The bytes of such a text; characters above U+00FF are a caller's mistake and lose their upper half. */
export function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

export function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** Strict: the alphabet of RFC 4648 with padding; undefined for anything else. */
export function bytesOfBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  return new Uint8Array(Buffer.from(text, "base64"));
}

export function concatBytes(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}

/** `bytes` has `text` at `offset`. */
export function hasAt(bytes: Uint8Array, offset: number, text: string): boolean {
  if (offset + text.length > bytes.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[offset + i] !== text.charCodeAt(i)) return false;
  return true;
}

/** For logs: printable ASCII as it is, everything else as `.`, at most `max` characters. */
export function printable(text: string, max = 40): string {
  const shown = text.slice(0, max).replace(/[^\x20-\x7e]/g, ".");
  return text.length > max ? `${shown}…` : shown;
}
