import type { SourcePosition } from "@hacluster/blockrep/base";
import type { RunnerSettings } from "./runner-settings.ts";

/** A network or serial path to the other node, in the order of ha.cf. Its name in link states is interface or device. */
export type Medium =
  | { readonly kind: "bcast"; readonly interface: string; readonly port: number; readonly at: SourcePosition }
  | {
      readonly kind: "ucast" | "ucast6";
      readonly interface: string;
      /** Address or host name of the other node. */
      readonly address: string;
      readonly port: number;
      readonly at: SourcePosition;
    }
  | {
      readonly kind: "mcast" | "mcast6";
      readonly interface: string;
      readonly group: string;
      readonly port: number;
      readonly ttl: number;
      readonly loop: boolean;
      readonly at: SourcePosition;
    }
  | { readonly kind: "serial"; readonly device: string; readonly baud: number; readonly at: SourcePosition };

/** A pseudo node: hosts that answer ICMP echo. A `ping_group` lives while one of its hosts does. */
export interface PingNode {
  readonly kind: "ping" | "ping6" | "ping_group" | "hbaping";
  readonly name: string;
  readonly hosts: readonly string[];
  readonly at: SourcePosition;
}

export interface ConfiguredNode {
  /** Lower case. */
  readonly name: string;
  readonly at: SourcePosition;
}

/** `respawn USER COMMAND…`: a client kept running; `failfast`: the machine reboots when it dies. */
export interface RespawnClient {
  readonly user: string;
  /** Absolute path of the program. */
  readonly path: string;
  readonly args: readonly string[];
  readonly failfast: boolean;
  /** ipfail and dopd, recognised by their base names, are served by our own implementations. */
  readonly builtIn: "ipfail" | "dopd" | undefined;
  readonly at: SourcePosition;
}

export interface StonithDevice {
  /** Which node may use the device: a name or `*`; undefined for the `stonith` directive, which names none. */
  readonly host: string | undefined;
  readonly type: string;
  /** Parameters in order (`stonith_host`), or the one path of a configuration file (`stonith`). */
  readonly params: readonly string[];
  readonly at: SourcePosition;
}

/** `on`: groups return to their preferred node by themselves; `off`: they stay; `legacy`: the old protocol. */
export type AutoFailback = "on" | "off" | "legacy";

/** A value of a directive as written, for `HA_<directive>` in scripts' environments and for listings. */
export interface Setting {
  readonly directive: string;
  readonly value: string;
  readonly at: SourcePosition;
}

/** ha.cf as understood: times in integer milliseconds, defaults filled in. */
export interface HaCf {
  readonly file: string;
  readonly nodes: readonly ConfiguredNode[];
  readonly pingNodes: readonly PingNode[];
  readonly media: readonly Medium[];

  readonly keepaliveMs: number;
  /** How long others wait for us before they call us dead; announced as `dt`. */
  readonly deadtimeMs: number;
  readonly warntimeMs: number;
  readonly initdeadMs: number;
  readonly deadpingMs: number;
  readonly maxRetransmitDelayMs: number;
  readonly udpport: number;
  readonly baud: number;
  readonly hopfudge: number;
  readonly autoFailback: AutoFailback;
  /** `classic` messages carry an inner signature, `netstring` ones do not; both travel in netstring framing. */
  readonly msgfmt: "classic" | "netstring";
  readonly compression: { readonly algorithm: string; readonly thresholdBytes: number; readonly traditional: boolean };
  readonly generationMethod: "file" | "time";
  readonly uuidFrom: "file" | "nodename";

  readonly logfile: string | undefined;
  readonly debugfile: string | undefined;
  /** Syslog facility name; undefined: no syslog. */
  readonly logfacility: string | undefined;
  readonly useLogd: boolean;
  readonly syslogMessageFormat: boolean;
  readonly logBadPackets: boolean;
  readonly debug: number;

