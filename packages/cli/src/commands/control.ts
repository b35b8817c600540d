import type { ResourceStatus } from "@hacluster/blockrep";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import type { ClusterStatus } from "@hacluster/heartbeat";
import { ControlClient } from "../control/client.ts";
import type { ControlValue } from "../control/protocol.ts";
import { blockrepSocket, HEARTBEAT_SOCKET } from "../paths.ts";

type Params = { readonly [key: string]: ControlValue };

/** A request to the process of one resource. @throws HaError HA_DAEMON_NOT_RUNNING saying how to start it */
export async function callBlockrep(resource: string, method: string, params: Params = {}): Promise<ControlValue> {
  try {
    return await ControlClient.call(blockrepSocket(resource), method, params);
  } catch (error) {
    if (error instanceof HaError && error.code === ErrorCode.daemonNotRunning) {
      throw new HaError(
        ErrorCode.daemonNotRunning,
        `resource ${resource} is not up: run "hacluster blockrep up ${resource}" first (${error.message})`,
        { resource },
        error,
      );
    }
    throw error;
  }
}

export async function blockrepStatus(resource: string): Promise<ResourceStatus> {
  return (await callBlockrep(resource, "status")) as unknown as ResourceStatus;
}

/** Undefined when no process serves the resource. */
export async function blockrepStatusIfUp(resource: string): Promise<ResourceStatus | undefined> {
  try {
    return await blockrepStatus(resource);
  } catch (error) {
    if (error instanceof HaError && error.code === ErrorCode.daemonNotRunning) return undefined;
    throw error;
  }
}

export function callHeartbeat(method: string, params: Params = {}): Promise<ControlValue> {
  return ControlClient.call(HEARTBEAT_SOCKET, method, params);
}

export async function clusterStatusIfRunning(): Promise<ClusterStatus | undefined> {
  try {
    return (await callHeartbeat("status")) as unknown as ClusterStatus;
  } catch (error) {
    if (error instanceof HaError && error.code === ErrorCode.daemonNotRunning) return undefined;
    throw error;
  }
}
