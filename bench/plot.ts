import { runFio } from "./fio.ts";
import { median } from "./statistics.ts";
import type { Target } from "./targets.ts";
import type { TargetName, Workload } from "./workloads.ts";

const DEPTHS = [1, 2, 4, 8, 16, 32, 64];
const BLOCKS_KIB = [4, 16, 64, 256, 1024];
const COLOURS: Partial<Record<TargetName, string>> = {
  blockrep: "#c0392b",
  mirror: "#2471a3",
  quorum: "#7d3c98",
  nbdkit: "#7f8c8d",
  single: "#d68910",
};
const LABELS: Partial<Record<TargetName, string>> = {
  blockrep: "blockrep, both sides",
  mirror: "QEMU mirror",
  quorum: "QEMU quorum",
  nbdkit: "nbdkit, unreplicated",
  single: "blockrep, unreplicated",
};

interface Series {
  readonly name: TargetName;
  readonly values: readonly number[];
}

interface Panel {
  readonly title: string;
  readonly unit: string;
  readonly axis: readonly string[];
  readonly series: readonly Series[];
}

/** Throughput and latency of random writes against queue depth (4 KiB) and block size (QD8), as one picture. */
export async function plot(
  targets: readonly Target[],
  rounds: number,
  seconds: number,
  sizeMib: number,
  progress: (text: string) => void,
): Promise<string> {
  const sweep = async (axis: readonly number[], workload: (value: number) => Workload): Promise<Measured> => {
    const measured: Measured = new Map(targets.map((t) => [t.name, axis.map(() => ({ rate: [], p50us: [] }))]));
    for (let round = 0; round < rounds; round++) {
      for (const [i, value] of axis.entries()) {
        const point = workload(value);
        progress(`round ${round + 1}/${rounds} ${point.name}`);
        for (const target of targets) {
          const run = await runFio(point, target.uri, target.pids, seconds, sizeMib);
          const cell = measured.get(target.name)?.[i];
          cell?.rate.push(run.figure);
          cell?.p50us.push(run.p50us);
        }
      }
    }
    return measured;
  };
  const depths = await sweep(DEPTHS, (depth) => ({
    name: `w4k-q${depth}`,
    text: "",
    unit: "iops",
    peers: [],
    fio: ["--rw=randwrite", "--bs=4k", `--iodepth=${depth}`],
  }));
  const blocks = await sweep(BLOCKS_KIB, (kib) => ({
    name: `w${kib}k-q8`,
    text: "",
    unit: "MB/s",
    peers: [],
    fio: ["--rw=randwrite", `--bs=${kib}k`, "--iodepth=8"],
  }));
  const depthAxis = DEPTHS.map((depth) => `${depth}`);
  const blockAxis = BLOCKS_KIB.map((kib) => (kib === 1024 ? "1 MiB" : `${kib} KiB`));
  return draw([
    { title: "4 KiB random writes against queue depth", unit: "IOPS", axis: depthAxis, series: of(depths, "rate") },
    { title: "their latency, median", unit: "µs", axis: depthAxis, series: of(depths, "p50us") },
    { title: "random writes at QD8 against block size", unit: "MB/s", axis: blockAxis, series: of(blocks, "rate") },
    { title: "their latency, median", unit: "µs", axis: blockAxis, series: of(blocks, "p50us") },
  ]);
}

type Measured = Map<TargetName, { rate: number[]; p50us: number[] }[]>;

function of(measured: Measured, key: "rate" | "p50us"): Series[] {
  return [...measured].map(([name, cells]) => ({ name, values: cells.map((cell) => median(cell[key])) }));
}

const WIDTH = 460;
const HEIGHT = 300;
const MARGIN = { left: 64, right: 16, top: 34, bottom: 34 };

function draw(panels: readonly Panel[]): string {
  const legendAt = 2 * HEIGHT + 18;
  const names = panels[0]?.series.map((series) => series.name) ?? [];
  const legend = names.map((name, i) => {
    const x = 30 + i * 178;
    const line = `<line x1="${x}" y1="${legendAt}" x2="${x + 22}" y2="${legendAt}" stroke="${COLOURS[name]}" stroke-width="2"/>`;
    return `${line}<text x="${x + 28}" y="${legendAt + 4}">${LABELS[name] ?? name}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * WIDTH} ${2 * HEIGHT + 40}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    ...panels.map((panel, i) => drawPanel(panel, (i % 2) * WIDTH, Math.floor(i / 2) * HEIGHT)),
    ...legend,
    "</svg>",
    "",
  ].join("\n");
}

/** Both axes in powers: twice as much is the same distance everywhere. */
function drawPanel(panel: Panel, left: number, top: number): string {
  const all = panel.series.flatMap((series) => series.values).filter((value) => value > 0);
  const low = 10 ** Math.floor(Math.log10(Math.min(...all)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(...all)));
  const inner = { width: WIDTH - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
  const x = (i: number): number => left + MARGIN.left + (i * inner.width) / (panel.axis.length - 1);
  const y = (value: number): number =>
    top + MARGIN.top + inner.height * (1 - Math.log(value / low) / Math.log(high / low));
  const out = [
    `<text x="${left + MARGIN.left}" y="${top + 20}" font-weight="bold">${panel.title} [${panel.unit}]</text>`,
  ];
  for (let power = low; power <= high; power *= 10) {
    for (const step of [1, 2, 5]) {
      const value = power * step;
      if (value > high) break;
      const at = y(value).toFixed(1);
      out.push(
        `<line x1="${left + MARGIN.left}" y1="${at}" x2="${left + WIDTH - MARGIN.right}" y2="${at}" stroke="${step === 1 ? "#ccc" : "#eee"}"/>`,
        `<text x="${left + MARGIN.left - 6}" y="${at}" dy="4" text-anchor="end" fill="#555">${value.toLocaleString("en")}</text>`,
      );
    }
  }
  for (const [i, label] of panel.axis.entries()) {
    out.push(`<text x="${x(i).toFixed(1)}" y="${top + HEIGHT - 14}" text-anchor="middle" fill="#555">${label}</text>`);
  }
  for (const { name, values } of panel.series) {
    const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
    out.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${COLOURS[name]}" stroke-width="2"/>`);
    for (const point of points) {
      const [cx, cy] = point.split(",");
      out.push(`<circle cx="${cx}" cy="${cy}" r="3" fill="${COLOURS[name]}"/>`);
    }
  }
  return out.join("\n");
}
