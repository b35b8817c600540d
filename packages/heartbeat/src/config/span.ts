/** A time with its unit: `500ms`, `10s`, `5m`, `1h`; without one it is seconds. */
export function parseSpan(text: string): number | undefined {
  const parts = /^([0-9]{1,9})(ms|s|m|h)?$/.exec(text);
  if (parts === null) return undefined;
  const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  return Number(parts[1]) * (units[parts[2] ?? "s"] as number);
}
