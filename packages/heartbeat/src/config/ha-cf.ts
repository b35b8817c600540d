import { type Diagnostics, nearestWord, type SourcePosition } from "@hacluster/blockrep/base";
import { checkCompleteness, checkTimes } from "./ha-cf-checks.ts";
import { type Directive, HA_CF_DIRECTIVES } from "./ha-cf-directives.ts";
import { parseMcast, parseUcast } from "./ha-cf-media.ts";
import type {
  AutoFailback,
  ConfiguredNode,
  HaCf,
  Medium,
  PingNode,
  RespawnClient,
  Setting,
  StonithDevice,
} from "./model.ts";
import { splitLines, stripComment, type Word, words } from "./text.ts";
import { LOG_FACILITIES, parseBoolean, parseInteger, parseTimeMs } from "./values.ts";

/** Longest line, bytes. @see Heartbeat 3.0.6 ha.cf */
const LINE_BYTES_MAX = 5119;
/** @see Heartbeat 3.0.6 ha.cf */
const NODES_MAX = 100;
const BLANKS = " \t";

/**
 * Read ha.cf. All findings of the file go to `diagnostics`; the result is what could be understood, to be used only
 * when there is no error. Nothing here depends on the machine: whether interfaces, users and programs exist is the
 * driver's to check, and which node we are is checked by ownNodeMissing().
 * @see Heartbeat 3.0.6 ha.cf
 */
export function parseHaCf(text: string, file: string, diagnostics: Diagnostics): HaCf {
  const parser = new HaCfParser(file, diagnostics);
  splitLines(text).forEach((line, index) => {
    parser.line(line, index + 1);
  });
  return parser.finish();
}

/** The node that this machine calls itself is none of the cluster's: an error for everything that starts. */
export function ownNodeMissing(haCf: HaCf, ownName: string, diagnostics: Diagnostics): boolean {
  if (haCf.nodes.length === 0 || haCf.nodes.some((n) => n.name === ownName.toLowerCase())) return false;
  const names = haCf.nodes.map((n) => n.name).join(", ");
  diagnostics.error(
    haCf.nodes[0]!.at,
    `this machine is "${ownName}" (uname -n, or the first line of /etc/ha.d/nodeinfo), and no node line names it`,
    `write "node ${ownName}", or give the machine one of the names ${names}`,
  );
  return true;
}

class HaCfParser {
  readonly #file: string;
  readonly #diagnostics: Diagnostics;
  readonly #settings: Setting[] = [];
  readonly #nodes: ConfiguredNode[] = [];
  readonly #pingNodes: PingNode[] = [];
  readonly #media: Medium[] = [];
  readonly #respawn: RespawnClient[] = [];
  readonly #stonith: StonithDevice[] = [];
  readonly #environment: (readonly [string, string])[] = [];
  readonly #times = new Map<string, { ms: number; at: SourcePosition }>();
  /** Last accepted value of each directive with one value, checked, as written. */
  readonly #single = new Map<string, Word>();
  #udpport = 694;
  #autoFailback: AutoFailback = "legacy";
  #mediaBroken = false;
  /** Times that were not understood are not compared. */
  #timesBroken = false;

  constructor(file: string, diagnostics: Diagnostics) {
    this.#file = file;
    this.#diagnostics = diagnostics;
  }

  line(raw: string, number: number): void {
    const start = { file: this.#file, line: number, column: 1 };
    if (raw.endsWith("\r")) {
      this.#diagnostics.warning(
        { ...start, column: raw.length },
        "the line ends with a carriage return, which is ignored",
        "convert the file to Unix line ends",
      );
      raw = raw.slice(0, -1);
    }
    if (raw.length > LINE_BYTES_MAX) {
      this.#diagnostics.error(start, `the line has more than ${LINE_BYTES_MAX} characters`, "split it");
      return;
    }
    const text = stripComment(raw);
    const first = words(text, this.#file, number, `${BLANKS},`)[0];
    if (first === undefined) return;
    const directive = HA_CF_DIRECTIVES.get(first.text);
    if (directive === undefined) {
      const near = nearestWord(first.text, HA_CF_DIRECTIVES.keys());
      this.#diagnostics.error(
        first.at,
        `unknown directive "${first.text}"`,
        near === undefined ? "remove the line" : `write "${near}"`,
      );
      return;
    }
    const separators = directive.value.kind === "line" ? BLANKS : `${BLANKS},`;
    const blanked =
      " ".repeat(first.at.column - 1 + first.text.length) + text.slice(first.at.column - 1 + first.text.length);
    const args = words(blanked, this.#file, number, separators);
    if (args.length === 0 && directive.value.kind !== "line") {
      this.#diagnostics.warning(
        first.at,
        `${first.text} has no value and no effect`,
        this.#example(first.text, directive),
      );
      return;
    }
    this.#note(first, directive);
    if (directive.value.kind === "line") {
      this.#wholeLine(first, args);
      this.#settings.push({ directive: first.text, value: args.map((a) => a.text).join(" "), at: first.at });
    } else {
      for (const arg of args) this.#setting(first, directive, arg);
    }
  }

