export function median(values: readonly number[]): number {
  const sorted = values.filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  if (sorted.length % 2 === 1) return sorted[half] as number;
  return ((sorted[half - 1] as number) + (sorted[half] as number)) / 2;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spread(values: readonly number[]): Spread {
  const good = values.filter((v) => !Number.isNaN(v));
  if (good.length === 0) return { median: Number.NaN, min: Number.NaN, max: Number.NaN };
  return { median: median(good), min: Math.min(...good), max: Math.max(...good) };
}

/** a[i] / b[i] of the same round: what else the machine did at that time weighs on both. */
export function ratios(a: readonly number[], b: readonly number[]): number[] {
  const out: number[] = [];
  for (let i = 0; i < Math.min(a.length, b.length); i++) out.push((a[i] as number) / (b[i] as number));
  return out.filter((v) => Number.isFinite(v));
}

export function show(value: number, digits?: number): string {
  if (Number.isNaN(value)) return "-";
  return value.toFixed(digits ?? (value >= 100 ? 0 : value >= 10 ? 1 : 2));
}
