import type { SourcePosition } from "../base/index.ts";
import type {
  AddressFamily,
  ConfigAddress,
  HostConfig,
  MetaDisk,
  OptionSetting,
  ProxyHost,
  ProxyPlugin,
  VolumeConfig,
  VolumeDevice,
} from "./model.ts";
import { emptySections } from "./model.ts";
import { parseBlock, parseOptions, parseProxyStatement } from "./option-parser.ts";
import { describe, isInteger, type TokenStream } from "./token-stream.ts";

const MINOR_MAX = 1048575; // minors have 20 bits
const VOLUME_MAX = 65535; // volume numbers travel in 16 bits
const META_INDEX_MAX = 65535;

/** A volume while its statements are read. */
export type VolumeDraft = { -readonly [K in keyof VolumeConfig]: VolumeConfig[K] };

export function newVolume(vnr: number, implicit: boolean, at: SourcePosition): VolumeDraft {
  return {
    vnr,
    implicit,
    at,
    device: undefined,
    disk: undefined,
    metaDisk: undefined,
    diskOptions: [],
    inheritedDiskOptions: [],
  };
}

/** Reports a statement that stands twice in its section; true when it does. */
export type Duplicate = (what: string, at: SourcePosition, previous: SourcePosition | undefined) => void;

export function duplicateReporter(stream: TokenStream): Duplicate {
  return (what, at, previous) => {
    if (previous === undefined) return;
    const where = `first in ${previous.file}:${previous.line}:${previous.column}`;
    stream.diagnostics.error(at, `${what} is given twice, ${where}`, "keep one of them");
  };
}

/**
 * One statement of a volume: `device`, `disk`, `meta-disk`, `flexible-meta-disk`; false when the current token is none.
 * Inside `volume N {}` a later statement replaces an earlier one; elsewhere that is an error.
 */
export function parseVolumeStatement(stream: TokenStream, volume: VolumeDraft, strict: boolean): boolean {
  const duplicate = duplicateReporter(stream);
  const { at } = stream.current;
  if (stream.accept("device")) {
    if (strict) duplicate("device", at, volume.device?.at);
    volume.device = parseDevice(stream, at);
    return true;
  }
  if (stream.accept("disk")) {
    if (stream.accept("{")) {
      if (strict) duplicate("disk", at, volume.disk?.at ?? volume.diskOptions[0]?.at);
      const sections = emptySections();
      parseOptions(stream, "disk", sections);
      volume.diskOptions = sections.disk;
      return true;
    }
    const path = stream.string("the path of the disk", false).text;
    stream.semicolon(`disk ${path}`);
    if (strict) duplicate("disk", at, volume.disk?.at ?? volume.diskOptions[0]?.at);
    volume.disk = { path, at };
    return true;
  }
  if (stream.accept("meta-disk")) {
    if (strict) duplicate("meta-disk", at, volume.metaDisk?.at);
    volume.metaDisk = parseMetaDisk(stream, at);
    return true;
  }
  if (stream.accept("flexible-meta-disk")) {
    if (strict) duplicate("meta-disk", at, volume.metaDisk?.at);
    const path = stream.string("the path of the metadata device", false).text;
    stream.semicolon(`flexible-meta-disk ${path}`);
    volume.metaDisk = path === "internal" ? { kind: "internal", at } : { kind: "flexible", path, at };
    return true;
  }
  return false;
}

function parseDevice(stream: TokenStream, at: SourcePosition): VolumeDevice {
  if (stream.accept("minor")) {
    const minor = stream.integer("minor", 0, MINOR_MAX);
    stream.semicolon(`device minor ${minor}`);
    return { path: undefined, minor, at };
  }
  const token = stream.string("the name of the device", false);
  const path = token.text.startsWith("/") ? token.text : `/dev/${token.text}`;
  const named = /^\/dev\/drbd([0-9]+)$/.exec(path)?.[1];
  let minor: number | undefined;
  if (stream.accept("minor")) minor = stream.integer("minor", 0, MINOR_MAX);
  stream.semicolon(`device ${token.text}`);

  if (!path.startsWith("/dev/drbd")) {
    stream.diagnostics.error(token.at, `device "${token.text}" does not start with /dev/drbd`, "write /dev/drbd0");
  } else if (minor === undefined && named === undefined) {
    const hint = `write "device ${path.startsWith("/dev/drbd_") ? path : "/dev/drbd_NAME"} minor N;" or /dev/drbdN`;
    stream.diagnostics.error(token.at, `device "${token.text}" names no minor number`, hint);
  } else if (named !== undefined && Number(named) > MINOR_MAX) {
    stream.diagnostics.error(token.at, `minor ${named} is out of range`, `write 0 to ${MINOR_MAX}`);
  } else if (minor !== undefined && !path.startsWith("/dev/drbd_") && Number(named) !== minor) {
    const hint = `write "device /dev/drbd${minor} minor ${minor};"; any other name starts with /dev/drbd_`;
    stream.diagnostics.error(token.at, `device "${token.text}" does not fit minor ${minor}`, hint);
  }
  return { path, minor: minor ?? Number(named ?? 0), at };
}

