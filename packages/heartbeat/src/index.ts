/**
 * `@hacluster/heartbeat`: Heartbeat-3-compatible membership and service takeover for two nodes.
 * @packageDocumentation
 */
export type {
  AddressArgument,
  AuthKey,
  AuthKeys,
  AutoFailback,
  GroupResource,
  HaCf,
  HaclusterConf,
  Haresources,
  HeartbeatConfig,
  Medium,
  MonitorPolicy,
  RespawnClient,
  ServiceGroup,
  StonithDevice,
} from "./config/model.ts";
export type { RunnerSettings } from "./config/runner-settings.ts";
export { serializeAuthkeys, serializeHaCf, serializeHaresources } from "./config/serialize.ts";
export { clusterConfigOf, stonithDeviceOf } from "./core/cluster-config.ts";
export { ClusterEngine } from "./core/engine.ts";
export type {
  ClusterCommand,
  ClusterConfig,
  ClusterEvent,
  ClusterEventName,
  ClusterInputs,
  ClusterSink,
  ClusterStatus,
  CommandResult,
  DrbdFacts,
  FenceView,
  GroupSet,
  GroupView,
  NodeView,
  PingNodeView,
  ScriptJob,
  ScriptResult,
} from "./core/ports.ts";
export { ClusterNode, type ClusterNodeOptions } from "./daemon/cluster-node.ts";
export { type LoadedConfig, type LoadOptions, loadHeartbeatConfig } from "./drivers/config-files.ts";
export { openFenceDevice } from "./drivers/fencing/open-device.ts";
export { type Generation, loadUuid, nextGeneration, readNodeName } from "./drivers/identity.ts";
export { Journal, type JournalContents, readJournal } from "./drivers/journal.ts";
export type { MediaReport } from "./drivers/media.ts";
export { ResourceRunner, type RunnerOptions } from "./drivers/resource-runner.ts";
export type { StorageControl } from "./drivers/resources/drbddisk.ts";
export type { ActionResult, ResourceAlarm } from "./drivers/resources/resource.ts";
export { type RespawnReport, RespawnSet } from "./drivers/respawn.ts";
export { Watchdog } from "./drivers/watchdog.ts";
