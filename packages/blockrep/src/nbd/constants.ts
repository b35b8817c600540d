/** Numbers of the NBD protocol. @see https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md */

export const NBD_MAGIC_HIGH = 0x4e42444d; // "NBDMAGIC", the first eight bytes a server sends
export const NBD_MAGIC_LOW = 0x41474943;
export const NBD_IHAVEOPT_HIGH = 0x49484156; // "IHAVEOPT"
export const NBD_IHAVEOPT_LOW = 0x454f5054;
export const NBD_OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const NBD_OPTION_REPLY_MAGIC_LOW = 0x045565a9;

export const NBD_FLAG_FIXED_NEWSTYLE = 0x1;
export const NBD_FLAG_NO_ZEROES = 0x2;

export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_ABORT = 2;
export const NBD_OPT_LIST = 3;
export const NBD_OPT_STARTTLS = 5;
export const NBD_OPT_INFO = 6;
export const NBD_OPT_GO = 7;
export const NBD_OPT_STRUCTURED_REPLY = 8;
export const NBD_OPT_LIST_META_CONTEXT = 9;
export const NBD_OPT_SET_META_CONTEXT = 10;

export const NBD_REP_ACK = 1;
export const NBD_REP_SERVER = 2;
export const NBD_REP_INFO = 3;
export const NBD_REP_ERR_UNSUP = 0x80000001;
export const NBD_REP_ERR_INVALID = 0x80000003;
export const NBD_REP_ERR_UNKNOWN = 0x80000006;
export const NBD_REP_ERR_TOO_BIG = 0x80000009;

export const NBD_INFO_EXPORT = 0;
export const NBD_INFO_NAME = 1;
export const NBD_INFO_DESCRIPTION = 2;
export const NBD_INFO_BLOCK_SIZE = 3;

export const NBD_FLAG_HAS_FLAGS = 0x0001;
export const NBD_FLAG_READ_ONLY = 0x0002;
export const NBD_FLAG_SEND_FLUSH = 0x0004;
export const NBD_FLAG_SEND_FUA = 0x0008;
export const NBD_FLAG_SEND_TRIM = 0x0020;
export const NBD_FLAG_SEND_WRITE_ZEROES = 0x0040;
export const NBD_FLAG_SEND_DF = 0x0080;
export const NBD_FLAG_CAN_MULTI_CONN = 0x0100;
export const NBD_FLAG_SEND_FAST_ZERO = 0x0800;

export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;

export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_CACHE = 5;
export const NBD_CMD_WRITE_ZEROES = 6;
export const NBD_CMD_BLOCK_STATUS = 7;

export const NBD_CMD_FLAG_FUA = 0x01;
export const NBD_CMD_FLAG_NO_HOLE = 0x02;
export const NBD_CMD_FLAG_DF = 0x04;
export const NBD_CMD_FLAG_FAST_ZERO = 0x10;

export const NBD_REPLY_FLAG_DONE = 0x1;
export const NBD_REPLY_TYPE_NONE = 0;
export const NBD_REPLY_TYPE_OFFSET_DATA = 1;
export const NBD_REPLY_TYPE_ERROR = 0x8001;

export const NBD_REQUEST_BYTES = 28;
export const NBD_SIMPLE_REPLY_BYTES = 16;
export const NBD_CHUNK_HEADER_BYTES = 20;
export const NBD_OPTION_HEADER_BYTES = 16;

/** Errors as they travel: Linux's numbers, whatever the machine. 0 is success. */
export const NbdErrno = {
  ok: 0,
  notPermitted: 1, // EPERM: a write to a read-only export
  io: 5, // EIO
  noMemory: 12, // ENOMEM
  invalid: 22, // EINVAL
  noSpace: 28, // ENOSPC: a write that leaves the device
  overflow: 75, // EOVERFLOW
  notSupported: 95, // ENOTSUP: zeroing is not faster than writing
  shutdown: 108, // ESHUTDOWN
} as const;

/** Largest payload of one request. A client that did not ask for our block sizes may send this much. */
export const NBD_PAYLOAD_MAX: number = 32 * 1024 * 1024;
/** Longest option that is read into memory; the longest sensible one carries a name of 4096 bytes. */
export const NBD_OPTION_LENGTH_MAX: number = 16 * 1024;
/** Longest export name. */
export const NBD_NAME_MAX = 4096;
/** Options that one client may send before it must begin with work. */
export const NBD_OPTION_COUNT_MAX = 64;