function parseMetaDisk(stream: TokenStream, at: SourcePosition): MetaDisk {
  const path = stream.string("the path of the metadata device", false).text;
  if (path === "internal") {
    stream.semicolon("meta-disk internal");
    return { kind: "internal", at };
  }
  if (!stream.accept("[")) {
    if (stream.is("flexible")) {
      stream.fail(stream.current.at, 'unexpected "flexible"', `write "meta-disk ${path};", which is flexible already`);
    }
    stream.semicolon(`meta-disk ${path}`);
    return { kind: "flexible", path, at };
  }
  const index = stream.integer("the metadata index", 0, META_INDEX_MAX);
  if (!stream.accept("]")) stream.fail(stream.behind, 'the metadata index is not closed by "]"', 'write "]" here');
  stream.semicolon(`meta-disk ${path}[${index}]`);
  return { kind: "indexed", path, index, at };
}

const FAMILIES: Readonly<Record<string, AddressFamily>> = {
  ipv4: "ipv4",
  ipv6: "ipv6",
  ssocks: "ssocks",
  sci: "ssocks",
  sdp: "sdp",
};

/** `[ipv4|ipv6|ssocks|sdp] ADDRESS:PORT`, without what follows. */
export function parseAddress(stream: TokenStream): ConfigAddress {
  const { at } = stream.current;
  let family: AddressFamily = "ipv4";
  const word = stream.current.kind === "word" ? FAMILIES[stream.current.text] : undefined;
  if (word !== undefined) {
    family = word;
    stream.take();
  }
  const token = stream.current;
  let host: string;
  if (family === "ipv6") {
    if (!stream.accept("[")) {
      stream.fail(token.at, "an IPv6 address stands in brackets", 'write "ipv6 [ADDRESS]:PORT"');
    }
    if (stream.current.kind !== "ipv6") {
      stream.fail(stream.current.at, `${describe(stream.current)} is no IPv6 address`, "write it as fd00::1");
    }
    host = stream.take().text;
    if (!isIpv6(host)) stream.diagnostics.error(token.at, `"${host}" is no IPv6 address`, "write it as fd00::1");
    if (!stream.accept("]")) stream.fail(stream.behind, 'the IPv6 address is not closed by "]"', 'write "]" here');
  } else {
    if (token.kind !== "ipv4") {
      const ipv6 = token.kind === "ipv6" || token.text === "[";
      const hint = ipv6 ? 'write "ipv6 [ADDRESS]:PORT"' : 'write an address in digits, as "ipv4 192.168.0.27:7788"';
      stream.fail(token.at, `${describe(token)} is no IPv4 address`, hint);
    }
    host = stream.take().text;
    if (host.split(".").some((part) => Number(part) > 255)) {
      stream.diagnostics.error(token.at, `"${host}" is no IPv4 address`, "each of its four numbers is 0 to 255");
    }
  }
  if (!stream.accept(":")) stream.fail(stream.behind, "the port is missing", `write ":PORT" here, as ${host}:7788`);
  const port = stream.integer("port", 1, 65535);
  return { family, host, port, at };
}

