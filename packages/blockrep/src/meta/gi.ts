import { MdFlag, type Superblock } from "./superblock.ts";
import { formatUuids } from "./uuid-set.ts";

/** What get-gi tells: of a superblock, or of a volume that is attached. */
export type Generations = Pick<Superblock, "uuids" | "flags">;

/** What show-gi tells besides; `clean` undefined: the volume is attached, so the question does not arise. */
export interface ExplainedGenerations extends Generations {
  readonly clean: boolean | undefined;
  readonly laSizeSectors: number;
  readonly laPeerMaxBioSize: number;
}

/** The flags of a get-gi line, in its order, with what show-gi says about each. */
const GI_FLAGS: readonly { readonly flag: number; readonly meaning: string }[] = [
  { flag: MdFlag.consistent, meaning: "the data are consistent" },
  { flag: MdFlag.wasUpToDate, meaning: "the data were up to date" },
  { flag: MdFlag.primaryIndicator, meaning: "the node was Primary" },
  { flag: MdFlag.connectedIndicator, meaning: "the node was connected" },
  { flag: MdFlag.fullSync, meaning: "a full sync was about to start" },
  { flag: MdFlag.peerOutdated, meaning: "the peer's disk was outdated or inconsistent" },
  { flag: MdFlag.crashedPrimary, meaning: "the node was a crashed Primary that has not seen its peer since" },
];

/** The generation identifiers as `drbdmeta get-gi` prints them: `C:B:H0:H1:consistent:uptodate:primary:...`. */
export function formatGi(s: Generations): string {
  const flags = GI_FLAGS.map(({ flag }) => ((s.flags & flag) === 0 ? "0" : "1"));
  return [formatUuids(s.uuids), ...flags].join(":");
}

/** The get-gi line with each field explained, for people; the last four lines are those of `drbdmeta show-gi`. */
export function formatShowGi(s: ExplainedGenerations): string {
  const line = formatGi(s);
  const names = ["current data generation", "generation the bitmap starts from", "younger history", "older history"];
  const out = [line, ""];
  for (const [i, name] of names.entries()) out.push(`  ${line.slice(i * 17, i * 17 + 16)}  ${name}`);
  for (const { flag, meaning } of GI_FLAGS) out.push(`  ${(s.flags & flag) === 0 ? "0" : "1"}  ${meaning}`);
  out.push("", `flags: ${words(s)}`);
  if (s.clean !== undefined) out.push(`meta-data: ${s.clean ? "clean" : "need apply-al"}`);
  out.push(lastSize(s));
  if (s.laPeerMaxBioSize > 0) out.push(`last agreed max bio size: ${s.laPeerMaxBioSize} Byte`);
  return `${out.join("\n")}\n`;
}

function words(s: Generations): string {
  const has = (flag: number): boolean => (s.flags & flag) !== 0;
  const parts = [
    has(MdFlag.crashedPrimary) ? "crashed Primary" : has(MdFlag.primaryIndicator) ? "Primary" : "Secondary",
  ];
  parts.push(has(MdFlag.connectedIndicator) ? "Connected" : "StandAlone");
  if (has(MdFlag.consistent)) parts.push(has(MdFlag.wasUpToDate) ? "UpToDate" : "Outdated");
  else parts.push("Inconsistent");
  if (has(MdFlag.fullSync)) parts.push("need full sync");
  if (has(MdFlag.peerOutdated)) parts.push("peer Outdated");
  return parts.join(", ");
}

function lastSize(s: ExplainedGenerations): string {
  if (s.laSizeSectors === 0) return "zero size device -- never seen peer yet?";
  const kib = s.laSizeSectors / 2;
  const size = kib >= 1024 * 1024 ? `${Math.round(kib / 1024 / 1024)} GB` : `${Math.round(kib / 1024)} MB`;
  return `last agreed size: ${kib < 1024 ? `${kib} KB` : size} (${s.laSizeSectors} sectors)`;
}
