import { assert, ErrorCode, HaError, nearestWord } from "../base/index.ts";
import { formatAddress } from "./address.ts";
import { isLocal, withoutForeignAfter } from "./dump.ts";
import type { ConfigAddress, DrbdConfig, HostConfig, OptionSection, OptionSetting, ResourceConfig } from "./model.ts";
import { findOption, type OptionUnit } from "./options.ts";
import {
  type DiskOptions,
  type HandlerName,
  type Handlers,
  type NetOptions,
  plainMetaDisk,
  type ResolvedNode,
  type ResolvedResource,
  type ResolvedVolume,
  type ResourceOptions,
  type StartupOptions,
} from "./resolved.ts";
import { type OptionValue, parseValue } from "./values.ts";

export interface ResolveOptions {
  /** Numeric addresses of this machine, to recognize its `floating` section. */
  readonly localAddresses?: readonly string[];
  /** Which of several peers to take: a host name or `ADDRESS:PORT`. */
  readonly peer?: string;
}

/**
 * What the daemon of `resourceName` needs on `hostName`. Call it only for a configuration without errors.
 * @throws HaError HA_CONFIG_INVALID when there is no such resource, this host or its peer is not in it, the peer is
 *   ambiguous, or the section is one that is not supported (`stacked-on-top-of`).
 */
export function resolveResource(
  config: DrbdConfig,
  resourceName: string,
  hostName: string,
  options: ResolveOptions = {},
): ResolvedResource {
  const found = config.resources.find((r) => r.name === resourceName);
  if (found === undefined) {
    const names = config.resources.map((r) => r.name);
    const near = nearestWord(resourceName, names);
    const known = names.length === 0 ? "it has none" : `it has ${names.join(", ")}`;
    const hint = near === undefined ? known : `did you mean ${near}?`;
    throw invalid(`resource ${resourceName} is not in ${config.file}; ${hint}`, { resource: resourceName });
  }
  const machine = { hostName, localAddresses: options.localAddresses ?? [] };
  const resource = withoutForeignAfter(found, config, machine);
  const { host, peer } = findHosts(resource, hostName, options);
  const local = node(host, hostName);
  const remote = node(peer, undefined);
  const settings = (section: OptionSection): readonly OptionSetting[] => [
    ...(config.common?.sections[section] ?? []),
    ...resource.sections[section],
  ];
  return {
    name: resource.name,
    definedAt: `${resource.at.file}:${resource.at.line}`,
    local,
    peer: remote,
    volumes: host.volumes.map((volume): ResolvedVolume => {
      const twin = peer.volumes.find((v) => v.vnr === volume.vnr);
      const { device, disk, metaDisk } = volume;
      if (device === undefined || disk === undefined || metaDisk === undefined || twin?.device === undefined) {
        throw invalid(`resource ${resource.name}: volume ${volume.vnr} is not complete on both hosts`);
      }
      return {
        vnr: volume.vnr,
        minor: device.minor,
        device: device.path ?? `/dev/drbd${device.minor}`,
        peerMinor: twin.device.minor,
        disk: disk.path === "none" ? undefined : disk.path,
        metaDisk: plainMetaDisk(metaDisk),
        diskOptions: diskOptions([...settings("disk"), ...volume.inheritedDiskOptions, ...volume.diskOptions]),
      };
    }),
    net: netOptions(settings("net"), host, peer),
    options: resourceOptions(settings("options")),
    startup: startupOptions(settings("startup")),
    handlers: handlersOf(settings("handlers")),
  };
}

function invalid(message: string, details: Readonly<Record<string, string | number>> = {}): HaError {
  return new HaError(ErrorCode.configInvalid, message, details);
}

