import { formatAddress } from "./address.ts";
import type {
  DrbdConfig,
  GlobalConfig,
  HostConfig,
  MetaDisk,
  OptionSection,
  OptionSections,
  OptionSetting,
  ProxyPlugin,
  ResourceConfig,
  VolumeConfig,
} from "./model.ts";
import { OPTION_SECTIONS } from "./model.ts";

export interface DumpOptions {
  /** This machine's name: says in a comment whether a resource is its own. */
  readonly hostName: string;
  /** Numeric addresses of this machine, to recognize its `floating` sections. */
  readonly localAddresses?: readonly string[];
  /** How files are named in comments; `drbdadm` makes them absolute. */
  readonly absolute?: (file: string) => string;
}

/** Columns of a statement's keyword, with its indentation. */
const KEYWORD_COLUMN = 24;

/** The configuration in drbd.conf syntax, byte for byte as `drbdadm dump` of DRBD 8.4 (drbd-utils 9.22) prints it. */
export function dumpDrbdConf(config: DrbdConfig, options: DumpOptions): string {
  const out = new Printer();
  const file = options.absolute ?? ((name: string) => name);
  out.line(0, `# ${file(config.file)}`);
  if (config.global !== undefined) dumpGlobal(out, config.global);
  if (config.common !== undefined) {
    out.line(0, "common {");
    dumpSections(out, config.common.sections, config.common.plugins);
    out.line(0, "}");
    out.line(0, "");
  }
  for (const resource of config.resources)
    dumpResource(out, withoutForeignAfter(resource, config, options), options, file);
  return out.text;
}

/** `resync-after` means nothing where the other resource does not run. */
export function withoutForeignAfter(
  resource: ResourceConfig,
  config: DrbdConfig,
  machine: { readonly hostName: string; readonly localAddresses?: readonly string[] },
): ResourceConfig {
  const foreign = (setting: OptionSetting): boolean => {
    if (setting.name !== "resync-after") return false;
    const name = (setting.value ?? "").replace(/\/[0-9]+$/, "");
    return !config.resources.some((r) => r.name === name && r.hosts.some((host) => isLocal(host, machine)));
  };
  const disk = resource.sections.disk.filter((setting) => !foreign(setting));
  return { ...resource, sections: { ...resource.sections, disk } };
}

class Printer {
  text = "";

  line(indent: number, content: string): void {
    this.text += `${" ".repeat(indent)}${content}\n`;
  }

  /** `keyword value;` with the value in its column. */
  statement(indent: number, keyword: string, value: string, column = KEYWORD_COLUMN - indent): void {
    this.line(indent, `${keyword.padEnd(column)} ${value};`);
  }
}

function dumpGlobal(out: Printer, global: GlobalConfig): void {
  // the timeouts alone do not make drbdadm print the section
  const shown =
    global.disableIpVerification ||
    global.minorCount !== undefined ||
    (global.dialogRefresh ?? 1) !== 1 ||
    (global.usageCount ?? "ask") !== "ask";
  if (!shown) return;
  out.line(0, "global {");
  const number = (name: string, value: number | undefined): void => {
    if (value !== undefined) out.line(4, `${name} ${value};`);
  };
  const unless = (value: number | undefined, initial: number): number | undefined =>
    value === initial ? undefined : value;
  if (global.disableIpVerification) out.line(4, "disable-ip-verification;");
  number("minor-count", global.minorCount);
  number("dialog-refresh", unless(global.dialogRefresh, 1));
  if (global.usageCount === "yes" || global.usageCount === "no") out.line(4, `usage-count ${global.usageCount};`);
  // what drbdadm fills in for the timeouts of its helpers differs from the values it leaves out
  number("cmd-timeout-short", unless(global.cmdTimeoutShort ?? 5, 5));
  number("cmd-timeout-medium", unless(global.cmdTimeoutMedium ?? 600, 121));
  number("cmd-timeout-long", unless(global.cmdTimeoutLong ?? 0, 600));
  out.line(0, "}");
  out.line(0, "");
}

function dumpResource(
  out: Printer,
  resource: ResourceConfig,
  options: DumpOptions,
  file: (name: string) => string,
): void {
  const mine = resource.hosts.find((host) => isLocal(host, options));
  const ignored = mine === undefined ? "ignored" : "not ignored";
  const stacked = mine?.kind === "stacked-on-top-of" ? "stacked" : "not stacked";
  const name = quote(resource.name);
  out.line(0, `# resource ${name} on ${options.hostName}: ${ignored}, ${stacked}`);
  out.line(0, `# defined at ${file(resource.at.file)}:${resource.at.line}`);
  out.line(0, `resource ${name} {`);
  for (const host of resource.hosts) dumpHost(out, host);
  dumpSections(out, resource.sections, resource.plugins);
  out.line(0, "}");
  out.line(0, "");
}

