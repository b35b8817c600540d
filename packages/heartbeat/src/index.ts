/**
 * `@hacluster/heartbeat`: Heartbeat-3-compatible membership and service takeover for two nodes.
 * @packageDocumentation
 */
export {};
