import { ErrorCode, HaError } from "../base/errors.ts";
import { SECTOR_SIZE } from "../base/units.ts";
import {
  AL_GEOMETRY_DEFAULT,
  alBlocks,
  bitmapBytesOnDisk,
  layoutFor,
  type MetaLayout,
  type MetaPlacement,
  SUPERBLOCK_SIZE,
} from "../meta/layout.ts";
import {
  checkPlacement,
  decodeSuperblock,
  MdFlag,
  requireClean,
  type Superblock,
  superblockGeometry,
} from "../meta/superblock.ts";
import { ConnState, DiskState, Role } from "../wire/state-word.ts";
import { Bitmap } from "./bitmap.ts";
import { disksFromFlags } from "./metadata-flags.ts";
import { AdminError, type DiskGeometry } from "./ports.ts";
import type { Volume } from "./volume.ts";

export type AttachDone = (code: number, text: string) => void;

const BITMAP_READ_BYTES = 1024 * 1024;

/** Brings the backing disk of a volume into service and takes it out again. */
export class Attachment {
  readonly #v: Volume;
  #done: AttachDone | undefined;
  #geometry: DiskGeometry | undefined;
  #dSizeSectors = 0;
  /** What the metadata says about both disks, while the peer has its say. */
  negotiated: { readonly disk: DiskState; readonly pdsk: DiskState } | undefined;

  constructor(volume: Volume) {
    this.#v = volume;
  }

  get geometry(): DiskGeometry | undefined {
    return this.#geometry;
  }

  /** Usable size of the backing device, sectors; 0 without one. */
  get usableSectors(): number {
    return this.#v.disk.isOpen ? this.#dSizeSectors : 0;
  }

  attach(done: AttachDone): void {
    const v = this.#v;
    if (v.state.disk !== DiskState.Diskless || this.#done !== undefined || v.disk.isOpen) {
      done(AdminError.diskConfigured, "(124) Device is attached to a disk (use detach first)");
      return;
    }
    this.#done = done;
    v.change({ disk: DiskState.Attaching }, "attach");
    v.ctx.sink.openDisk(v.number);
  }

