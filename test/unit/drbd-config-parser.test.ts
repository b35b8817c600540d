import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDiagnostic } from "@hacluster/blockrep/base";
import { findOption, OPTIONS } from "@hacluster/blockrep/unstable/config/options";
import { INCLUDE_DEPTH_MAX, parseDrbdConf } from "@hacluster/blockrep/unstable/config/parser";
import { parseNumber, parseValue } from "@hacluster/blockrep/unstable/config/values";

const HOSTS = `on a { device /dev/drbd0; disk /dev/x; address 192.0.2.1:1; meta-disk internal; }
on b { device /dev/drbd0; disk /dev/x; address 192.0.2.2:1; meta-disk internal; }`;

function findings(text: string): string[] {
  return parseDrbdConf({ file: "r0.res", text }).diagnostics.items.map(formatDiagnostic);
}

function inNet(text: string): string[] {
  return findings(`resource r0 {\n${HOSTS}\nnet {\n${text}\n}\n}`);
}

test("a finding names file, line, column, what is wrong and what to write", () => {
  assert.deepEqual(inNet("  timout 60;"), [
    'r0.res:5:3: error: unknown option "timout" in section net; did you mean timeout?',
  ]);
  assert.deepEqual(inNet("  timeout 601;"), [
    "r0.res:5:11: error: timeout 601 is out of range; write 1 to 600 (in 0.1 s)",
  ]);
  assert.deepEqual(inNet("rr-conflict disconect;"), [
    'r0.res:5:13: error: unknown value "disconect" of rr-conflict; did you mean disconnect? It can be disconnect, call-pri-lost, violently',
  ]);
  assert.deepEqual(inNet("al-extents 257;"), [
    'r0.res:5:1: error: unknown option "al-extents" in section net; it belongs into section disk',
  ]);
});

test("a missing semicolon is shown where it belongs, and reading goes on behind it", () => {
  assert.deepEqual(inNet("timeout 60\nping-int 999;"), [
    'r0.res:5:11: error: timeout 60 has no ";" at its end; write ";" here',
    "r0.res:6:10: error: ping-int 999 is out of range; write 1 to 120 (in s)",
  ]);
});

test("a string without closing quote gives one finding", () => {
  assert.deepEqual(inNet('cram-hmac-alg "sha1;\nping-int 10;'), [
    'r0.res:5:15: error: this string has no closing quote; write the second " in front of the semicolon, on the same line',
  ]);
});

test("an open brace is named with the line that opened it", () => {
  assert.deepEqual(findings("resource r0 {\n net {\n timeout 60;\n"), [
    'r0.res:4:1: error: section net, opened in line 2, is not closed at the end of the file; write "}" where it ends',
    'r0.res:4:1: error: resource r0, opened in line 1, is not closed at the end of the file; write "}" where it ends',
  ]);
});

test("columns count characters", () => {
  assert.match(
    findings('resource r0 { handlers { pri-lost "ñ🙂"; foo x; } }')[0] ?? "",
    /^r0\.res:1:41: error: unknown/,
  );
});

test("a secret never stands in a finding", () => {
  assert.doesNotMatch(inNet("shared-secret hunter22\nping-int 10;").join(), /hunter22/);
});

test("all errors of a file are shown in one run", () => {
  const text = `resource r0 {\n${HOSTS}\nprotokol C;\nnet { timeout 0; ping-int x; }\ndisk { on-io-error detach }\n}\nresorce r1 { }`;
  assert.deepEqual(
    findings(text).map((f) => f.split(":").slice(1, 3).join(":")),
    ["4:1", "5:15", "5:27", "6:26", "8:1"],
  );
});

test("settings without effect are warnings with a reason, unless they write the default", () => {
  assert.deepEqual(inNet("sndbuf-size 512k; rcvbuf-size 0; tcp-cork yes;"), [
    "r0.res:5:1: warning: sndbuf-size 512k has no meaning in userspace; Node cannot size socket buffers; the system's automatic sizing is used",
  ]);
  for (const option of OPTIONS) assert.equal(option.reason === "", option.effect === "implemented", option.name);
});

test("includes: an error is shown at the statement, and a file that includes itself ends", () => {
  const text = 'include "x.res";\n';
  const missing = parseDrbdConf({ file: "c", text }, () => ({ error: "there is no file x.res" }));
  assert.deepEqual(missing.diagnostics.items.map(formatDiagnostic), [
    'c:1:1: error: cannot include "x.res": there is no file x.res; correct the name or remove it',
  ]);
  let reads = 0;
  const endless = parseDrbdConf({ file: "x.res", text }, () => {
    reads++;
    return [{ file: "x.res", text }];
  });
  assert.equal(reads, INCLUDE_DEPTH_MAX);
  assert.equal(endless.diagnostics.items.length, 1);
});

test("numbers: suffixes are binary, plain numbers are in the option's own unit", () => {
  assert.equal(parseNumber("100M", "KiB/s"), 102400);
  assert.equal(parseNumber("250", "KiB/s"), 250);
  assert.equal(parseNumber("512k", "bytes"), 524288);
  assert.equal(parseNumber("1K", "sectors"), 2);
  assert.equal(parseNumber("3s", "KiB/s"), 2);
  for (const text of ["", "K", "1.5M", "0x10", "5KB", "-1", "1 K"]) assert.equal(parseNumber(text, "bytes"), undefined);
});

test("every option takes its default and the borders of its range, and refuses what lies beyond", () => {
  for (const option of OPTIONS) {
    const { type } = option;
    if (type.kind === "enum") for (const v of type.values) assert.deepEqual(parseValue(option, v), { value: v });
    if (type.kind !== "number") continue;
    for (const n of [type.min, type.default, type.max]) assert.deepEqual(parseValue(option, String(n)), { value: n });
    assert.ok("fault" in parseValue(option, String(type.max + 1)), option.name);
    assert.ok("fault" in parseValue(option, String(type.min - 1)), option.name);
  }
  assert.equal(findOption("net", "resync-rate"), undefined);
});

test("any text is read to its end without an exception", () => {
  const scraps = [
    "resource r0 {",
    "on a {",
    "}",
    "{",
    ";",
    '"',
    "net",
    "timeout",
    "5",
    "floating",
    "[::1]",
    ":",
    "volume",
    "\n",
  ];
  let seed = 7;
  for (let run = 0; run < 2000; run++) {
    let text = "";
    for (let i = 0; i < 12; i++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      text += `${scraps[(seed >>> 16) % scraps.length]} `;
    }
    findings(text);
  }
});