function findHosts(
  resource: ResourceConfig,
  hostName: string,
  options: ResolveOptions,
): { host: HostConfig; peer: HostConfig } {
  const where = `${resource.at.file}:${resource.at.line}: resource ${resource.name}`;
  const host = resource.hosts.find((h) => isLocal(h, { hostName, localAddresses: options.localAddresses ?? [] }));
  const titles = (hosts: readonly HostConfig[]): string => hosts.map((h) => nameOf(h)).join(", ");
  if (host === undefined) {
    const known = resource.hosts.length === 0 ? "it has no host" : `its hosts are ${titles(resource.hosts)}`;
    throw invalid(`${where} is not for this host "${hostName}"; ${known} ("uname -n" must print one of them)`, {
      resource: resource.name,
      host: hostName,
    });
  }
  if (host.kind === "stacked-on-top-of") {
    throw new HaError(
      ErrorCode.unsupported,
      `${where} is stacked on ${host.lower}; stacked resources are not supported`,
    );
  }
  const others = resource.hosts.filter((h) => h !== host);
  const wanted = options.peer;
  const peers =
    wanted === undefined
      ? others
      : others.filter((h) => h.names.includes(wanted) || (h.address && formatAddress(h.address) === wanted));
  const [peer] = peers;
  if (peer === undefined) {
    const message =
      wanted === undefined || others.length === 0
        ? `${where} has no peer for ${hostName}; add "on PEER { }"`
        : `${where} has no peer ${wanted}; the others are ${titles(others)}`;
    throw invalid(message, { resource: resource.name });
  }
  if (peers.length > 1) {
    throw invalid(`${where} has several peers for ${hostName}: ${titles(peers)}; say which one with --peer`, {
      resource: resource.name,
    });
  }
  return { host, peer };
}

function nameOf(host: HostConfig): string {
  if (host.names.length > 0) return host.names.join(" ");
  return host.address === undefined ? "floating" : formatAddress(host.address);
}

function node(host: HostConfig, name: string | undefined): ResolvedNode {
  const address = host.address as ConfigAddress | undefined;
  if (address === undefined) throw invalid(`host ${nameOf(host)} has no address`);
  const called = name !== undefined && host.names.includes(name) ? name : (host.names[0] ?? nameOf(host));
  return { name: called, address: { family: address.family, host: address.host, port: address.port } };
}

/** Reads the options of one section: the last setting of each, or its default. */
class Reader {
  readonly #section: OptionSection;
  readonly #settings: readonly OptionSetting[];

  constructor(section: OptionSection, settings: readonly OptionSetting[]) {
    this.#section = section;
    this.#settings = settings;
  }

  setting(name: string): OptionSetting | undefined {
    return this.#settings.findLast((s) => s.name === name);
  }

  #value(name: string): OptionValue {
    const option = findOption(this.#section, name);
    assert(option !== undefined && "default" in option.type, `option ${name} of ${this.#section} is in the table`);
    const written = this.setting(name)?.value;
    if (written === undefined) return option.type.default;
    const result = parseValue(option, written);
    if ("fault" in result) throw invalid(`${result.fault.message}; ${result.fault.hint}`);
    return result.value;
  }