  #example(name: string, directive: Directive): string {
    return `write for example "${name} ${directive.example}"`;
  }

  /** Say so where a directive does nothing here. */
  #note(first: Word, directive: Directive): void {
    if (directive.effect === "implemented") return;
    const why = directive.effect === "later" ? "is not implemented yet" : "has no meaning here";
    const note = directive.note === undefined ? "" : `: ${directive.note}`;
    this.#diagnostics.warning(first.at, `${first.text} ${why}${note}`);
  }

  #setting(first: Word, directive: Directive, arg: Word): void {
    if (!this.#valid(first.text, directive, arg)) return;
    this.#settings.push({ directive: first.text, value: arg.text, at: first.at });
    switch (directive.value.kind) {
      case "words":
        this.#add(first, arg);
        return;
      case "time":
        this.#once(first.text, arg);
        this.#times.set(first.text, { ms: parseTimeMs(arg.text) ?? 0, at: arg.at });
        return;
      default:
        this.#scalar(first, arg);
    }
  }

  #valid(name: string, directive: Directive, arg: Word): boolean {
    const refuse = (what: string): false => {
      this.#diagnostics.error(arg.at, `${name}: "${arg.text}" ${what}`, this.#example(name, directive));
      return false;
    };
    const kind = directive.value;
    switch (kind.kind) {
      case "time": {
        const ms = parseTimeMs(arg.text);
        this.#timesBroken ||= ms === undefined;
        if (ms === undefined) return refuse("is not a time: a number with ms, us, or nothing for seconds");
        return ms === 0 && kind.positive ? refuse("must be more than 0") : true;
      }
      case "boolean":
        return parseBoolean(arg.text) === undefined ? refuse("is neither on nor off") : true;
      case "integer":
        return parseInteger(arg.text, kind.low, kind.high) === undefined
          ? refuse(`is not a number ${kind.low}..${kind.high}`)
          : true;
      case "word":
        if (kind.of === undefined || kind.of.includes(arg.text)) return true;
        return refuse(`is none of ${kind.of.join(", ")}`);
      default:
        return true;
    }
  }

  /** A directive with one value was set again: the last one counts, which may not be what was meant. */
  #once(name: string, arg: Word): void {
    const earlier = this.#single.get(name);
    if (earlier !== undefined && earlier.text !== arg.text) {
      this.#diagnostics.warning(
        arg.at,
        `${name} ${arg.text} replaces ${name} ${earlier.text} of line ${earlier.at.line}`,
        "remove one of them",
      );
    }
    this.#single.set(name, arg);
  }

  #scalar(first: Word, arg: Word): void {
    const name = first.text;
    const again = this.#single.get(name);
    switch (name) {
      case "baud":
        if (again !== undefined) {
          this.#diagnostics.error(first.at, `baud was set in line ${again.at.line} already`, "remove one of them");
        }
        break;
      case "udpport":
        this.#udpport = Number(arg.text);
        if (
          this.#media.some((m) => "port" in m && (m.kind === "bcast" || m.kind === "ucast") && m.port !== this.#udpport)
        ) {
          this.#diagnostics.warning(first.at, "udpport does not reach the media above it", "put it before them");
        }
        break;
      case "auto_failback":
        this.#setAutoFailback(arg);
        return;
      case "nice_failback":
        this.#autoFailback = this.#autoFailback === "legacy" ? "legacy" : "off";
        this.#diagnostics.warning(
          first.at,
          `nice_failback is obsolete and means auto_failback ${this.#autoFailback} here`,
          'write "auto_failback off"',
        );
        return;
      case "crm":
      case "pacemaker":
        this.#checkCrm(first, arg);
        break;
      case "autojoin":
        if (arg.text !== "none") {
          this.#diagnostics.error(
            arg.at,
            `autojoin ${arg.text} conflicts with the resource management of haresources`,
            'write "autojoin none" and a node line for each node',
          );
        }
        break;
      case "logfacility":
        if (arg.text !== "none" && !LOG_FACILITIES.has(arg.text)) {
          const near = nearestWord(arg.text, LOG_FACILITIES);
          this.#diagnostics.error(
            arg.at,
            `logfacility: "${arg.text}" is no syslog facility`,
            `write ${near === undefined ? '"local0"' : `"${near}"`} or "none"`,
          );
        }
        break;
      case "compression":
        if (arg.text === "bz2") {
          this.#diagnostics.warning(
            arg.at,
            "messages compressed with bz2 cannot be read here",
            'write "compression zlib"',
          );
        }
        break;
      case "traditional_compression":
        if (parseBoolean(arg.text) === true) {
          this.#diagnostics.warning(
            arg.at,
            "compressed messages are understood, but our own are sent uncompressed, which every node understands",
          );
        }
        break;
    }
    this.#once(name, arg);
  }

  #setAutoFailback(arg: Word): void {
    const on = parseBoolean(arg.text);
    if (on === undefined && arg.text.toLowerCase() !== "legacy") {
      this.#diagnostics.error(
        arg.at,
        `auto_failback: "${arg.text}" is none of on, off, legacy`,
        'write "auto_failback on"',
      );
      return;
    }
    this.#once("auto_failback", arg);
    this.#autoFailback = on === undefined ? "legacy" : on ? "on" : "off";
  }

  #checkCrm(first: Word, arg: Word): void {
    const earlier = this.#single.get("crm") ?? this.#single.get("pacemaker");
    if (earlier !== undefined) {
      this.#diagnostics.error(
        first.at,
        `crm/pacemaker was set in line ${earlier.at.line} already`,
        "remove one of them",
      );
    }
    if (parseBoolean(arg.text) !== false) {
      this.#diagnostics.error(
        arg.at,
        `${first.text} ${arg.text} asks for the Pacemaker resource manager, and this is the haresources one`,
        `write "${first.text} no" and describe the services in haresources`,
      );
    }
  }

  /** A directive of which each word adds one thing. */
  #add(first: Word, arg: Word): void {
    switch (first.text) {
      case "node":
        this.#addNode(arg);
        return;
      case "udp":
        this.#diagnostics.warning(first.at, "udp is an old name of bcast", `write "bcast ${arg.text}"`);
        this.#media.push({ kind: "bcast", interface: arg.text, port: this.#udpport, at: arg.at });
        return;
      case "bcast":
        this.#media.push({ kind: "bcast", interface: arg.text, port: this.#udpport, at: arg.at });
        return;
      case "serial":
        this.#media.push({ kind: "serial", device: arg.text, baud: this.#baud(), at: arg.at });
        return;
      case "env": {
        const equals = arg.text.indexOf("=");
        const name = arg.text.slice(0, Math.max(equals, 0));
        if (!/^[A-Za-z0-9_]+$/.test(name)) {
          this.#diagnostics.warning(
            arg.at,
            `env: "${arg.text}" is not NAME=VALUE and has no effect`,
            'write for example "env SITE=madrid"',
          );
          return;
        }
        this.#environment.push([name, arg.text.slice(equals + 1)]);
        return;
      }
      case "ping":
      case "ping6":
      case "hbaping":
        this.#pingNodes.push({ kind: first.text, name: arg.text.toLowerCase(), hosts: [arg.text], at: arg.at });
        return;
    }
  }

  #baud(): number {
    return Number(this.#single.get("baud")?.text ?? "19200");
  }

  #addNode(arg: Word): void {
    const name = arg.text.toLowerCase();
    const earlier = this.#nodes.find((n) => n.name === name);
    if (earlier !== undefined) {
      this.#diagnostics.warning(arg.at, `node ${name} is in line ${earlier.at.line} already`, "remove one of them");
      return;
    }
    if (this.#nodes.length === NODES_MAX) {
      this.#diagnostics.error(arg.at, `more than ${NODES_MAX} nodes`, "remove those that are not of this cluster");
      return;
    }
    this.#nodes.push({ name, at: arg.at });
  }

  #wholeLine(first: Word, args: readonly Word[]): void {
    const name = first.text;
    switch (name) {
      case "ucast":
      case "ucast6":
        this.#addMedium(parseUcast(name, first.at, args, this.#udpport, this.#diagnostics));
        return;
      case "mcast":
      case "mcast6":
        this.#addMedium(parseMcast(name, first.at, args, this.#diagnostics));
        return;
      case "ping_group": {
        const [group, ...hosts] = args;
        if (group === undefined || hosts.length === 0) {
          this.#lacks(first, group === undefined ? "a name and hosts" : "hosts");
          return;
        }
        this.#pingNodes.push({
          kind: "ping_group",
          name: group.text.toLowerCase(),
          hosts: hosts.flatMap((h) => h.text.split(",").filter((host) => host !== "")),
          at: first.at,
        });
        return;
      }
      case "respawn":
      case "failfast":
        this.#addRespawn(first, args);
        return;
      case "stonith": {
        const [type, ...params] = args.map((a) => a.text);
        if (type === undefined || params.length === 0) this.#lacks(first, "a device type and a configuration file");
        else this.#stonith.push({ host: undefined, type, params, at: first.at });
        return;
      }
      case "stonith_host": {
        const [host, type, ...params] = args.map((a) => a.text);
        if (host === undefined || type === undefined) this.#lacks(first, "a host (or *) and a device type");
        else this.#stonith.push({ host: host.toLowerCase(), type, params, at: first.at });
        return;
      }
      case "apiauth":
        if (args.length === 0) this.#lacks(first, "a client and its uid= or gid=");
    }
  }

  #lacks(first: Word, what: string): void {
    const directive = HA_CF_DIRECTIVES.get(first.text);
    this.#diagnostics.error(
      first.at,
      `${first.text} lacks ${what}`,
      directive === undefined ? undefined : this.#example(first.text, directive),
    );
  }

  #addMedium(medium: Medium | undefined): void {
    if (medium === undefined) this.#mediaBroken = true;
    else this.#media.push(medium);
  }

  #addRespawn(first: Word, args: readonly Word[]): void {
    const [user, path, ...rest] = args;
    if (user === undefined || path === undefined) {
      this.#lacks(first, user === undefined ? "a user and a program" : "a program");
      return;
    }
    if (!path.text.startsWith("/")) {
      this.#diagnostics.error(path.at, `${first.text}: "${path.text}" is not a full path`, "write it from / on");
      return;
    }
    const name = path.text.slice(path.text.lastIndexOf("/") + 1);
    this.#respawn.push({
      user: user.text,
      path: path.text,
      args: rest.map((a) => a.text),
      failfast: first.text === "failfast",
      builtIn: name === "ipfail" || name === "dopd" ? name : undefined,
      at: first.at,
    });
  }

  finish(): HaCf {
    const keepaliveMs = this.#times.get("keepalive")?.ms ?? 1000;
    const deadtimeMs = this.#times.get("deadtime")?.ms ?? 30_000;
    const warntimeMs = this.#times.get("warntime")?.ms ?? Math.floor(deadtimeMs / 2);
    const initdeadMs = this.#times.get("initdead")?.ms ?? defaultInitdeadMs(deadtimeMs);
    const deadpingMs = this.#times.get("deadping")?.ms ?? deadtimeMs;
    const text = (name: string): string | undefined => this.#single.get(name)?.text;
    const flag = (name: string, fallback: boolean): boolean => parseBoolean(text(name) ?? "") ?? fallback;
    const facility = text("logfacility");
    const haCf: HaCf = {
      file: this.#file,
      nodes: this.#nodes,
      pingNodes: this.#pingNodes,
      media: this.#media,
      keepaliveMs,
      deadtimeMs,
      warntimeMs,
      initdeadMs,
      deadpingMs,
      maxRetransmitDelayMs: Number(text("max_rexmit_delay") ?? 250),
      udpport: this.#udpport,
      baud: this.#baud(),
      hopfudge: Number(text("hopfudge") ?? 1),
      autoFailback: this.#autoFailback,
      msgfmt: text("msgfmt") === "netstring" ? "netstring" : "classic",
      compression: {
        algorithm: text("compression") ?? "zlib",
        thresholdBytes: Number(text("compression_threshold") ?? 2) * 1024,
        traditional: flag("traditional_compression", false),
      },
      generationMethod: text("hbgenmethod") === "time" ? "time" : "file",
      uuidFrom: text("uuidfrom") === "nodename" ? "nodename" : "file",
      logfile: text("logfile"),
      debugfile: text("debugfile"),
      logfacility: facility === "none" ? undefined : facility,
      useLogd: flag("use_logd", false),
      syslogMessageFormat: flag("syslogmsgfmt", true),
      logBadPackets: flag("log_badpack", true),
      debug: Number(text("debug") ?? 0),
      stonith: this.#stonith,
      respawn: this.#respawn,
      watchdog: text("watchdog"),
      realtime: flag("realtime", true),
      cluster: text("cluster") ?? "linux-ha",
      environment: this.#environment,
      settings: this.#settings,
    };
    const places = {
      of: (name: string) => this.#times.get(name)?.at ?? this.#single.get(name)?.at,
      mediaBroken: this.#mediaBroken,
    };
    if (!this.#timesBroken) checkTimes(haCf, places, this.#diagnostics);
    checkCompleteness(haCf, places, this.#diagnostics);
    return haCf;
  }
}

/** @see Heartbeat 3.0.6, timers */
function defaultInitdeadMs(deadtimeMs: number): number {
  if (deadtimeMs > 10_000) return deadtimeMs;
  return deadtimeMs < 6000 ? 12_000 : 2 * deadtimeMs;
}
