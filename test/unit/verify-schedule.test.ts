import assert from "node:assert/strict";
import { test } from "node:test";
import { type AdminCommand, type Resource, VerifySchedule, verifyTimes } from "@hacluster/blockrep";
import { ConnState, DiskState, Role } from "@hacluster/blockrep/unstable/wire/state-word";

test("HACLUSTER_VERIFY: one expression for all, or one by name", () => {
  assert.equal(verifyTimes(undefined, "r0"), undefined);
  assert.equal(verifyTimes("", "r0"), undefined);
  assert.equal(verifyTimes("30 3 * * 0", "r0"), "30 3 * * 0");
  const both = "30 3 * * 0; r1=0 4 1 * *; r2=";
  assert.equal(verifyTimes(both, "r0"), "30 3 * * 0");
  assert.equal(verifyTimes(both, "r1"), "0 4 1 * *");
  assert.equal(verifyTimes(both, "r2"), undefined, "an empty one switches it off");
  for (const wrong of ["daily", "61 3 * * 0", "* * * * * *"]) {
    assert.throws(() => verifyTimes(wrong, "r0"), /no time of cron/);
  }
});

test("a scheduled verify runs on the Primary of a good pair, and is a note where it cannot", async () => {
  const commands: AdminCommand[] = [];
  const notes: string[] = [];
  const good = { disk: DiskState.UpToDate, peerDisk: DiskState.UpToDate };
  let snapshot: { role: Role; peerRole: Role; conn: ConnState; volumes: (typeof good)[] } = {
    role: Role.Primary,
    peerRole: Role.Secondary,
    conn: ConnState.Connected,
    volumes: [good],
  };
  const resource = {
    snapshot: () => snapshot,
    onVolumes: (request: AdminCommand) => {
      commands.push(request);
      return Promise.resolve();
    },
  } as unknown as Resource;
  const schedule = new VerifySchedule(resource, "30 3 * * 0", (_, text) => notes.push(text));
  try {
    await schedule.run();
    assert.deepEqual(commands, [{ verb: "verify" }]);
    snapshot = { ...snapshot, role: Role.Secondary, peerRole: Role.Primary };
    await schedule.run();
    assert.equal(commands.length, 1, "the peer does it");
    snapshot = { ...snapshot, role: Role.Primary, peerRole: Role.Unknown, conn: ConnState.WFConnection };
    await schedule.run();
    assert.equal(commands.length, 1);
    assert.match(notes.at(-1) ?? "", /left out/);
  } finally {
    await schedule.stop();
  }
});
