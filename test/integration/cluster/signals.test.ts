/** A signal of a transmitter on a real cluster: open WebSockets of every proxy are cut before the answer. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, test } from "node:test";
import { startTransmitter, type TestTransmitter, uris } from "../../support/signal-transmitter.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket } from "./client.ts";
import { type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";

let cluster: Cluster;
let transmitter: TestTransmitter;
const cleanups: (() => unknown)[] = [];

before(
  async () => {
    transmitter = await startTransmitter({ after: (fn: unknown) => void cleanups.push(fn as () => unknown) } as never);
    const { issuer, audience } = transmitter;
    const SIGNAL_TRANSMITTERS = JSON.stringify({ okta: { issuer, audience } });
    cluster = await startCluster({
      ...{ timing: "default", regions: ["north", "south"] },
      env: { authenticate: { SIGNAL_TRANSMITTERS } },
    });
    await waitFor("the newest level", async () => (await cluster.cardea("cluster", "finalize")).code === 0, {
      withinMs: 60_000,
    });
  },
  { timeout: 400_000 },
);
after(async () => {
  await cluster?.stop();
  for (const cleanup of cleanups) await cleanup();
});

type Pushed = Readonly<{ status: number; position: number; receipt: string; body: string }>;

function push(at: ClusterProcess, token: string): Promise<Pushed> {
  return new Promise((resolve, reject) => {
    const headers = {
      ...{ host: cluster.host("authenticate"), "content-type": "application/secevent+jwt" },
      prefer: "wait=30",
    };
    const req = request(
      { host: "127.0.0.1", port: at.ports.address, method: "POST", path: "/ssf/push/okta", headers },
      (res) => {
        let body = "";
        res.on("data", (chunk: Buffer) => {
          body += String(chunk);
        });
        res.on("end", () =>
          resolve({
            ...{ status: res.statusCode ?? 0, body, receipt: String(res.headers["cardea-receipt"]) },
            position: Number(res.headers["cardea-position"]),
          }),
        );
      },
    );
    req.on("error", reject);
    req.end(token);
  });
}

const at = (proxy: ClusterProcess, session: Session) => ({
  ...{ port: proxy.ports.address, host: cluster.host("app"), cookie: session.cookie },
});
const signed = (event: string, name: string, payload: object = {}): Promise<string> =>
  transmitter.sign(transmitter.claims(event, { format: "email", email: `${name}@example.com` }, {}, payload));

for (const [event, what] of [
  [uris.sessionRevoked, "a revoked session"],
  [uris.accountDisabled, "a disabled account"],
] as const) {
  test(`${what} cuts the person's open WebSockets on every proxy, and no one else's`, async () => {
    const [alice, bob] = [await cluster.session("alice"), await cluster.session("bob")];
    const sockets = await Promise.all(cluster.proxies.map((proxy) => openSocket(at(proxy, alice))));
    const others = await Promise.all(cluster.proxies.map((proxy) => openSocket(at(proxy, bob))));

    const answer = await push(cluster.authenticate, await signed(event, "alice"));

    assert.equal(answer.status, 202, answer.body);
    assert.equal(answer.receipt, "complete");
    assert.ok(answer.position > 0);
    for (const socket of sockets)
      assert.deepEqual(await socket.closed, { code: 4401, reason: "session ended: sign in again" });
    for (const proxy of cluster.proxies)
      assert.equal((await cluster.get(proxy, "app", alice)).permitted, false, "permitted after a complete receipt");
    for (const socket of others) {
      assert.equal(socket.isOpen(), true);
      socket.close();
    }
  });
}

test("one token that arrives twice at once, also through a proxy, is recorded once", async () => {
  const token = await signed(uris.sessionRevoked, "carla");
  const [proxy] = cluster.proxies;
  assert.ok(proxy);
  const answers = await Promise.all(
    [cluster.authenticate, proxy, cluster.authenticate, proxy].map((each) => push(each, token)),
  );
  assert.deepEqual(
    answers.map(({ status }) => status),
    [202, 202, 202, 202],
  );
  assert.equal(new Set(answers.map(({ position }) => position)).size, 1);
  const carla = await cluster.session("carla");
  assert.equal((await push(proxy, token)).status, 202);
  assert.equal((await cluster.get(proxy, "app", carla)).permitted, true, "a repetition does nothing");
});
