import { randomBytes } from "node:crypto";
import type { Lab } from "../lab/lab.ts";
import type { LabNode } from "../lab/node.ts";
import { delay, run, waitFor } from "../lab/process.ts";
import { Client } from "./client.ts";
import { monotonicMs } from "./clock.ts";
import { Hacluster } from "./hacluster.ts";
import { configure, DEVICE, DISK_BYTES, MOUNT_POINT, SERVICE_ADDRESS } from "./nodes.ts";
import type { DemoOptions, Pace } from "./options.ts";
import type { Report, RunFigures } from "./report.ts";
import { Writer } from "./writer.ts";

/** How long the writer works on nodo1 before the power loss (one run), and on nodo2 before nodo1 returns. */
const WORK_MS = 1_500;
/** Bounds of the random moment of the power loss with several runs. */
const RANDOM_WORK_MS = [300, 3_000] as const;
/** The issue of a resync that copies too much: the bitmap or the activity log does not narrow it down. */
const RESYNC_BYTES_MAX: number = DISK_BYTES / 10;

/** The scenario: two nodes from bare disks to a service, and what happens to it when nodo1 dies and returns. */
export class Scenario {
  readonly #lab: Lab;
  readonly #report: Report;
  readonly #options: DemoOptions;
  readonly #pace: Pace;
  readonly #one: Hacluster;
  readonly #two: Hacluster;
  readonly #nonce = randomBytes(6).toString("hex");
  readonly #writer: Writer;
  #client: Client | undefined;

  constructor(lab: Lab, report: Report, options: DemoOptions, pace: Pace) {
    this.#lab = lab;
    this.#report = report;
    this.#options = options;
    this.#pace = pace;
    this.#one = new Hacluster(lab.node("nodo1"), pace.commandLimitMs);
    this.#two = new Hacluster(lab.node("nodo2"), pace.commandLimitMs);
    this.#writer = new Writer(`${MOUNT_POINT}/records`, this.#nonce);
  }

  get #nodes(): readonly LabNode[] {
    return [this.#one.node, this.#two.node];
  }

