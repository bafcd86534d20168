/** Connections that never send a request. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { certificate } from "../config/support.ts";
import { publicAccess, routeTo, startRig } from "../proxy/support.ts";

test("a caller that never finishes its TLS handshake does not keep a node from stopping", async (t) => {
  const rig = await startRig([routeTo(1, publicAccess)], {
    config: { insecureServer: false, certificates: [certificate(["app.localhost"])] },
  });
  const silent = connect(rig.port, "127.0.0.1");
  t.after(() => silent.destroy());
  silent.on("error", () => {});
  await once(silent, "connect");
  await sleep(50); // until the proxy has accepted it

  const ended = rig.close().then(() => "ended");

  assert.equal(await Promise.race([ended, sleep(60_000, "stuck", { ref: false })]), "ended");
});
