/**
 * `@hacluster/blockrep`: DRBD-compatible synchronous block replication in userspace.
 * @packageDocumentation
 */
export * from "./base/index.ts";
export * from "./config/index.ts";
export { NET_DEFAULTS } from "./core/net-defaults.ts";
export {
  type AdminCommand,
  AdminError,
  type AdminVerb,
  type DiskGeometry,
  type DiskOptions as EngineDiskOptions,
  type EngineEvent,
  type EngineOptions,
  type EngineSink,
  Errno,
  type NetOptions as EngineNetOptions,
  type ResourceInputs,
  type ResourceSnapshot,
  type ResyncProgress,
  type VolumeSnapshot,
} from "./core/ports.ts";
export { ResourceEngine } from "./core/resource.ts";
export type { Adjustment } from "./daemon/adjust.ts";
export { EngineBackend } from "./daemon/engine-backend.ts";
export {
  type ApplyResult,
  applyActivityLog,
  type CreateResult,
  createMetadata,
  dumpMetadata,
  generationIdentifiers,
  hasMetadata,
  invalidateMetadata,
  type MetadataTarget,
  outdateMetadata,
  readDiskState,
  wipeMetadata,
} from "./daemon/metadata-tools.ts";
export { type OpenDeviceOptions, openDevice, type ReplicatedDevice } from "./daemon/open-device.ts";
export {
  Resource,
  type ResourceEvents,
  type ResourceSettings,
  type ResourceStatus,
  type VolumeCounters,
  type VolumeSettings,
  type VolumeStatus,
} from "./daemon/resource.ts";
export { metadataTargets, PROTOCOL_VERSIONS, settingsOf } from "./daemon/settings.ts";
export { VerifySchedule, verifyTimes } from "./daemon/verify-schedule.ts";
export {
  type AttachOptions,
  attachDevice,
  attachedHolders,
  cleanLeftovers,
  defaultAttachMethod,
  detachDevice,
} from "./drivers/attach.ts";
export { type AttachMethod, type Attachment, readAttachment } from "./drivers/attachment-record.ts";
export { type BlockStore, type StoreDone, StoreRange } from "./drivers/block-store.ts";
export {
  absoluteConfigFile,
  type ReadDrbdConfOptions,
  readDrbdConf,
} from "./drivers/config-files.ts";
export { FileStore, type FileStoreOptions } from "./drivers/file-store.ts";
export { MemoryStore } from "./drivers/memory-store.ts";
export { recoverAl } from "./meta/apply-al.ts";
export { type MetadataDiskState, metadataDiskState } from "./meta/change.ts";
export { createMd, type MetaRegion } from "./meta/create.ts";
export { type DumpHeader, dumpMd } from "./meta/dump.ts";
export { formatGi, formatShowGi } from "./meta/gi.ts";
export { type AlGeometry, layoutFor, type MetaLayout, type MetaPlacement } from "./meta/layout.ts";
export {
  checkPlacement,
  decodeSuperblock,
  encodeSuperblock,
  MdFlag,
  requireClean,
  type Superblock,
} from "./meta/superblock.ts";
export { formatUuids, type UuidSet } from "./meta/uuid-set.ts";
export { type BlockBackend, type Done, ZERO_FAST, ZERO_FUA, ZERO_NO_HOLE } from "./nbd/backend.ts";
export { NbdErrno } from "./nbd/constants.ts";
export { type NbdExport, NbdServer, type NbdServerOptions } from "./nbd/server.ts";
export { StoreBackend } from "./nbd/store-backend.ts";
export {
  ConnState,
  connName,
  DiskState,
  diskName,
  Role,
  roleName,
  type StateFields,
  unpackState,
} from "./wire/state-word.ts";