  #page(): string {
    return `<!doctype html><title>Jorge's files</title><p>The page of ${this.#nonce}, from the replicated disk.\n`;
  }

  /** From bare disks to a filesystem with the page on it, both disks UpToDate. */
  async prepare(): Promise<void> {
    const { step, heading } = bound(this.#report);
    heading("Two machines with an empty /dev/sda6 each, and the user's configuration files");
    const timing = this.#options.classic ? "the user's files, byte for byte" : "the user's files with short times";
    await step("configure", `both: write /etc/ha.d, /etc/drbd.d (${timing}), Apache's site`, () =>
      Promise.all(this.#nodes.map((node) => configure(node, this.#options.classic))),
    );
    heading("The replicated disk");
    await step("create-md", "both: hacluster blockrep create-md r0", () =>
      Promise.all([this.#one.createMetadata(), this.#two.createMetadata()]),
    );
    await step("up", "both: hacluster blockrep up r0", () => Promise.all([this.#one.up(), this.#two.up()]));
    await step("first sync", "nodo1: hacluster blockrep primary --force r0; wait-sync r0", () => this.#firstSync());
    await step("mkfs", `nodo1: mkfs.ext4 ${DEVICE}; put the page on it; secondary r0`, async () => {
      const script = [
        `mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 ${DEVICE}`,
        `mount ${DEVICE} ${MOUNT_POINT}`,
        `cat >${MOUNT_POINT}/index.html`,
        `umount ${MOUNT_POINT}`,
      ].join(" && ");
      await this.#one.node.must(["sh", "-c", script], { input: this.#page() });
      await this.#one.secondary();
    });
  }

  async #firstSync(): Promise<void> {
    await this.#one.forcePrimary();
    let syncing = true;
    const synced = this.#one.waitSync().finally(() => {
      syncing = false;
    });
    await Promise.all([synced, this.#showProgress(this.#one, () => syncing)]);
    if (!(await waitFor(() => this.#one.isUpToDateOnBoth(), this.#pace.firstSyncLimitMs, 200))) {
      throw new Error(`the first sync did not end in UpToDate/UpToDate:\n${await this.#one.statusText()}`);
    }
  }

  /** Show the progress of a resync while `goesOn`; what cannot be asked just now is not shown. */
  async #showProgress(on: Hacluster, goesOn: () => boolean): Promise<void> {
    while (goesOn()) {
      await waitFor(() => !goesOn(), 700, 20);
      const resync = (await on.resource().catch(() => undefined))?.resync;
      if (resync == null || !goesOn()) continue;
      this.#report.progress(`${mebibytes(resync.doneBytes)} of ${mebibytes(resync.totalBytes)} MiB`);
    }
  }

  /** Start the cluster on both nodes; the client sees the page and the writer works. */
  async service(): Promise<void> {
    const { step, heading } = bound(this.#report);
    heading(`The service: address ${SERVICE_ADDRESS}, disk, filesystem and Apache, home on nodo1`);
    const startMs = monotonicMs();
    this.#client = new Client(this.#lab.client, SERVICE_ADDRESS, this.#page());
    await step("start", "both: hacluster start", () => Promise.all([this.#one.start(), this.#two.start()]));
    await step(
      "page",
      `client: GET http://${SERVICE_ADDRESS}/`,
      async () => {
        await this.#watch.firstGood(startMs, this.#pace.startLimitMs);
        await this.#watch.firstFrom("nodo1", startMs, this.#pace.startLimitMs);
      },
      () => "200, the page, from nodo1",
    );
    await this.#showStatus(this.#one);
    await step("writer", "nodo1: the writer appends records, fsync after each", () =>
      this.#writer.start(this.#one.node),
    );
  }

  /** What an administrator would see now. */
  async #showStatus(on: Hacluster): Promise<void> {
    this.#report.note(`${on.node.name}# hacluster status`);
    for (const line of (await on.statusText()).split("\n")) this.#report.note(`  ${line}`);
  }

  get #watch(): Client {
    if (this.#client === undefined) throw new Error("the client is not running");
    return this.#client;
  }

  /** One power loss of nodo1, the takeover, the return and the failback. */
  async powerLoss(): Promise<RunFigures> {
    const { step, heading } = bound(this.#report);
    const [least, most] = RANDOM_WORK_MS;
    const workMs = this.#options.runs > 1 ? Math.round(least + Math.random() * (most - least)) : WORK_MS;
    heading("Power loss of nodo1");
    const before = this.#writer.acknowledged;
    await step(
      "work",
      `nodo1: the writer works for ${(workMs / 1000).toFixed(1)} s, both disks UpToDate`,
      async () => {
        await delay(workMs);
        if (!(await waitFor(() => this.#one.isUpToDateOnBoth(), 20_000, 100))) {
          throw new Error(`not UpToDate on both sides:\n${await this.#one.statusText()}`);
        }
      },
      () => `${this.#writer.acknowledged} records acknowledged`,
    );

    const killMs = monotonicMs();
    await step("power loss", "nodo1: cables dead, every process SIGKILLed", () => this.#one.node.kill());
    const deadMs = monotonicMs();
    await this.#writer.ended(5_000);
    const failoverMs = await step(
      "takeover",
      "nodo2 takes over",
      async () => {
        const backMs = await this.#watch.firstGood(deadMs, this.#pace.takeoverLimitMs);
        await this.#watch.firstFrom("nodo2", deadMs, this.#pace.takeoverLimitMs);
        return Math.round(backMs - killMs);
      },
      (ms) => `the same page again, from nodo2, ${ms} ms after the power loss`,
    );
    await this.#showStatus(this.#two);
    const lost = await this.#checkRecords(this.#two.node);
    await step("writer", "nodo2: the writer goes on", async () => {
      await this.#writer.start(this.#two.node);
      await delay(WORK_MS);
    });
    const { failbackMs, resyncBytes } = await this.#return();
    const lostAtHome = await this.#checkRecords(this.#one.node);
    await step("writer", "nodo1: the writer goes on", () => this.#writer.start(this.#one.node));
    if (this.#watch.wrongAnswers > 0) {
      throw new Error(`the client got ${this.#watch.wrongAnswers} answers with wrong content`);
    }
    const acknowledged = this.#writer.acknowledged - before;
    return { failoverMs, failbackMs, resyncBytes, acknowledged, lost: Math.max(lost, lostAtHome) };
  }

  /** nodo1 gets power again, copies what changed, and the group goes home. */
  async #return(): Promise<Pick<RunFigures, "failbackMs" | "resyncBytes">> {
    const { step, heading } = bound(this.#report);
    heading("nodo1 returns");
    const onMs = monotonicMs();
    await step("power on", "nodo1: power on", () => this.#one.node.start());
    await step("return", "nodo1: hacluster start", () => this.#one.start());
    const resyncBytes = await step(
      "resync",
      "nodo1: resync of what changed",
      async () => {
        const ready = await waitFor(() => this.#one.isUpToDateOnBoth(), this.#pace.returnLimitMs, 100);
        if (!ready) throw new Error(`nodo1 does not become UpToDate:\n${await this.#one.statusText()}`);
        const bytes = (await this.#one.resource()).resyncedBytes;
        if (bytes >= RESYNC_BYTES_MAX) {
          throw new Error(`the resync copied ${bytes} bytes: 10 % of the device or more, not only what changed`);
        }
        return bytes;
      },
      (bytes) => `${mebibytes(bytes)} MiB of ${mebibytes(DISK_BYTES)} MiB`,
    );
    const failbackMs = await step(
      "failback",
      "the service goes home",
      async () => {
        const homeMs = await this.#watch.firstFrom("nodo1", onMs, this.#pace.returnLimitMs);
        const goodMs = await this.#watch.firstGood(homeMs, 10_000);
        return this.#watch.longestGapMs(onMs, goodMs);
      },
      (ms) => `from nodo1 again, the client's longest gap was ${ms} ms`,
    );
    await this.#writer.ended(5_000);
    await this.#showStatus(this.#one);
    return { failbackMs, resyncBytes };
  }

  async #checkRecords(node: LabNode): Promise<number> {
    const verdict = await this.#report.step(
      "records",
      `${node.name}: look for every acknowledged record`,
      async () => await this.#writer.check(node),
      ({ lost, records }) => `${this.#writer.acknowledged} acknowledged, ${records} in the file, ${lost} lost`,
    );
    if (verdict.lost > 0) {
      throw new Error(
        `${verdict.lost} acknowledged records are lost on ${node.name}, the first is ${verdict.firstLost}`,
      );
    }
    return verdict.lost;
  }

  /** The writer and the client end, the cluster goes on; at rest, both disks hold the same bytes. */
  async conclude(): Promise<void> {
    const { step, heading } = bound(this.#report);
    heading("The end");
    await this.#writer.stop();
    await this.#client?.stop();
    await step(
      "compare",
      "both: compare the replicated disks",
      () => this.#compareDisks(),
      (bytes) => `${mebibytes(bytes)} MiB, identical`,
    );
  }

  async #compareDisks(): Promise<number> {
    const size = Number(await this.#one.node.must(["blockdev", "--getsize64", DEVICE]));
    const images = this.#nodes.map((node) => String(node.diskImage));
    let difference = "";
    // After a flush both images hold everything; but the filesystem is mounted, and its journal may just be writing.
    const same = await waitFor(
      async () => {
        await this.#one.node.must(["sync", "--file-system", MOUNT_POINT]);
        const result = await run(["cmp", "--bytes", String(size), ...images]);
        difference = `${result.stdout}${result.stderr}`.trim();
        return result.code === 0;
      },
      10_000,
      500,
    );
    if (!same) throw new Error(`the disks differ: ${difference}`);
    return size;
  }

  /** What both nodes say of themselves, for the report of a failure. */
  async statusTexts(): Promise<string> {
    const texts = [this.#one, this.#two].map(async (side) =>
      side.node.isOn
        ? `--- ${side.node.name} hacluster status\n${await side.statusText()}`
        : `${side.node.name} is off`,
    );
    return (await Promise.all(texts)).join("\n");
  }
}

function bound(report: Report): Pick<Report, "step" | "heading"> {
  return { step: report.step.bind(report), heading: report.heading.bind(report) };
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0);
}
