/** deploy/load-balancer/ends-tls.cfg, run by a real HAProxy: restarting the proxies behind it fails no request. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { findHaproxy } from "../support/haproxy.ts";
import { restartAll, startLoad, startPair, unexpected } from "./rolling.ts";

const skip = findHaproxy() === undefined ? "HAProxy is not installed" : false;

test("a rolling restart behind an HAProxy that terminates TLS fails no request, over HTTP/1.1, HTTP/2 and gRPC", {
  skip,
}, async (t) => {
  using folder = new TemporaryFolder("haproxy");
  const pair = await startPair(t, folder, { balancer: "ends-tls.cfg", more: { xff_num_trusted_hops: 1 } });
  const load = startLoad(t, pair);
  await restartAll(pair, load);
  await load.stop();
  t.diagnostic(`answered ${JSON.stringify(load.answered)}, sent again elsewhere ${load.moved}`);
  assert.deepEqual(unexpected(pair, load), []);
});
