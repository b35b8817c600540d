import { AL_EXTENT_SECTORS, SECTORS_PER_BLOCK } from "@hacluster/blockrep/base";
import { readAl } from "@hacluster/blockrep/unstable/meta/apply-al";
import { decodeSuperblock, MdFlag } from "@hacluster/blockrep/unstable/meta/superblock";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** What the metadata on one disk say if the power fails now: `durable` as flushed, otherwise with all that is in the cache. */
class Names {
  readonly #node: SimNode;
  readonly #durable: boolean;
  readonly #extents: Set<number>;

  constructor(node: SimNode, durable: boolean) {
    this.#node = node;
    this.#durable = durable;
    const { layout, store } = node;
    const superblock = decodeSuperblock(store.bytes(layout.superblockSector, 8, durable));
    const replayed =
      (superblock.flags & MdFlag.primaryIndicator) !== 0 &&
      !(superblock.clean && (superblock.flags & MdFlag.alClean) !== 0);
    const area = store.bytes(layout.alSector, layout.superblockSector - layout.alSector, durable);
    this.#extents = new Set(replayed ? readAl(area, layout).hotExtents : []);
  }

  log(block: number): boolean {
    return this.#extents.has(Math.floor((block * SECTORS_PER_BLOCK) / AL_EXTENT_SECTORS));
  }

  bitmap(block: number): boolean {
    const byte = block >>> 3;
    const sector = this.#node.layout.bitmapSector + (byte >>> 9);
    return ((this.#node.store.bytes(sector, 1, this.#durable)[byte & 511] as number) & (1 << (block & 7))) !== 0;
  }
}

/**
 * D4: each block that would differ if the power failed now is named by a log or a bitmap on stable storage. What is
 * written and not flushed may or may not survive, in data and metadata alike; a block counts as named when it is so either way.
 */
export function checkMetadataTruth(world: World): void {
  const blocks = blocksThatMayDiffer(world);
  if (blocks.size === 0) return;
  const views = world.nodes.map((node) => [new Names(node, true), new Names(node, false)] as const);
  for (const block of blocks) {
    const named = views.some(
      ([durable, cached]) =>
        (durable.bitmap(block) && cached.bitmap(block)) || (durable.log(block) && cached.log(block)),
    );
    if (named) continue;
    const sector = block * SECTORS_PER_BLOCK;
    world.violation("D4", `the disks may differ in block ${block} (sector ${sector}), which no metadata name`);
    return;
  }
}

function blocksThatMayDiffer(world: World): Set<number> {
  const [a, b] = world.nodes;
  const blocks = new Set<number>();
  for (const sector of new Set([...a.store.writtenSectors(), ...b.store.writtenSectors()])) {
    const block = Math.floor(sector / SECTORS_PER_BLOCK);
    if (blocks.has(block)) continue;
    const value = a.store.id(sector);
    const same = value === a.store.durableId(sector) && value === b.store.id(sector);
    if (!same || value !== b.store.durableId(sector)) blocks.add(block);
  }
  for (const node of world.nodes) {
    for (const [sector, count] of node.writing.values()) {
      const last = Math.floor((sector + count - 1) / SECTORS_PER_BLOCK);
      for (let block = Math.floor(sector / SECTORS_PER_BLOCK); block <= last; block++) blocks.add(block);
    }
  }
  return blocks;
}
