import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { judge } from "../lab/uml-probe.ts";

describe("whether User-Mode Linux boots here", () => {
  test("a first process that ended means yes", () => {
    const console =
      "mmapper_init - find_iomem failed\nRun /bin/true as init process\nKernel panic - not syncing: Attempted to kill init! exitcode=0x00000000";
    assert.equal(judge(console, false), undefined);
  });

  test("a refusal is named, not the noise of every boot", () => {
    const console =
      "Core dump limits : none\nepollctl add err fd 14, Operation not permitted\nptrace: Operation not permitted\n";
    assert.equal(judge(console, false), "User-Mode Linux does not boot here: ptrace: Operation not permitted");
  });

  test("one that hangs is told by its last line", () => {
    assert.match(judge("Checking PROT_EXEC mmap in /dev/shm...", true) ?? "", /within 60 s: Checking PROT_EXEC/);
  });

  test("one that says nothing is refused, too", () => {
    assert.equal(judge("", false), "User-Mode Linux does not boot here: no message");
  });
});
