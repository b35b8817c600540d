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
  Haresources,
  HeartbeatConfig,
  Medium,
  ServiceGroup,
} from "./config/model.ts";
export { type RunnerSettings, readRunnerSettings } from "./config/runner-settings.ts";
export { serializeAuthkeys, serializeHaCf, serializeHaresources } from "./config/serialize.ts";
export { clusterConfigOf } from "./core/cluster-config.ts";
export { ClusterEngine } from "./core/engine.ts";
export type {
  ClusterCommand,
  ClusterConfig,
  ClusterEvent,
  ClusterEventName,
  ClusterInputs,
  ClusterSink,
  ClusterStatus,
  DrbdFacts,
  GroupSet,
  GroupView,
  NodeView,
  ScriptJob,
  ScriptResult,
} from "./core/ports.ts";
export { ClusterNode, type ClusterNodeOptions } from "./daemon/cluster-node.ts";
export { type LoadedConfig, type LoadOptions, loadHeartbeatConfig } from "./drivers/config-files.ts";
export { type Generation, loadUuid, nextGeneration, readNodeName } from "./drivers/identity.ts";
export type { MediaReport } from "./drivers/media.ts";
export { ResourceRunner, type RunnerOptions } from "./drivers/resource-runner.ts";
export type { StorageControl } from "./drivers/resources/drbddisk.ts";
export type { ActionResult, ResourceAlarm } from "./drivers/resources/resource.ts";
