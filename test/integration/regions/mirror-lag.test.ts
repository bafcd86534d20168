/** The lag of a mirror: unknown while the link to the NATS of the home region is cut, and known again afterwards. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { connect } from "@nats-io/transport-node";
import { keepReplayBuffer } from "../../../src/replication/fanout/nats-replay-buffer.ts";
import { freePorts } from "../../support/free-port.ts";
import { startNats } from "../../support/nats.ts";
import { waitFor } from "../../support/wait-for.ts";
import { startWan } from "./wan.ts";

test("the lag of a mirror is unknown, not 0, once the leaf connection is cut", { timeout: 400_000 }, async (t) => {
  const [leafPort = 0] = await freePorts(1);
  const wan = await startWan(leafPort);
  t.after(() => wan.close());
  // A leaf learns the advertised address of its server, and would connect to it around the cut.
  const accepts = `listen: "127.0.0.1:${leafPort}", advertise: "127.0.0.1:${wan.port}"`;
  const east = await startNats({ domain: "east", config: `leafnodes { ${accepts} }` });
  t.after(() => east.stop());
  const remote = `leafnodes { reconnect: 1, remotes: [{ url: "nats-leaf://127.0.0.1:${wan.port}" }] }`;
  const west = await startNats({ domain: "west", config: `${remote}\nping_interval: "1s"` });
  t.after(() => west.stop());
  const [home, leaf] = [await connect({ servers: [...east.urls] }), await connect({ servers: [...west.urls] })];
  t.after(() => Promise.all([home.close(), leaf.close()]));
  const ended = new AbortController();
  t.after(() => ended.abort());
  const common = {
    ...{ subject: "test.log", serversKnown: 1, bytesMax: 10_000_000, signal: ended.signal, randomBytes },
    ...{ logger: { debug() {}, info() {}, warn() {}, error() {} }, retiredStreams: () => [] },
  };
  const origin = keepReplayBuffer(home, { ...common, stream: "TEST_LOG", mirrorOf: () => null, onLag: () => {} });
  const lags: (number | null)[] = [];
  const mirrorOf = () => ({ origin: "TEST_LOG", domain: "east", placementCluster: null });
  const onLag = (lag: number | null): void => void lags.push(lag);
  const mirror = keepReplayBuffer(leaf, { ...common, stream: "TEST_LOG_WEST", mirrorOf, onLag });
  await waitFor("the mirror to follow", async () => lags.at(-1) === 0, { withinMs: 30_000 });
  const before = lags.length;
  wan.cut();
  await waitFor("an unknown lag", async () => lags.slice(before).includes(null), { withinMs: 40_000 });
  wan.heal();
  await waitFor("a known lag", async () => lags.at(-1) === 0, { withinMs: 40_000 });
  assert.ok(lags.every((lag) => lag === null || lag >= 0));
  wan.cut();
  ended.abort();
  await Promise.all([origin, mirror]);
  assert.equal(lags.at(-1), null, "a mirror that is not kept any more has no lag");
});
