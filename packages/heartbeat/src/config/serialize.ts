import type { AuthKeys, HaCf, Haresources, Medium } from "./model.ts";
import { formatTimeMs } from "./values.ts";

function onOff(value: boolean): string {
  return value ? "on" : "off";
}

/** ha.cf as understood, with the values in force, defaults included, in a fixed order; read back it means the same. */
export function serializeHaCf(haCf: HaCf): string {
  const lines: (string | undefined)[] = [
    haCf.logfile && `logfile ${haCf.logfile}`,
    haCf.debugfile && `debugfile ${haCf.debugfile}`,
    `logfacility ${haCf.logfacility ?? "none"}`,
    `debug ${haCf.debug}`,
    `log_badpack ${onOff(haCf.logBadPackets)}`,
    `keepalive ${formatTimeMs(haCf.keepaliveMs)}`,
    `warntime ${formatTimeMs(haCf.warntimeMs)}`,
    `deadtime ${formatTimeMs(haCf.deadtimeMs)}`,
    `initdead ${formatTimeMs(haCf.initdeadMs)}`,
    haCf.deadpingMs === haCf.deadtimeMs ? undefined : `deadping ${formatTimeMs(haCf.deadpingMs)}`,
    `max_rexmit_delay ${haCf.maxRetransmitDelayMs}`,
    `hopfudge ${haCf.hopfudge}`,
    `msgfmt ${haCf.msgfmt}`,
    `hbgenmethod ${haCf.generationMethod}`,
    `uuidfrom ${haCf.uuidFrom}`,
    `cluster ${haCf.cluster}`,
    `compression ${haCf.compression.algorithm}`,
    `compression_threshold ${haCf.compression.thresholdBytes / 1024}`,
    `traditional_compression ${onOff(haCf.compression.traditional)}`,
    haCf.watchdog && `watchdog ${haCf.watchdog}`,
    haCf.media.some((m) => m.kind === "serial") ? `baud ${haCf.baud}` : undefined,
    ...mediaLines(haCf),
    `auto_failback ${haCf.autoFailback}`,
    ...haCf.nodes.map((node) => `node ${node.name}`),
    ...haCf.pingNodes.map((p) =>
      p.kind === "ping_group" ? `ping_group ${p.name} ${p.hosts.join(" ")}` : `${p.kind} ${p.hosts.join(" ")}`,
    ),
    ...haCf.stonith.map((s) =>
      [s.host === undefined ? "stonith" : `stonith_host ${s.host}`, s.type, ...s.params].join(" "),
    ),
    ...haCf.respawn.map((r) => [r.failfast ? "failfast" : "respawn", r.user, r.path, ...r.args].join(" ")),
    ...haCf.environment.map(([name, value]) => `env ${name}=${value}`),
  ];
  return `${lines.filter((line) => line !== undefined && line !== "").join("\n")}\n`;
}

/** The port of bcast and ucast is that of the `udpport` above them. */
function mediaLines(haCf: HaCf): string[] {
  const lines: string[] = [];
  let port: number | undefined;
  for (const medium of haCf.media) {
    if ("port" in medium && !medium.kind.startsWith("mcast") && medium.port !== port) {
      port = medium.port;
      lines.push(`udpport ${port}`);
    }
    lines.push(mediumLine(medium));
  }
  if (port !== haCf.udpport) lines.push(`udpport ${haCf.udpport}`);
  return lines;
}

/** A medium as its line of ha.cf. */
export function mediumLine(medium: Medium): string {
  switch (medium.kind) {
    case "bcast":
      return `bcast ${medium.interface}`;
    case "ucast":
    case "ucast6":
      return `${medium.kind} ${medium.interface} ${medium.address}`;
    case "mcast":
    case "mcast6":
      return `${medium.kind} ${medium.interface} ${medium.group} ${medium.port} ${medium.ttl} ${medium.loop ? 1 : 0}`;
    case "serial":
      return `serial ${medium.device}`;
  }
}

/** authkeys as understood; keys are not shown unless asked for. */
export function serializeAuthkeys(authkeys: AuthKeys, options: { readonly showKeys?: boolean } = {}): string {
  const lines = [`auth ${authkeys.active}`];
  for (const [index, { method, key }] of [...authkeys.keys].sort(([a], [b]) => a - b)) {
    const shown = options.showKeys === true ? String.fromCharCode(...key) : "********";
    lines.push(method === "crc" ? `${index} crc` : `${index} ${method} ${shown}`);
  }
  return `${lines.join("\n")}\n`;
}

/** haresources as understood: one line per group, one blank between words. */
export function serializeHaresources(haresources: Haresources): string {
  return haresources.groups.map((g) => `${g.node} ${g.resources.map((r) => r.text).join(" ")}\n`).join("");
}
