import { MdFlag, type Superblock } from "./superblock.ts";

/** What the metadata say about the data beside them, in the words of `drbdmeta dstate`. */
export type MetadataDiskState = "Inconsistent" | "Outdated" | "Consistent";

/**
 * Whether consistent data that were up to date still are cannot be told without the peer: that is "Consistent".
 * @see drbdmeta dstate
 */
export function metadataDiskState(superblock: Superblock): MetadataDiskState {
  if ((superblock.flags & MdFlag.consistent) === 0) return "Inconsistent";
  return (superblock.flags & MdFlag.wasUpToDate) === 0 ? "Outdated" : "Consistent";
}

/** The superblock of data that are known to be old; undefined: they are inconsistent, which is worse. @see drbdmeta outdate */
export function outdated(superblock: Superblock): Superblock | undefined {
  if ((superblock.flags & MdFlag.consistent) === 0) return undefined;
  return { ...superblock, flags: superblock.flags & ~MdFlag.wasUpToDate };
}

/** The superblock of data that are worth nothing: the next connection copies all of them. @see drbdmeta invalidate */
export function invalidated(superblock: Superblock): Superblock {
  const flags = superblock.flags & ~(MdFlag.consistent | MdFlag.wasUpToDate);
  return { ...superblock, flags: flags | MdFlag.fullSync };
}