function isIpv6(text: string): boolean {
  const address = text.replace(/%.*$/, "").replace(/[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$/, "0:0");
  const halves = address.split("::");
  if (halves.length > 2) return false;
  const groups = halves.flatMap((half) => (half === "" ? [] : half.split(":")));
  return (
    groups.every((g) => /^[0-9A-Fa-f]{1,4}$/.test(g)) && (halves.length === 2 ? groups.length < 8 : groups.length === 8)
  );
}

/** The parts of a host section; its opening brace is taken. */
export function parseHostBody(
  stream: TokenStream,
  host: Pick<HostConfig, "kind" | "names" | "lower" | "at"> & { readonly address: ConfigAddress | undefined },
  title: string,
): HostConfig {
  const duplicate = duplicateReporter(stream);
  const volumes: VolumeDraft[] = [];
  let implicit: VolumeDraft | undefined;
  let address = host.address;
  let options: readonly OptionSetting[] = [];
  let optionsAt: SourcePosition | undefined;
  let proxy: ProxyHost | undefined;

  parseBlock(stream, title, () => {
    const token = stream.current;
    if (stream.accept("address")) {
      if (host.kind === "floating") {
        stream.fail(token.at, "a floating section has its address in its head", "remove this statement");
      }
      const next = parseAddress(stream);
      stream.semicolon("address");
      duplicate("address", token.at, address?.at);
      address = next;
      return;
    }
    if (stream.accept("volume")) {
      volumes.push(parseVolume(stream, token.at));
      return;
    }
    if (stream.accept("options")) {
      stream.openBrace("options");
      duplicate("section options", token.at, optionsAt);
      optionsAt = token.at;
      const sections = emptySections();
      parseOptions(stream, "options", sections);
      options = sections.options;
      stream.diagnostics.warning(
        token.at,
        "options of a host have no effect in DRBD 8.4",
        "write them into the resource",
      );
      return;
    }
    if (stream.accept("proxy")) {
      proxy = parseProxyHost(stream, token.at);
      return;
    }
    const draft = implicit ?? newVolume(0, true, token.at);
    if (parseVolumeStatement(stream, draft, true)) {
      implicit = draft;
      return;
    }
    const known = ["device", "disk", "meta-disk", "address", "volume", "options", "proxy"];
    const hint = `${title} takes ${known.join(", ")}`;
    stream.fail(token.at, `unexpected ${describe(token)} in ${title}`, hint);
  });
  if (implicit !== undefined) volumes.unshift(implicit);
  return { ...host, address, volumes, options, proxy };
}

/** `volume N { ... }`; the word `volume` is taken. */
export function parseVolume(stream: TokenStream, at: SourcePosition): VolumeDraft {
  const vnr = stream.integer("volume", 0, VOLUME_MAX);
  const volume = newVolume(vnr, false, at);
  stream.openBrace(`volume ${vnr}`);
  parseBlock(stream, `section volume ${vnr}`, () => {
    const token = stream.current;
    if (parseVolumeStatement(stream, volume, false)) return;
    const hint = "a volume takes device, disk, meta-disk and flexible-meta-disk";
    stream.fail(token.at, `unexpected ${describe(token)} in section volume ${vnr}`, hint);
  });
  return volume;
}

/** Host names up to the opening brace, which is taken too. */
export function parseHostNames(stream: TokenStream, what: string): string[] {
  const names: string[] = [];
  do {
    const token = stream.current;
    if (token.kind === "word" && isInteger(token.text)) {
      stream.fail(token.at, `a bare number cannot be a host name`, `write "${token.text}" in quotes`);
    }
    names.push(stream.string("a host name", false).text);
  } while (!stream.is("{") && !stream.atEnd && stream.current.at.line === stream.behind.line);
  stream.openBrace(`${what} ${names.join(" ")}`);
  return names;
}

function parseProxyHost(stream: TokenStream, at: SourcePosition): ProxyHost {
  if (!stream.accept("on")) {
    stream.fail(stream.current.at, 'proxy of a host is not followed by "on"', 'write "proxy on HOST {"');
  }
  const names = parseHostNames(stream, "proxy on");
  const sections = emptySections();
  const plugins: ProxyPlugin[] = [];
  let inside: ConfigAddress | undefined;
  let outside: ConfigAddress | undefined;
  parseBlock(stream, "section proxy", () => {
    if (stream.accept("inside")) {
      inside = parseAddress(stream);
      stream.semicolon("inside");
    } else if (stream.accept("outside")) {
      outside = parseAddress(stream);
      stream.semicolon("outside");
    } else if (stream.accept("options")) {
      stream.openBrace("options");
      parseOptions(stream, "proxy", sections);
    } else parseProxyStatement(stream, sections, plugins);
  });
  for (const [name, value] of [
    ["inside", inside],
    ["outside", outside],
  ] as const) {
    if (value === undefined) stream.diagnostics.error(at, `proxy on ${names.join(" ")} has no ${name} address`);
  }
  return { names, inside, outside, options: sections.proxy, plugins, at };
}
