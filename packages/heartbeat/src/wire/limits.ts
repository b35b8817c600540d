/** Largest message on the wire, bytes. @see Heartbeat 3.0.6: 256 KiB receive buffer less one byte */
export const MESSAGE_BYTES_MAX: number = 256 * 1024 - 1;
/** Largest message after decompression, bytes; bounds what one packet can make us allocate. */
export const UNPACKED_BYTES_MAX: number = 2 * 1024 * 1024;
/** Fields of one message; ordinary traffic has about ten, a script's environment takes thirty. */
export const FIELDS_MAX = 256;
/** Nesting of messages in messages. @see Heartbeat 3.0.6: 16 levels */
export const DEPTH_MAX = 16;
/** Packed size of a list field, bytes. */
export const LIST_BYTES_MAX = 1023;