  opened(error: string | undefined, geometry: DiskGeometry | undefined): void {
    const v = this.#v;
    if (this.#done === undefined) {
      if (error === undefined) v.ctx.sink.closeDisk(v.number);
      return;
    }
    if (error !== undefined || geometry === undefined) {
      this.#fail(AdminError.openBackingDevice, `(104) Can not open backing device. ${error ?? ""}`.trim());
      return;
    }
    this.#geometry = geometry;
    const internal = v.diskOptions.meta.kind === "internal";
    v.disk.open(internal);
    this.#guard(() => {
      const layout = this.#layout(geometry, AL_GEOMETRY_DEFAULT);
      v.disk.readMeta(layout.superblockSector * SECTOR_SIZE, SUPERBLOCK_SIZE, (errno, bytes) => {
        if (errno !== 0 || bytes === undefined) {
          this.#fail(AdminError.ioMetadata, `(118) IO error(s) occurred during initial access to meta-data (${errno})`);
          return;
        }
        this.#guard(() => this.#superblock(geometry, bytes));
      });
    });
  }

  #layout(geometry: DiskGeometry, al: MetaLayout["al"]): MetaLayout {
    const { meta } = this.#v.diskOptions;
    const placement: MetaPlacement =
      meta.kind === "internal" ? "internal" : meta.kind === "external" ? "flexible" : { index: meta.index };
    const sectors = (bytes: number): number => Math.floor(bytes / SECTOR_SIZE);
    return layoutFor(placement, sectors(geometry.metaDeviceBytes), sectors(geometry.dataDeviceBytes), al);
  }

  /** Metadata that makes no sense ends the attach with the reader's own explanation. */
  #guard(fn: () => void): void {
    try {
      fn();
    } catch (error) {
      if (!(error instanceof HaError)) throw error;
      const code =
        error.code === ErrorCode.metaUnclean
          ? AdminError.mdUnclean
          : error.code === ErrorCode.storeTooSmall
            ? AdminError.diskTooSmall
            : AdminError.mdInvalid;
      this.#fail(code, `(${code}) ${error.message}`);
    }
  }

  #superblock(geometry: DiskGeometry, bytes: Uint8Array): void {
    const v = this.#v;
    const superblock = decodeSuperblock(bytes);
    const layout = this.#layout(geometry, superblockGeometry(superblock));
    checkPlacement(superblock, layout);
    requireClean(superblock);
    const configured = v.diskOptions.sizeSectors;
    const dataSectors = Math.min(layout.dataSectorsMax, Math.floor(geometry.dataDeviceBytes / SECTOR_SIZE));
    this.#dSizeSectors = dataSectors;
    const usable = configured === 0 ? dataSectors : Math.min(configured, dataSectors);
    const last = superblock.laSizeSectors;
    if (last > usable) {
      throw new HaError(
        ErrorCode.storeTooSmall,
        `Low.dev. smaller than requested DRBD-dev. size: ${usable} sectors are usable, the last agreed size is ${last}`,
        { usable, last },
      );
    }
    if (v.state.role === Role.Primary && v.exposedUuid !== 0n) {
      if (((v.exposedUuid ^ superblock.uuids.current) & ~1n) !== 0n && v.state.conn < ConnState.Connected) {
        this.#fail(AdminError.dataNotCurrent, "(150) Can only attach to the data we lost last (see kernel log).");
        return;
      }
    }
    const size = last === 0 ? usable : last;
    const bitmap = new Bitmap(size);
    if (last === 0) {
      bitmap.setAll();
      bitmap.markAllPagesDirty();
      this.#finish(layout, superblock, bitmap);
      return;
    }
    this.#readBitmap(layout, size, bitmap, () => this.#finish(layout, superblock, bitmap));
  }

  #readBitmap(layout: MetaLayout, sizeSectors: number, bitmap: Bitmap, done: () => void): void {
    const total = bitmapBytesOnDisk(sizeSectors);
    let open = 1;
    let failed = 0;
    const finish = (): void => {
      if (--open > 0) return;
      if (failed === 0) done();
      else
        this.#fail(AdminError.ioMetadata, `(118) IO error(s) occurred during initial access to meta-data (${failed})`);
    };
    for (let at = 0; at < total; at += BITMAP_READ_BYTES) {
      const length = Math.min(BITMAP_READ_BYTES, total - at);
      open++;
      this.#v.disk.readMeta(layout.bitmapSector * SECTOR_SIZE + at, length, (errno, bytes) => {
        if (errno !== 0 || bytes === undefined) failed = errno === 0 ? 5 : errno;
        else bitmap.loadBytes(at, bytes);
        finish();
      });
    }
    finish();
  }

  #finish(layout: MetaLayout, superblock: Superblock, bitmap: Bitmap): void {
    const v = this.#v;
    const crashed = (superblock.flags & (MdFlag.crashedPrimary | MdFlag.primaryIndicator)) !== 0;
    const everything =
      (superblock.flags & MdFlag.fullSync) !== 0 || (crashed && (superblock.flags & MdFlag.alDisabled) !== 0);
    if (everything) bitmap.setAll();
    v.bitmap = bitmap;
    v.sizeSectors = bitmap.sizeSectors;
    v.uuids = superblock.uuids;
    v.flags = superblock.flags & ~(MdFlag.alClean | MdFlag.alDisabled);
    v.crashedPrimary = crashed;
    if (superblock.laPeerMaxBioSize > 0) v.peerMaxBioBytes = Math.min(superblock.laPeerMaxBioSize, v.peerMaxBioBytes);
    v.meta.open(layout, superblock);
    v.activity.open(v.diskOptions.alExtents, alBlocks(layout.al));
    // From here on the metadata is in use: a crash needs apply-al. The bitmap first, where it was not on disk yet.
    v.meta.syncBitmap((errno) => {
      if (errno !== 0) return;
      v.flags &= ~MdFlag.fullSync;
      v.meta.sync((failed) => {
        if (failed === 0 && this.#done !== undefined) this.#ready();
      });
    });
  }

  #ready(): void {
    const v = this.#v;
    const disks = disksFromFlags(v.flags, v.diskOptions.fencing);
    if (v.state.conn === ConnState.WFReportParams) {
      // The peer was told that there is no disk here; only a new handshake can compare what is on it.
      v.connection.fail(ConnState.NetworkFailure, "a disk was attached during the handshake");
    }
    const connected = v.state.conn >= ConnState.Connected;
    this.negotiated = disks;
    if (connected) v.change({ disk: DiskState.Negotiating }, "attach", true);
    else v.change({ disk: disks.disk, pdsk: disks.pdsk }, "attach", true);
    this.#succeed();
    if (connected) {
      v.connection.sendSizes(v);
      v.connection.sendUuids(v);
      v.connection.sendState(v);
    } else {
      this.negotiated = undefined;
    }
  }

  #succeed(): void {
    const done = this.#done;
    this.#done = undefined;
    done?.(1, "");
  }

  #fail(code: number, text: string): void {
    const v = this.#v;
    const done = this.#done;
    this.#done = undefined;
    if (v.disk.isOpen) v.disk.close();
    v.ctx.sink.closeDisk(v.number);
    v.change({ disk: DiskState.Diskless }, "attach failed", true);
    done?.(code, text);
  }

  /** The disk was given up: an attach in progress has failed. */
  dropped(): void {
    this.#geometry = undefined;
    this.#dSizeSectors = 0;
    this.negotiated = undefined;
    const done = this.#done;
    this.#done = undefined;
    done?.(AdminError.ioMetadata, "(118) IO error(s) occurred during initial access to meta-data");
  }

  /**
   * Takes the disk out of service, leaving clean metadata. The state is Failed already, so nothing new begins here.
   */
  release(done: () => void): void {
    const v = this.#v;
    v.whenSettled(() => {
      v.flags &= ~(MdFlag.primaryIndicator | MdFlag.connectedIndicator);
      v.meta.closeCleanly(() => {
        v.dropDisk("detached");
        done();
      });
    });
  }
}
