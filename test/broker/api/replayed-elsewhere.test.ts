/** Calls that are captured and replayed to another broker, which docs/adr/0011 leaves open. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../../src/broker/index.ts";
import { type BrokerId, decode, encode, formatLink, genesis } from "../../../src/events/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { createCallSigner, type Role, type ServiceCall } from "../../../src/replication/wire/index.ts";
import { freePort } from "../../support/free-port.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  asked,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  folded,
  quiet,
  random,
  secret,
  session,
  sharedLog,
} from "../support.ts";

type Running = Readonly<{ broker: Broker; server: DatabrokerServer }>;
const log = sharedLog();
let leader: Running;
let follower: Running;

async function run(name: string): Promise<Running> {
  const port = await freePort();
  const broker = brokerOn(log, { brokerId: name as BrokerId, advertisedUrl: `http://127.0.0.1:${port}` });
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet, listen: { host: "127.0.0.1", port } },
  });
  return { broker, server };
}
before(async () => {
  leader = await run("broker-1");
  await waitFor("a leader", () => leader.broker.leading());
  follower = await run("broker-2");
});
after(async () => {
  for (const { server, broker } of [follower, leader]) {
    await server.close();
    await broker.stop();
  }
});

async function caught(call: ServiceCall, role: Role, type = "application/msgpack") {
  const signCall = createCallSigner({ cluster, secret, clock: systemClock, randomBytes: random });
  const { authorization } = signCall(call, { role, name: "test" });
  return async ({ server }: Running) => {
    const answer = await fetch(`${server.url}${call.path}`, {
      method: call.method,
      headers: { authorization, ...(call.body === undefined ? {} : { "content-type": type }) },
      ...(call.body === undefined ? {} : { body: Buffer.from(call.body) }),
    });
    return { status: answer.status, body: new Uint8Array(await answer.arrayBuffer()) };
  };
}

test("a command is executed once in the cluster, whichever brokers it is replayed to, in any order", async () => {
  for (const [first, second] of [
    [leader, follower],
    [follower, leader],
  ] as const) {
    const id = first === leader ? "elsewhere-1" : "elsewhere-2";
    const body = encode(asked(createSession(id, "alice")));
    const play = await caught({ method: "POST", path: "/v1/commands", body }, "authenticate");
    const answer = await play(first);
    assert.equal(answer.status, 200);
    const { position } = (await log.observe()).head;
    const again = await play(second);
    assert.deepEqual(decode(again.body), decode(answer.body), "the first answer");
    for (const broker of [leader, follower])
      assert.equal((await play(broker)).status, 401, "no broker answers it again");
    const projection = await folded(log);
    assert.equal(projection.sessionStatus(session(id)).status, "active");
    assert.equal((await log.observe()).head.position, position, "nothing more is in the log");
  }
});

test("a renew gives one lease: another broker forwards the replay to the leader, which has seen its nonce", async () => {
  const node = new FakeNode("proxy-caught");
  const renew = node.sealed("renew", node.renew());
  const play = await caught({ method: "POST", path: "/v1/leases", body: renew }, "proxy", "application/octet-stream");
  assert.equal((await play(leader)).status, 200);
  assert.equal((await play(follower)).status, 403);
  await node.goodbye(leader.broker.databroker("proxy"));
});

test("a read is answered once more by each other broker, and never twice by one", async () => {
  const play = await caught({ method: "GET", path: `/v1/events?after=${formatLink(genesis)}` }, "proxy");
  const statuses: number[] = [];
  for (const broker of [leader, follower, leader, follower]) statuses.push((await play(broker)).status);
  assert.deepEqual(statuses, [200, 200, 401, 401]);
});