  readonly stonith: readonly StonithDevice[];
  readonly respawn: readonly RespawnClient[];
  readonly watchdog: string | undefined;
  readonly realtime: boolean;
  readonly cluster: string;
  /** `env NAME=VALUE`: exported to scripts as HA_NAME. */
  readonly environment: readonly (readonly [name: string, value: string])[];

  /** Every setting in the order of the file. */
  readonly settings: readonly Setting[];
}

/** `ip[/bits[/interface[:label]][/broadcast]]`, the argument of IPaddr and IPaddr2. */
export interface AddressArgument {
  readonly ip: string;
  readonly prefixBits: number | undefined;
  readonly interface: string | undefined;
  readonly label: string | undefined;
  readonly broadcast: string | undefined;
}

interface ResourceText {
  /** As in the file after normalisation; what names the resource in logs and commands. */
  readonly text: string;
  /** Script name: what stands before the first `::`, `IPaddr` for a bare address. */
  readonly script: string;
  /** What stands between the further `::`, empty arguments dropped, as the script is called. */
  readonly args: readonly string[];
  readonly at: SourcePosition;
}

/** A resource of a service group; those that hacluster serves itself carry their arguments understood. */
export type GroupResource = ResourceText &
  (
    | { readonly kind: "address"; readonly address: AddressArgument }
    | { readonly kind: "drbddisk"; readonly resource: string }
    | {
        readonly kind: "filesystem";
        readonly device: string;
        readonly directory: string;
        readonly fstype: string | undefined;
        readonly options: string | undefined;
      }
    | { readonly kind: "ocf"; readonly agent: string }
    | { readonly kind: "systemd"; readonly unit: string }
    | { readonly kind: "script" }
  );

/** One line of haresources: started left to right, stopped right to left, held by one node at a time. */
export interface ServiceGroup {
  /** Preferred node, lower case. */
  readonly node: string;
  /** Text of the first resource; unique in the file. */
  readonly key: string;
  readonly resources: readonly GroupResource[];
  readonly at: SourcePosition;
}

export interface Haresources {
  readonly file: string;
  readonly groups: readonly ServiceGroup[];
}

/** `sha256` is hacluster's own; a real Heartbeat refuses a file that has it. */
export type AuthMethod = "crc" | "md5" | "sha1" | "sha256";

export interface AuthKey {
  readonly method: AuthMethod;
  /** Key bytes as in the file; empty for crc. */
  readonly key: Uint8Array;
}

export interface AuthKeys {
  /** Index that signs what we send. */
  readonly active: number;
  readonly keys: ReadonlyMap<number, AuthKey>;
}

/** How a running resource is watched. */
export interface MonitorPolicy {
  /** Pause between two checks. */
  readonly intervalMs: number;
  /** A check that takes longer counts as a failure. */
  readonly timeoutMs: number;
  /** The failure with this number inside the window moves the group to the other node; earlier ones restart. 0: never move. */
  readonly failures: number;
  /** Failures older than this are forgotten, and a group that failed here may be started here again. */
  readonly windowMs: number;
}

/** A `monitor` line of hacluster.conf. */
export interface MonitorRule {
  /** A resource as written in haresources, or the name of its script; undefined: every resource. */
  readonly target: string | undefined;
  /** Undefined: `off`. */
  readonly policy: MonitorPolicy | undefined;
  readonly at: SourcePosition;
}

/** hacluster.conf: what Heartbeat's own files have no words for. Optional, and unknown to a real Heartbeat. */
export interface HaclusterConf {
  readonly file: string;
  readonly monitors: readonly MonitorRule[];
  /** Longest run of a fencing device's program. */
  readonly fenceTimeoutMs: number | undefined;
  readonly runner?: RunnerSettings;
}

/** The files of /etc/ha.d. */
export interface HeartbeatConfig {
  readonly haCf: HaCf;
  readonly authkeys: AuthKeys;
  readonly haresources: Haresources;
  readonly hacluster?: HaclusterConf;
}
