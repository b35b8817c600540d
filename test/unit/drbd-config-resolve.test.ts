import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode, HaError } from "@hacluster/blockrep/base";
import type { DrbdConfig } from "@hacluster/blockrep/unstable/config/model";
import { parseDrbdConf } from "@hacluster/blockrep/unstable/config/parser";
import { resolveResource } from "@hacluster/blockrep/unstable/config/resolve";

function parse(text: string): DrbdConfig {
  const { config, diagnostics } = parseDrbdConf({ file: "r.res", text });
  assert.equal(diagnostics.hasErrors, false, JSON.stringify(diagnostics.items));
  return config;
}

const HOSTS = "on a { address 192.0.2.1:7788; } on b { address 192.0.2.2:7789; }";
const PLAIN = `device minor 3; disk /dev/x; meta-disk internal; ${HOSTS}`;

test("resolve: addresses, devices and 8.4's defaults", () => {
  const r0 = resolveResource(parse(`resource r0 { ${PLAIN} }`), "r0", "b");
  assert.deepEqual(r0.local, { name: "b", address: { family: "ipv4", host: "192.0.2.2", port: 7789 } });
  assert.equal(r0.peer.name, "a");
  const [volume] = r0.volumes;
  assert.deepEqual([volume?.device, volume?.minor, volume?.disk], ["/dev/drbd3", 3, "/dev/x"]);
  assert.deepEqual(volume?.metaDisk, { kind: "internal" });
  const { net, startup } = r0;
  assert.deepEqual(
    [net.protocol, net.timeoutMs, net.connectIntMs, net.pingIntMs, net.pingTimeoutMs, net.koCount],
    ["C", 6000, 10_000, 10_000, 500, 7],
  );
  assert.deepEqual([net.afterSb0pri, net.sharedSecret, net.useRle], ["disconnect", "", true]);
  assert.equal(startup.wfcTimeoutMs, 0);
  const disk = volume?.diskOptions;
  assert.deepEqual(
    [disk?.alExtents, disk?.resyncRateBytesPerSec, disk?.cFillTargetBytes, disk?.cMaxRateBytesPerSec, disk?.onIoError],
    [1237, 250 * 1024, 51_200, 100 * 1024 * 1024, "detach"],
  );
});

// the order in which drbdadm-84 -d up hands options to drbdsetup: the last one counts
test("resolve: a volume overrides its resource, which overrides common", () => {
  const text = `common { disk { al-extents 67; on-io-error pass_on; } net { ping-int 3; timeout 20; } }
    resource r0 { disk { al-extents 68; c-plan-ahead 5; } net { timeout 40; timeout 30; }
      volume 0 { device minor 3; disk /dev/a; meta-disk /dev/m[2]; disk { resync-rate 3k; c-plan-ahead 6; } }
      on a { address 192.0.2.1:5; volume 0 { disk { al-extents 99; } } } on b { address 192.0.2.2:5; } }`;
  const config = parse(text);
  const a = resolveResource(config, "r0", "a");
  const [onA] = a.volumes;
  const [onB] = resolveResource(config, "r0", "b").volumes;
  assert.deepEqual([onA?.diskOptions.alExtents, onB?.diskOptions.alExtents], [99, 68]);
  assert.equal(onA?.diskOptions.resyncRateBytesPerSec, 3072);
  assert.equal(onA?.diskOptions.cPlanAheadMs, 600);
  assert.equal(onA?.diskOptions.onIoError, "pass_on");
  assert.deepEqual([a.net.timeoutMs, a.net.pingIntMs], [3000, 3000]);
  assert.deepEqual(onA?.metaDisk, { kind: "indexed", path: "/dev/m", index: 2 });
});

test("resolve: syncer of 8.3 and old names end in their 8.4 places", () => {
  const text = `resource r0 { ${PLAIN} syncer { rate 100M; al-extents 257; use-rle no; on-no-data-accessible suspend-io; }
    handlers { outdate-peer "/bin/x"; } disk { no-disk-flushes; } }`;
  const r0 = resolveResource(parse(text), "r0", "a");
  assert.equal(r0.volumes[0]?.diskOptions.resyncRateBytesPerSec, 104_857_600);
  assert.equal(r0.volumes[0]?.diskOptions.alExtents, 257);
  assert.equal(r0.volumes[0]?.diskOptions.diskFlushes, false);
  assert.equal(r0.net.useRle, false);
  assert.equal(r0.options.onNoDataAccessible, "suspend-io");
  assert.deepEqual(r0.handlers, { "fence-peer": "/bin/x" });
});

test("resolve: discard-node names the local or the remote side", () => {
  const config = parse(`resource r0 { ${PLAIN} net { after-sb-0pri discard-node-a; } }`);
  assert.equal(resolveResource(config, "r0", "a").net.afterSb0pri, "discard-local");
  assert.equal(resolveResource(config, "r0", "b").net.afterSb0pri, "discard-remote");
});

test("resolve: floating sections are found by address, one of several peers by name", () => {
  const floating = parse(
    "resource r0 { device minor 1; disk /dev/x; meta-disk internal; floating 192.0.2.1:5; floating 192.0.2.2:5; }",
  );
  const r0 = resolveResource(floating, "r0", "any", { localAddresses: ["192.0.2.2"] });
  assert.equal(r0.peer.name, "192.0.2.1:5");
  const three = parse(`resource r0 { ${PLAIN} on c { address 192.0.2.3:1; } }`);
  assert.equal(resolveResource(three, "r0", "a", { peer: "c" }).peer.address.host, "192.0.2.3");
});

test("resolve: every refusal says what is there instead", () => {
  const config = parse(`resource r0 { ${PLAIN} on c { address 192.0.2.3:1; } }
    resource solo { device minor 9; disk /dev/y; meta-disk internal; on a { address 192.0.2.1:9; } }
    resource upper { stacked-on-top-of r0 { device minor 10; address 192.0.2.9:1; }
      on z { device minor 10; disk /dev/z; meta-disk internal; address 192.0.2.10:1; } }`);
  const refusal = (resource: string, host: string, message: RegExp, code: string = ErrorCode.configInvalid) =>
    assert.throws(
      () => resolveResource(config, resource, host),
      (error) => error instanceof HaError && error.code === code && message.test(error.message),
    );
  refusal("r1", "a", /resource r1 is not in r\.res; did you mean r0\?/);
  refusal("r0", "nodo9", /r\.res:1: resource r0 is not for this host "nodo9"; its hosts are a, b, c/);
  refusal("r0", "a", /several peers for a: b, c; say which one/);
  refusal("solo", "a", /has no peer for a/);
  refusal("upper", "a", /stacked/, ErrorCode.unsupported);
});
