/** Signed receipts over HTTP: their statement, their signature, and the stream of their progress. */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../../src/broker/index.ts";
import { type BrokerId, type Command, formatLink, type GroupId, type Link } from "../../../src/events/index.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  checkReceipt,
  createBrokerClient,
  createCallSigner,
  type ReceiptStatement,
  receiptKeys,
} from "../../../src/replication/wire/index.ts";
import { freePort } from "../../support/free-port.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  aCommandId,
  asked,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  quiet,
  random,
  revoke,
  secret,
  sharedLog,
  user,
} from "../support.ts";

type Running = Readonly<{ broker: Broker; server: DatabrokerServer }>;

async function run(name: string, parts: Parameters<typeof brokerOn>[1] = {}): Promise<Running> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const broker = brokerOn(log, { brokerId: name as BrokerId, advertisedUrl: url, ...parts });
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet },
    listen: { host: "127.0.0.1", port },
  });
  return { broker, server };
}

const log = sharedLog();
let leader: Running;
let follower: Running;
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

const clientOf = ({ server }: Running) =>
  createBrokerClient({
    ...{ urls: [new URL(server.url)], cluster, role: "operator", name: "test", secret },
    ...{ clock: systemClock, randomBytes: random, logger: quiet },
  });

async function done(command: Command): Promise<Link> {
  const role = command.type === "createSession" ? "authenticate" : "operator";
  const result = await leader.broker.databroker(role).submit(asked(command));
  if (result.type !== "done") return assert.fail(JSON.stringify(result));
  return result.link;
}

async function statementOf(receipt: Receipt): Promise<ReceiptStatement> {
  const checked = await checkReceipt(receipt.signed ?? "", [await receiptKeys({ cluster, secrets: [secret] })]);
  return checked.ok ? checked.statement : assert.fail(checked.detail);
}

async function receiptAt(link: Link, at: Running = leader): Promise<Receipt> {
  const client = clientOf(at);
  try {
    return await client.receipt({ type: "link", link }, { wait: "all", timeoutMs: 2_000 });
  } finally {
    await client.close();
  }
}

describe("a receipt names the change by ids, and its effect", () => {
  test("a revoked session: its id, command and link, and the broker and epoch that answered", async () => {
    await done(createSession("s-1", "alice"));
    const request = asked(revoke("s-1"));
    const result = await leader.broker.databroker("operator").submit(request);
    if (result.type !== "done") return assert.fail();
    const receipt = await receiptAt(result.link);
    const statement = await statementOf(receipt);
    assert.deepEqual(
      [statement.command, statement.link, statement.broker, statement.cluster, statement.complete],
      [request.commandId, formatLink(result.link), "broker-1", cluster, true],
    );
    assert.deepEqual(
      statement.changes?.map(({ type, kind, ids }) => [type, kind, ids]),
      [["SessionRevoked", "session", ["s-1"]]],
    );
    assert.equal(Date.parse(statement.at), receipt.at);
    assert.equal(JSON.stringify(statement).includes("@"), false, "no e-mail");
  });

  test("a suspension, a revocation of all sessions and a removal from a group state exactly their effect", async () => {
    await done(createSession("s-2", "bob", { groupIds: ["eng" as GroupId] }));
    const cases: readonly (readonly [Command, string, RegExp])[] = [
      [
        { type: "revokeUserSessions", userId: user("bob"), reason: "operator" },
        "UserSessionsRevoked",
        /no node permits/,
      ],
      [
        {
          ...{ type: "changeGroupMembers", groupId: "eng" as GroupId, source: "operator" },
          ...{ added: [], removed: [user("bob")] },
        },
        "GroupMembersChanged",
        /what other rights permit continues/,
      ],
      [{ type: "suspendUser", userId: user("bob"), reason: "left" }, "UserSuspended", /no node permits/],
    ];
    for (const [command, type, promise] of cases) {
      const statement = await statementOf(await receiptAt(await done(command)));
      assert.equal(statement.changes?.[0]?.type, type);
      assert.match(statement.promise, promise);
    }
  });

  test("a change of several events is stated completely", async () => {
    const statement = await statementOf(await receiptAt(await done(createSession("s-3", "carol"))));
    assert.deepEqual(
      statement.changes?.map(({ type }) => type),
      ["UserUpserted", "SessionCreated"],
    );
  });

  test("a receipt for a lost change is signed too, so that it cannot pass for a complete one", async () => {
    const client = clientOf(leader);
    const receipt = await client.receipt({ type: "command", commandId: aCommandId() }, { wait: "none", timeoutMs: 0 });
    await client.close();
    const statement = await statementOf(receipt);
    assert.deepEqual([statement.status, statement.link, statement.nodes], ["lost", null, []]);
  });
});

