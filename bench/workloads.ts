/** The fixed workloads, and the goals that are judged on them. */

export type TargetName = "blockrep" | "single" | "nbdkit" | "mirror" | "quorum" | "blockrep-small-al" | "quorum-wide";

export interface Workload {
  readonly name: string;
  readonly text: string;
  /** `us`: time of one operation, less is better. Otherwise a rate. */
  readonly unit: "us" | "iops" | "MB/s";
  /** The time of one operation is that of a write and the flush behind it. */
  readonly withFlush?: boolean;
  readonly reads?: boolean;
  readonly fio: readonly string[];
  /** Needs a device larger than the usual one. */
  readonly wide?: boolean;
  /** Targets beside blockrep. */
  readonly peers: readonly TargetName[];
}

const write4k = ["--rw=randwrite", "--bs=4k"];

export const WORKLOADS: readonly Workload[] = [
  {
    name: "w4k-q1",
    text: "random write 4 KiB, QD1",
    unit: "us",
    fio: [...write4k, "--iodepth=1"],
    peers: ["nbdkit", "mirror", "quorum"],
  },
  {
    name: "w4k-q32",
    text: "random write 4 KiB, QD32",
    unit: "iops",
    fio: [...write4k, "--iodepth=32"],
    peers: ["nbdkit", "single", "mirror", "quorum"],
  },
  {
    name: "w4k-q16x4",
    text: "random write 4 KiB, 4 connections of QD16",
    unit: "iops",
    fio: [...write4k, "--iodepth=16", "--numjobs=4", "--group_reporting"],
    peers: ["nbdkit", "mirror"],
  },
  {
    name: "w4k-q1-flush",
    text: "random write 4 KiB + flush, QD1",
    unit: "us",
    withFlush: true,
    fio: [...write4k, "--iodepth=1", "--fsync=1"],
    peers: ["nbdkit", "quorum"],
  },
  {
    name: "w4k-q32-flush32",
    text: "random write 4 KiB, QD32, flush every 32 writes",
    unit: "iops",
    fio: [...write4k, "--iodepth=32", "--fsync=32"],
    peers: ["quorum"],
  },
  {
    name: "w64k-q8",
    text: "random write 64 KiB, QD8",
    unit: "MB/s",
    fio: ["--rw=randwrite", "--bs=64k", "--iodepth=8"],
    peers: ["nbdkit", "mirror", "quorum"],
  },
  {
    name: "r4k-q1",
    text: "random read 4 KiB, QD1, cached",
    unit: "us",
    reads: true,
    fio: ["--rw=randread", "--bs=4k", "--iodepth=1"],
    peers: ["nbdkit", "single"],
  },
  {
    name: "r4k-q32",
    text: "random read 4 KiB, QD32, cached",
    unit: "iops",
    reads: true,
    fio: ["--rw=randread", "--bs=4k", "--iodepth=32"],
    peers: ["nbdkit", "single"],
  },
  {
    name: "mix70-4k-q16",
    text: "random 4 KiB, 70 % reads, QD16",
    unit: "iops",
    fio: ["--rw=randrw", "--rwmixread=70", "--bs=4k", "--iodepth=16"],
    peers: ["mirror"],
  },
  {
    name: "w4k-wide",
    text: "random write 4 KiB, QD32, flush every 32, over 4 times the activity log",
    unit: "iops",
    wide: true,
    fio: [...write4k, "--iodepth=32", "--fsync=32"],
    peers: ["quorum-wide"],
  },
  // large requests come last: they leave large folios in the page cache, which makes small writes slower for everybody
  {
    name: "r1m-seq-q4",
    text: "sequential read 1 MiB, QD4, cached",
    unit: "MB/s",
    reads: true,
    fio: ["--rw=read", "--bs=1m", "--iodepth=4"],
    peers: ["nbdkit"],
  },
  {
    name: "w1m-seq-q4",
    text: "sequential write 1 MiB, QD4",
    unit: "MB/s",
    fio: ["--rw=write", "--bs=1m", "--iodepth=4"],
    peers: ["nbdkit", "mirror", "quorum"],
  },
];

export interface Goal {
  readonly workload: string;
  readonly peer: TargetName;
  /** `speed`: how many times faster than the peer; `cpu`: server CPU per GiB as a share of the peer's, less is better. */
  readonly figure: "speed" | "cpu";
  readonly must: number;
  readonly aim?: number;
}

export const GOALS: readonly Goal[] = [
  { workload: "w4k-q1", peer: "mirror", figure: "speed", must: 1.2, aim: 1.5 },
  { workload: "w4k-q1", peer: "quorum", figure: "speed", must: 1.0 },
  { workload: "w4k-q32", peer: "mirror", figure: "speed", must: 3, aim: 4 },
  { workload: "w4k-q32", peer: "quorum", figure: "speed", must: 3, aim: 4 },
  { workload: "w4k-q32", peer: "nbdkit", figure: "speed", must: 0.45, aim: 0.6 },
  { workload: "w4k-q16x4", peer: "mirror", figure: "speed", must: 3.5, aim: 5 },
  { workload: "w4k-q16x4", peer: "nbdkit", figure: "speed", must: 0.6, aim: 0.8 },
  { workload: "w4k-q1-flush", peer: "quorum", figure: "speed", must: 1.0, aim: 1.3 },
  { workload: "w4k-q32-flush32", peer: "quorum", figure: "speed", must: 1.2, aim: 1.6 },
  { workload: "w64k-q8", peer: "mirror", figure: "speed", must: 1.3, aim: 1.7 },
  { workload: "w64k-q8", peer: "quorum", figure: "speed", must: 1.3, aim: 1.7 },
  { workload: "w1m-seq-q4", peer: "mirror", figure: "speed", must: 1.5, aim: 2.2 },
  { workload: "w1m-seq-q4", peer: "quorum", figure: "speed", must: 1.3 },
  { workload: "r4k-q1", peer: "nbdkit", figure: "speed", must: 1.3, aim: 2 },
  { workload: "r4k-q32", peer: "nbdkit", figure: "speed", must: 1.3, aim: 2 },
  { workload: "r1m-seq-q4", peer: "nbdkit", figure: "speed", must: 1.0, aim: 1.4 },
  { workload: "mix70-4k-q16", peer: "mirror", figure: "speed", must: 2.5, aim: 3.3 },
  { workload: "w4k-q32", peer: "mirror", figure: "cpu", must: 0.3, aim: 0.2 },
  { workload: "w4k-q32", peer: "single", figure: "speed", must: 0.45, aim: 0.6 },
  { workload: "w4k-wide", peer: "quorum-wide", figure: "speed", must: 1.0, aim: 1.5 },
];