  #number(name: string, unit: OptionUnit, factor: number): number {
    const option = findOption(this.#section, name);
    assert(option?.type.kind === "number" && option.type.unit === unit, `option ${name} counts ${unit}`);
    return (this.#value(name) as number) * factor;
  }

  tenths(name: string): number {
    return this.#number(name, "0.1 s", 100);
  }
  seconds(name: string): number {
    return this.#number(name, "s", 1000);
  }
  bytes(name: string): number {
    return this.#number(name, "bytes", 1);
  }
  sectors(name: string): number {
    return this.#number(name, "sectors", 512);
  }
  rate(name: string): number {
    return this.#number(name, "KiB/s", 1024);
  }
  pages(name: string): number {
    return this.#number(name, "4-KiB pages", 1);
  }
  count(name: string): number {
    return this.#number(name, "count", 1);
  }
  yes(name: string): boolean {
    return this.#value(name) === true;
  }
  text(name: string): string {
    return this.#value(name) as string;
  }
  /** The parser has checked that the value is one of the table's, which are those of the type. */
  choice<T extends string>(name: string): T {
    return this.#value(name) as T;
  }
}

function netOptions(settings: readonly OptionSetting[], host: HostConfig, peer: HostConfig): NetOptions {
  const net = new Reader("net", settings);
  return {
    protocol: net.choice("protocol"),
    timeoutMs: net.tenths("timeout"),
    connectIntMs: net.seconds("connect-int"),
    pingIntMs: net.seconds("ping-int"),
    pingTimeoutMs: net.tenths("ping-timeout"),
    koCount: net.count("ko-count"),
    maxBuffersPages: net.pages("max-buffers"),
    maxEpochSize: net.count("max-epoch-size"),
    unplugWatermarkPages: net.count("unplug-watermark"),
    sndbufSizeBytes: net.bytes("sndbuf-size"),
    rcvbufSizeBytes: net.bytes("rcvbuf-size"),
    allowTwoPrimaries: net.yes("allow-two-primaries"),
    cramHmacAlg: net.text("cram-hmac-alg"),
    sharedSecret: net.text("shared-secret"),
    afterSb0pri: discardNode(net, host, peer),
    afterSb1pri: net.choice("after-sb-1pri"),
    afterSb2pri: net.choice("after-sb-2pri"),
    alwaysAsbp: net.yes("always-asbp"),
    rrConflict: net.choice("rr-conflict"),
    dataIntegrityAlg: net.text("data-integrity-alg"),
    verifyAlg: net.text("verify-alg"),
    csumsAlg: net.text("csums-alg"),
    csumsAfterCrashOnly: net.yes("csums-after-crash-only"),
    tcpCork: net.yes("tcp-cork"),
    useRle: net.yes("use-rle"),
    onCongestion: net.choice("on-congestion"),
    congestionFillBytes: net.sectors("congestion-fill"),
    congestionExtents: net.count("congestion-extents"),
    socketCheckTimeoutMs: net.tenths("socket-check-timeout"),
  };
}

/** `discard-node-NAME` means local on the host of that name and remote on the other. */
function discardNode(net: Reader, host: HostConfig, peer: HostConfig): NetOptions["afterSb0pri"] {
  const value = net.text("after-sb-0pri");
  const name = /^discard-node-(.+)$/.exec(value)?.[1];
  if (name === undefined) return net.choice("after-sb-0pri");
  if (host.names.includes(name)) return "discard-local";
  if (peer.names.includes(name)) return "discard-remote";
  throw invalid(`after-sb-0pri ${value}: the hosts are ${nameOf(host)} and ${nameOf(peer)}`);
}

function diskOptions(settings: readonly OptionSetting[]): DiskOptions {
  const disk = new Reader("disk", settings);
  return {
    sizeBytes: disk.sectors("size"),
    onIoError: disk.choice("on-io-error"),
    fencing: disk.choice("fencing"),
    diskBarrier: disk.yes("disk-barrier"),
    diskFlushes: disk.yes("disk-flushes"),
    diskDrain: disk.yes("disk-drain"),
    mdFlushes: disk.yes("md-flushes"),
    resyncRateBytesPerSec: disk.rate("resync-rate"),
    resyncAfter: disk.text("resync-after"),
    alExtents: disk.count("al-extents"),
    alUpdates: disk.yes("al-updates"),
    cPlanAheadMs: disk.tenths("c-plan-ahead"),
    cDelayTargetMs: disk.tenths("c-delay-target"),
    cFillTargetBytes: disk.sectors("c-fill-target"),
    cMaxRateBytesPerSec: disk.rate("c-max-rate"),
    cMinRateBytesPerSec: disk.rate("c-min-rate"),
    diskTimeoutMs: disk.tenths("disk-timeout"),
    readBalancing: disk.text("read-balancing"),
    maxBioBvecs: disk.count("max-bio-bvecs"),
    discardZeroesIfAligned: disk.yes("discard-zeroes-if-aligned"),
    disableWriteSame: disk.yes("disable-write-same"),
    rsDiscardGranularityBytes: disk.bytes("rs-discard-granularity"),
  };
}

function resourceOptions(settings: readonly OptionSetting[]): ResourceOptions {
  const options = new Reader("options", settings);
  return { cpuMask: options.text("cpu-mask"), onNoDataAccessible: options.choice("on-no-data-accessible") };
}

function startupOptions(settings: readonly OptionSetting[]): StartupOptions {
  const startup = new Reader("startup", settings);
  return {
    wfcTimeoutMs: startup.seconds("wfc-timeout"),
    degrWfcTimeoutMs: startup.seconds("degr-wfc-timeout"),
    outdatedWfcTimeoutMs: startup.seconds("outdated-wfc-timeout"),
    waitAfterSb: startup.yes("wait-after-sb"),
    stackedTimeouts: startup.setting("stacked-timeouts") !== undefined,
    becomePrimaryOn: startup.setting("become-primary-on")?.value?.split(" ") ?? [],
  };
}

function handlersOf(settings: readonly OptionSetting[]): Handlers {
  const handlers: Partial<Record<HandlerName, string>> = {};
  // the parser took only names of the table, and a later setting replaces an earlier one
  for (const { name, value } of settings) handlers[name as HandlerName] = value ?? "";
  return handlers;
}
