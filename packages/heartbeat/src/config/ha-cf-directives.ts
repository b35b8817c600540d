/**
 * What a directive does here. `implemented`; `later`: understood, not acted upon yet; `none`: belongs to parts of
 * Heartbeat that do not exist here. The last two are reported as warnings where they are used.
 */
export type Effect = "implemented" | "later" | "none";

/**
 * How the values are read. `time`, `boolean`, `integer`, `word`: each further word is one setting, the last counts;
 * `words`: each further word adds one; `line`: the whole rest of the line is one setting.
 */
export type ValueKind =
  | { readonly kind: "time"; readonly positive: boolean }
  | { readonly kind: "boolean" }
  | { readonly kind: "integer"; readonly low: number; readonly high: number }
  | { readonly kind: "word"; readonly of?: readonly string[] }
  | { readonly kind: "words" }
  | { readonly kind: "line" };

export interface Directive {
  readonly value: ValueKind;
  readonly effect: Effect;
  /** What stands behind the directive, for hints. */
  readonly example: string;
  /** Ends the warning of a directive that is not implemented. */
  readonly note?: string;
}

const time = (example: string, effect: Effect = "implemented", positive = false): Directive => ({
  value: { kind: "time", positive },
  effect,
  example,
});
const bool = (example: string, effect: Effect = "implemented", note?: string): Directive => ({
  value: { kind: "boolean" },
  effect,
  example,
  ...(note === undefined ? {} : { note }),
});
const integer = (low: number, high: number, example: string, effect: Effect = "implemented"): Directive => ({
  value: { kind: "integer", low, high },
  effect,
  example,
});
const word = (example: string, effect: Effect = "implemented", of?: readonly string[]): Directive => ({
  value: { kind: "word", ...(of === undefined ? {} : { of }) },
  effect,
  example,
});
const several = (example: string, effect: Effect = "implemented", note?: string): Directive => ({
  value: { kind: "words" },
  effect,
  example,
  ...(note === undefined ? {} : { note }),
});
const line = (example: string, effect: Effect = "implemented", note?: string): Directive => ({
  value: { kind: "line" },
  effect,
  example,
  ...(note === undefined ? {} : { note }),
});

const PACEMAKER = "it configures Pacemaker";
const NO_CLIENTS = "programs cannot join over the local API of Heartbeat";

/** Every directive of ha.cf. @see Heartbeat 3.0.6 ha.cf */
export const HA_CF_DIRECTIVES: ReadonlyMap<string, Directive> = new Map<string, Directive>([
  ["node", several("nodo1")],
  ["keepalive", time("1", "implemented", true)],
  ["deadtime", time("30")],
  ["warntime", time("10", "implemented", true)],
  ["initdead", time("60")],
  ["deadping", time("30")],
  ["udpport", integer(1, 65535, "694")],
  ["bcast", several("eth0")],
  ["udp", several("eth0")],
  ["ucast", line("eth0 192.168.0.28")],
  ["mcast", line("eth0 239.0.0.1 694 1 0")],
  ["ucast6", line("eth0 fe80::1", "later")],
  ["mcast6", line("eth0 ff02::1 694 1 0", "later")],
  ["serial", several("/dev/ttyS0", "later")],
  ["baud", word("19200", "later", ["9600", "19200", "38400", "57600", "115200", "230400", "460800"])],
  ["ping", several("192.168.0.1")],
  ["ping6", several("fe80::1")],
  ["hbaping", several("HBA", "none", "Fibre Channel adapters cannot be asked from here; it counts as no ping node")],
  ["ping_group", line("routers 192.168.0.1 192.168.0.2")],
  ["auto_failback", word("on")],
  ["nice_failback", bool("off")],
  ["debugfile", word("/var/log/ha-debug")],
  ["logfile", word("/var/log/ha-log")],
  ["logfacility", word("local0")],
  ["use_logd", bool("no", "none", "logs go to logfile, debugfile and syslog directly")],
  ["conn_logd_time", time("60", "none")],
  ["syslogmsgfmt", bool("true", "none", "log files hold JSON lines")],
  ["debug", integer(0, 255, "0")],
  ["hopfudge", integer(0, 255, "1")],
  ["msgfmt", word("classic", "implemented", ["classic", "netstring"])],
  ["max_rexmit_delay", integer(1, 3_600_000, "250")],
  ["compression", word("zlib", "implemented", ["zlib", "bz2"])],
  ["compression_threshold", integer(1, 1_000_000, "2")],
  ["traditional_compression", bool("no")],
  ["hbgenmethod", word("file", "implemented", ["file", "time"])],
  ["uuidfrom", word("file", "implemented", ["file", "nodename"])],
  ["autojoin", word("none", "implemented", ["none", "other", "any"])],
  ["crm", word("no")],
  ["pacemaker", word("no")],
  ["respawn", line("hacluster /usr/lib/heartbeat/ipfail")],
  ["failfast", line("hacluster /usr/lib/heartbeat/ccm")],
  ["apiauth", line("ipfail uid=hacluster", "none", NO_CLIENTS)],
  ["stonith", line("external/ipmi /etc/ha.d/stonith.conf")],
  ["stonith_host", line("* external/ipmi nodo2 192.168.0.128 admin secret")],
  ["watchdog", word("/dev/watchdog")],
  ["realtime", bool("true", "none", "the service unit sets priorities")],
  ["rtprio", integer(0, 99, "1", "none")],
  ["memreserve", integer(0, 1_000_000_000, "6500", "none")],
  ["coredumps", bool("true", "none")],
  ["coreroot", word("/var/lib/heartbeat/cores", "none")],
  ["cluster", word("linux-ha")],
  ["quorum_server", word("host", "none")],
  ["env", several("NAME=VALUE")],
  ["log_badpack", bool("true")],
  ["use_apphbd", bool("no", "none")],
  ["normalpoll", time("1", "none")],
  ["record_config_changes", bool("on", "none", PACEMAKER)],
  ["record_pengine_inputs", bool("on", "none", PACEMAKER)],
  ["enable_config_writes", bool("on", "none", PACEMAKER)],
  ["crm_daemon_dir", word("/usr/lib/heartbeat", "none")],
  ["crmd_spawns_pengine", bool("on", "none", PACEMAKER)],
]);
