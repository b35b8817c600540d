import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StoreRange } from "@hacluster/blockrep/unstable/drivers/block-store";
import { DelayStore, ErrorStore, TornStore } from "@hacluster/blockrep/unstable/drivers/faulty-store";
import { FileStore } from "@hacluster/blockrep/unstable/drivers/file-store";
import { MemoryStore } from "@hacluster/blockrep/unstable/drivers/memory-store";
import { blockStoreConformance } from "./block-store.ts";

const SIZE = 4 * 1024 * 1024;
const nothing = (): void => {};

function fileOf(sizeBytes: number): { path: string; end: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "hacluster-store-"));
  const path = join(folder, "disk");
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return { path, end: () => rmSync(folder, { recursive: true }) };
}

blockStoreConformance("memory", async () => ({ store: new MemoryStore(SIZE), end: nothing }));

blockStoreConformance("file", async () => {
  const { path, end } = fileOf(SIZE);
  return { store: FileStore.open(path), end };
});

blockStoreConformance("range of a file", async () => {
  const { path, end } = fileOf(SIZE + 8192);
  const whole = FileStore.open(path);
  const store = new StoreRange(whole, 4096, SIZE);
  return {
    store,
    end: () => {
      whole.close().catch(nothing);
      end();
    },
  };
});

blockStoreConformance("delay", async () => ({ store: new DelayStore(new MemoryStore(SIZE), 1), end: nothing }));
blockStoreConformance("error, none picked", async () => ({
  store: new ErrorStore(new MemoryStore(SIZE), () => false),
  end: nothing,
}));
blockStoreConformance("torn, none picked", async () => ({
  store: new TornStore(new MemoryStore(SIZE), () => undefined),
  end: nothing,
}));
