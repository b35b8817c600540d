import type { SourcePosition } from "../base/index.ts";

/** Where options stand; `syncer` of 8.3 is spread over `options`, `net` and `disk` while it is read. */
export type OptionSection = "options" | "net" | "disk" | "startup" | "proxy" | "handlers";

/** The order in which `drbdadm dump` prints them. */
export const OPTION_SECTIONS: readonly OptionSection[] = ["options", "net", "disk", "startup", "proxy", "handlers"];

/** One setting as written; of two with the same name the later one counts. */
export interface OptionSetting {
  /** Its 8.4 name: `rate` has become `resync-rate`, `no-disk-flushes` is `disk-flushes` with value `no`. */
  readonly name: string;
  /** As written, unquoted; booleans are `yes` or `no`; undefined for a bare flag. */
  readonly value: string | undefined;
  readonly at: SourcePosition;
  readonly valueAt: SourcePosition;
}

export type OptionSections = Readonly<Record<OptionSection, OptionSetting[]>>;

export function emptySections(): OptionSections {
  return { options: [], net: [], disk: [], startup: [], proxy: [], handlers: [] };
}

export type AddressFamily = "ipv4" | "ipv6" | "ssocks" | "sdp";

export interface ConfigAddress {
  readonly family: AddressFamily;
  /** Numeric, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly at: SourcePosition;
}

/**
 * Where the metadata of a volume is: at the end of its own disk, on another device in a slot of 128 MiB (`index`), or
 * on another device as a whole (`flexible`).
 */
export type MetaDisk =
  | { readonly kind: "internal"; readonly at: SourcePosition }
  | { readonly kind: "indexed"; readonly path: string; readonly index: number; readonly at: SourcePosition }
  | { readonly kind: "flexible"; readonly path: string; readonly at: SourcePosition };

export interface VolumeDevice {
  /** `/dev/drbd0`; undefined for `device minor N` alone. */
  readonly path: string | undefined;
  readonly minor: number;
  readonly at: SourcePosition;
}

export interface VolumeConfig {
  readonly vnr: number;
  /** The single volume whose statements stand in the host section itself. */
  readonly implicit: boolean;
  readonly at: SourcePosition;
  readonly device: VolumeDevice | undefined;
  /** Path, or `none` for a diskless node. */
  readonly disk: { readonly path: string; readonly at: SourcePosition } | undefined;
  readonly metaDisk: MetaDisk | undefined;
  readonly diskOptions: readonly OptionSetting[];
  /** Options of the same volume at the resource level; `dump` does not repeat them in the host. */
  readonly inheritedDiskOptions: readonly OptionSetting[];
}

/** `proxy on HOST { inside ...; outside ...; }` */
export interface ProxyHost {
  readonly names: readonly string[];
  readonly inside: ConfigAddress | undefined;
  readonly outside: ConfigAddress | undefined;
  readonly options: readonly OptionSetting[];
  readonly plugins: readonly ProxyPlugin[];
  readonly at: SourcePosition;
}

/** One line of `plugin { ... }`: its words. */
export type ProxyPlugin = readonly string[];

export interface HostConfig {
  readonly kind: "on" | "floating" | "stacked-on-top-of";
  /** Of `on`; of a stacked section the names of the lower resource's hosts; empty for `floating`. */
  readonly names: readonly string[];
  /** The lower resource of `stacked-on-top-of`. */
  readonly lower: string | undefined;
  readonly address: ConfigAddress | undefined;
  /** Sorted by number, with what the resource level gives already filled in. */
  readonly volumes: readonly VolumeConfig[];
  readonly options: readonly OptionSetting[];
  readonly proxy: ProxyHost | undefined;
  readonly at: SourcePosition;
}

export interface ResourceConfig {
  readonly name: string;
  readonly at: SourcePosition;
  readonly sections: OptionSections;
  readonly plugins: readonly ProxyPlugin[];
  readonly hosts: readonly HostConfig[];
}

export interface CommonConfig {
  readonly at: SourcePosition;
  readonly sections: OptionSections;
  readonly plugins: readonly ProxyPlugin[];
}

/** `global {}`; undefined means not written. */
export interface GlobalConfig {
  readonly at: SourcePosition;
  readonly usageCount: "yes" | "no" | "ask" | undefined;
  readonly minorCount: number | undefined;
  readonly dialogRefresh: number | undefined;
  readonly disableIpVerification: boolean;
  readonly udevAlwaysUseVnr: boolean;
  readonly cmdTimeoutShort: number | undefined;
  readonly cmdTimeoutMedium: number | undefined;
  readonly cmdTimeoutLong: number | undefined;
}

/** A whole configuration as understood: the text of all its files, normalized but nothing lost that `dump` prints. */
export interface DrbdConfig {
  /** The file that was read first. */
  readonly file: string;
  readonly global: GlobalConfig | undefined;
  readonly common: CommonConfig | undefined;
  readonly resources: readonly ResourceConfig[];
}
