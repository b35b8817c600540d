import type { DiskGeometry } from "../core/ports.ts";
import type { BlockStore } from "../drivers/block-store.ts";
import { FileStore } from "../drivers/file-store.ts";
import type { OpenDisk } from "./engine-host.ts";

/**
 * Open a volume's backing disk, and its metadata disk where that is another one, both locked against others.
 * @throws HaError HA_STORE_MISSING, HA_STORE_BUSY, HA_STORE_TOO_SMALL, HA_STORE_IO
 */
export async function openVolumeDisk(settings: {
  readonly disk: string;
  readonly metaDisk?: string;
}): Promise<OpenDisk> {
  const data = FileStore.open(settings.disk);
  let meta: BlockStore = data;
  if (settings.metaDisk !== undefined) {
    try {
      meta = FileStore.open(settings.metaDisk);
    } catch (error) {
      await data.close();
      throw error;
    }
  }
  return { geometry: geometryOf(data, meta), data, meta, close: () => closeBoth(data, meta) };
}

function geometryOf(data: FileStore, meta: BlockStore): DiskGeometry {
  return {
    dataDeviceBytes: data.sizeBytes,
    metaDeviceBytes: meta.sizeBytes,
    // what the wire announces; the store itself takes any whole sectors
    logicalBlockSize: 512,
    physicalBlockSize: 4096,
    discard: data.canDiscard,
  };
}

async function closeBoth(data: BlockStore, meta: BlockStore): Promise<void> {
  await data.close();
  if (meta !== data) await meta.close();
}