/** Is this the section of the given machine? */
export function isLocal(
  host: HostConfig,
  machine: { readonly hostName: string; readonly localAddresses?: readonly string[] },
): boolean {
  if (host.kind === "floating") {
    return host.address !== undefined && (machine.localAddresses ?? []).includes(host.address.host);
  }
  return host.names.includes(machine.hostName);
}

function dumpHost(out: Printer, host: HostConfig): void {
  const address = host.address;
  const shown = address === undefined ? "" : `${address.family} ${formatAddress(address)}`;
  if (host.kind === "floating") out.line(4, `floating ${shown} {`);
  else if (host.kind === "on") out.line(4, `on ${host.names.join(" ")} {`);
  else {
    out.line(4, `stacked-on-top-of ${quote(host.lower ?? "")} {`);
    out.line(8, `# on ${host.names.map((name) => `${name} `).join("")}`);
  }
  dumpOptions(out, 8, "options", host.options, []);
  for (const volume of host.volumes) dumpVolume(out, host, volume);
  if (host.kind !== "floating") out.statement(8, "address", shown);
  if (host.proxy !== undefined) {
    const { names, inside, outside, options, plugins } = host.proxy;
    out.line(8, `proxy on ${names.join(" ")} {`);
    if (inside !== undefined) out.statement(12, "inside", `${inside.family} ${formatAddress(inside)}`, 16);
    if (outside !== undefined) out.statement(12, "outside", `${outside.family} ${formatAddress(outside)}`, 16);
    dumpOptions(out, 12, "options", options, plugins);
    out.line(8, "}");
  }
  out.line(4, "}");
}

function dumpVolume(out: Printer, host: HostConfig, volume: VolumeConfig): void {
  const indent = volume.implicit ? 8 : 12;
  if (!volume.implicit) out.line(8, `volume ${volume.vnr} {`);
  dumpOptions(out, indent, "disk", volume.diskOptions, []);
  if (volume.device !== undefined) {
    const { path, minor } = volume.device;
    out.statement(indent, "device", path === undefined ? `minor ${minor}` : `${quote(path)} minor ${minor}`);
  }
  if (host.kind !== "stacked-on-top-of") {
    if (volume.disk !== undefined) out.statement(indent, "disk", quote(volume.disk.path));
    if (volume.metaDisk !== undefined) dumpMetaDisk(out, indent, volume.metaDisk);
  }
  if (!volume.implicit) out.line(8, "}");
}

function dumpMetaDisk(out: Printer, indent: number, metaDisk: MetaDisk): void {
  if (metaDisk.kind === "internal") out.statement(indent, "meta-disk", "internal");
  else if (metaDisk.kind === "flexible") out.statement(indent, "meta-disk", quote(metaDisk.path), 16);
  else out.statement(indent, "meta-disk", `${quote(metaDisk.path)} [${metaDisk.index}]`, 16);
}

function dumpSections(out: Printer, sections: OptionSections, plugins: readonly ProxyPlugin[]): void {
  for (const section of OPTION_SECTIONS) {
    dumpOptions(out, 4, section, sections[section], section === "proxy" ? plugins : []);
  }
}

function dumpOptions(
  out: Printer,
  indent: number,
  section: OptionSection,
  options: readonly OptionSetting[],
  plugins: readonly ProxyPlugin[],
): void {
  if (options.length === 0 && plugins.length === 0) return;
  out.line(indent, `${section} {`);
  const inner = indent + 4;
  // drbdadm keeps these two apart and prints them last, in this order
  const rank = ({ name }: OptionSetting): number => ["stacked-timeouts", "become-primary-on"].indexOf(name);
  for (const { name, value } of [...options].sort((a, b) => rank(a) - rank(b))) {
    if (value === undefined) out.line(inner, `${name};`);
    else out.statement(inner, name, (name === "become-primary-on" ? value : quote(value)).padStart(3));
  }
  if (plugins.length > 0) {
    out.line(inner, "plugin {");
    for (const words of plugins) out.line(inner + 4, `${words.join(" ")};`);
    out.line(inner, "}");
  }
  out.line(indent, "}");
}

/** Bare where the scanner would read it back as one word, else in quotes. */
function quote(text: string): string {
  if (/^[A-Za-z0-9._/-]+$/.test(text) && text.length <= 80) return text;
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}