test("a broker that does not lead forwards the request and returns the leader's signed answer unchanged", async () => {
  const link = await done(createSession("s-4", "dora"));
  const statement = await statementOf(await receiptAt(link, follower));
  assert.equal(statement.broker, "broker-1");
});

test("a silent node is named with the reason and the time of its fence", async () => {
  const node = new FakeNode("proxy-silent");
  node.windowMs = 8_000;
  await node.lease(leader.broker.databroker("proxy"));
  const client = clientOf(leader);
  try {
    const link = await done(createSession("s-5", "erin"));
    const receipt = await client.receipt({ type: "link", link }, { wait: "all", timeoutMs: 50 });
    const statement = await statementOf(receipt);
    const [silent] = statement.nodes;
    assert.deepEqual([statement.complete, silent?.node, silent?.status], [false, "proxy-silent", "unconfirmed"]);
    assert.notEqual(silent?.reason, "");
    const inMs = Date.parse(silent?.fencedAt ?? "") - Date.parse(statement.at);
    assert.ok(inMs > 0 && inMs <= 8_300, String(inMs));
  } finally {
    await client.close();
    await node.goodbye(leader.broker.databroker("proxy"));
  }
});

for (const [where, at] of [
  ["the leader", () => leader],
  ["another broker", () => follower],
] as const) {
  test(`${where} streams progress: one JSON line per change, the last one signed`, async () => {
    const port = leader.broker.databroker("proxy");
    const nodes = [new FakeNode("proxy-a"), new FakeNode("proxy-b")];
    for (const node of nodes) await node.lease(port);
    const link = await done(createSession(`s-by-${where.replace(" ", "-")}`, "frank"));
    const path = `/v1/receipts/link:${formatLink(link)}?timeout=20000`;
    const response = await fetch(`${at().server.url}${path}`, {
      headers: { authorization: await proofOf(path), accept: "application/jsonl" },
    });
    assert.equal(response.headers.get("content-type"), "application/jsonl");
    const standings: string[] = [];
    let last: Receipt | undefined;
    const body = Readable.fromWeb(response.body as never);
    for await (const line of createInterface({ input: body })) {
      last = JSON.parse(line) as Receipt;
      standings.push(last.nodes.map(({ status }) => status).join(" "));
      const next = nodes[standings.length - 1];
      if (next !== undefined) await next.confirm(port, link);
    }
    assert.deepEqual(standings, ["unconfirmed unconfirmed", "applied unconfirmed", "applied applied"]);
    assert.equal(last?.complete, true);
    if (last !== undefined) assert.equal((await statementOf(last)).complete, true);
    for (const node of nodes) await node.goodbye(port);
  });
}

test("a stream that cannot start gets a status: no permission, or an unknown format", async () => {
  const ask = async (path: string, role: "operator" | "proxy") =>
    fetch(`${leader.server.url}${path}`, {
      headers: { authorization: await proofOf(path, role), accept: "application/jsonl" },
    });
  assert.equal((await ask(`/v1/receipts/command:${aCommandId()}`, "proxy")).status, 403);
  assert.equal((await ask("/v1/receipts/17", "operator")).status, 400);
});

async function proofOf(path: string, role: "operator" | "proxy" = "operator"): Promise<string> {
  const signCall = createCallSigner({ cluster, secret, clock: systemClock, randomBytes: random });
  return signCall({ method: "GET", path }, { role, name: "test" }).authorization;
}
