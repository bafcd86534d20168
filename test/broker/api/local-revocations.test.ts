/**
 * Local revocations at real doors: two regional brokers with their files and HTTP servers, whose home region is out of
 * reach, and a home broker that records what they accepted.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { SimCopyStore } from "../../../chaos/sim/sim-copy-store.ts";
import {
  openRevocationsFile,
  RegionCopy,
  startDatabrokerServer,
  startRegionalBroker,
} from "../../../src/broker/index.ts";
import {
  type BootId,
  type CommandRequest,
  commandIdOfEnvelope,
  decodeEvents,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  type Position,
  Projection,
  parseBrokerId,
  sessionStream,
  type UnixMs,
  userStream,
} from "../../../src/events/index.ts";
import type { ClusterStatus, Databroker, LocalResult } from "../../../src/replication/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import type { ReplicaProcess } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import {
  answererOf,
  BrokerUnavailableError,
  checkLocalReceipt,
  createBrokerClient,
  createBrokerOpener,
  encodeRevocation,
  type LocalRevocation,
  openRevocation,
  type Role,
  receiptKeys,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { created, history, sessionId, userId } from "../../replication/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { waitFor } from "../../support/wait-for.ts";
import { aCommandId, brokerOn, cluster, createSession, quiet, random, secret, session, user } from "../support.ts";

const windowMs = 65_000;
const away = async (): Promise<never> => {
  throw new BrokerUnavailableError("no broker answers");
};

/** A regional broker on a port, with session 1 of user 1 in its projection and a lease. */
async function startRegional(
  t: TestContext,
  options: Readonly<{ name: string; port: number; urls: readonly URL[]; home?: Partial<Databroker> }>,
) {
  const { name, port, urls, home = {} } = options;
  const folder = new TemporaryFolder("local-revocations");
  const path = join(folder.path, "revocations");
  const open = () => openRevocationsFile({ path, initial: { store: "a".repeat(32), windowMs: 0, drift: 0.01 } });
  const log = history(1).add(created(1, 1));
  const projection = new Projection();
  for (const recorded of log.recorded(0, 2)) projection.apply(recorded);
  const copy = new RegionCopy(new SimCopyStore());
  const broker = startRegionalBroker({
    ...{
      cluster,
      brokerId: parseBrokerId(name),
      region: "west",
      secret,
      previousSecret: null,
      version: "1",
      renewMs: 1_000,
    },
    ...{ clock: systemClock, random, fanout: null, logger: quiet, copy },
    mark: { leftBehind: false, set() {}, clear() {} },
    home: () => ({ submit: away, lease: away, read: away, ...home }) as Partial<Databroker> as Databroker,
    revocations: {
      ...{ region: "west", file: open(), urls, ownUrl: urls.find((url) => url.port === `${port}`) ?? null },
      calls: { exchange: (address, question) => clientOf(t, address, "broker").exchangeRevocations(question) },
    },
    startReplica: () => {
      const lease = () => ({
        ...{ epoch: 1 as Epoch, incarnation: "i" as Incarnation, start: 1 as Position },
        ...{ freshSinceMs: systemClock.monotonic(), deltaMs: 5_000, drift: 0.01, windowMs, solePath: [name] },
      });
      const rest = { onChange: () => () => {}, goodbye: async () => true, stop: async () => {}, readNow() {} };
      return { applied: log.head, projection, lease, ...rest } as Partial<ReplicaProcess> as ReplicaProcess;
    },
  });
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet },
    listen: { host: "127.0.0.1", port },
  });
  t.after(async () => {
    await broker.stop();
    await server.close();
    folder.remove();
  });
  return { broker, stored: () => open().stored, client: (role: Role) => clientOf(t, server.url, role) };
}

function clientOf(t: TestContext, address: string, role: Role, audience: "home" | "any" = "any") {
  const client = createBrokerClient({
    ...{ urls: [new URL(address)], cluster, role, name: "test", secret, clock: systemClock, randomBytes: random },
    ...{ logger: quiet, audience },
  });
  t.after(() => client.close());
  return client;
}

async function aRegion(t: TestContext) {
  const [first = 0, second = 0] = await freePorts(2);
  const urls = [first, second].map((port) => new URL(`http://127.0.0.1:${port}`));
  const b1 = await startRegional(t, { name: "b1", port: first, urls });
  const b2 = await startRegional(t, { name: "b2", port: second, urls });
  return { b1, b2 };
}

const aRequest = (): CommandRequest => ({
  ...{ commandId: aCommandId(), actor: "operator:alice#1" },
  command: { type: "revokeSession", sessionId: sessionId(1), reason: "operator" },
});

async function accepted(at: Pick<Databroker, "revokeLocally">, request: CommandRequest): Promise<LocalResult> {
  return waitFor("the region to accept it", async () => {
    const result = await at.revokeLocally?.(request);
    return result?.type === "local" ? result : undefined;
  });
}

test("an operator's revocation is on the disks of both brokers before the answer, and nodes read it from either", async (t) => {
  const { b1, b2 } = await aRegion(t);
  const request = aRequest();
  const result = await accepted(b1.client("operator"), request);
  assert.ok(result.type === "local" && result.seq === 1 && result.ids === 1);
  for (const broker of [b1, b2]) assert.equal(broker.stored().entries.length, 1);
  const open = createBrokerOpener({ cluster, secrets: [secret] });
  for (const broker of [b1, b2]) {
    const page = await broker.client("proxy").denials(null, { waitMs: 0 });
    assert.ok(page.type === "page");
    const [envelope = new Uint8Array()] = page.envelopes;
    const opened = openRevocation(envelope, open);
    assert.ok(typeof opened !== "string" && opened.revocation.commandId === request.commandId);
  }
  const again = await accepted(b2.client("operator"), request);
  assert.ok(
    again.type === "local" && again.seq === 1,
    "the other broker answers the same command id with the same one",
  );
});

test("home brokers that have no leader, and brokers of other regions, do not keep the region from revoking", async (t) => {
  const [port = 0, otherPort = 0] = await freePorts(2);
  const [own, other] = [new URL(`http://127.0.0.1:${port}`), new URL(`http://127.0.0.1:${otherPort}`)];
  await startRegional(t, { name: "b9", port: otherPort, urls: [other] });
  const elsewhere = clientOf(t, other.href, "broker", "home");
  await assert.rejects(
    elsewhere.status(),
    (error) => error instanceof BrokerUnavailableError && error.reason === "not-home",
  );
  let asked = 0;
  const status = async (): Promise<ClusterStatus> => {
    asked += 1;
    const broker = { brokerId: parseBrokerId("home"), leading: false, applied: genesis, store: "memory" } as const;
    return { cluster, level: 1, leader: null, broker, brokers: [], nodes: [] };
  };
  const { client } = await startRegional(t, { name: "b1", port, urls: [own], home: { status } });
  await waitFor("the home broker to be asked", () => asked > 0);
  const result = await client("operator").revokeLocally(aRequest());
  assert.equal(result.type, "local", JSON.stringify(result));
});

test("a node that has gone no longer holds a place at its broker", async (t) => {
  const { b1 } = await aRegion(t);
  const request = aRequest();
  await accepted(b1.client("operator"), request);
  const { denials } = b1.broker.databroker("proxy");
  assert.ok(denials);
  const page = await denials(null, { waitMs: 0 });
  assert.ok(page.type === "page");
  const gone = new AbortController();
  const waits = denials({ store: page.store, seq: page.upTo }, { waitMs: 30_000, signal: gone.signal });
  gone.abort();
  await assert.rejects(waits, BrokerUnavailableError);
});

test("the region's receipt is signed and verifies with the keys of the cluster", async (t) => {
  const { b1 } = await aRegion(t);
  const request = aRequest();
  await accepted(b1.client("operator"), request);
  const outcome = await b1.client("operator").localReceipt(request.commandId, { timeoutMs: 5_000 });
  assert.ok(outcome.type === "receipt");
  const keys = await receiptKeys({ cluster, secrets: [secret] });
  const checked = await checkLocalReceipt(outcome.receipt.signed, [keys]);
  assert.ok(checked.ok && checked.local.region === "west" && checked.local.command === request.commandId);
  const unknown = await b1.client("operator").localReceipt(aCommandId(), { timeoutMs: 0 });
  assert.equal(unknown.type, "unknown");
});

test("a person who signs out ends their sessions in a region alone, too", async (t) => {
  const { b1 } = await aRegion(t);
  const request = { ...aRequest(), actor: `user:${userId(1)}` };
  const command = { type: "revokeUserSessions", userId: userId(1), reason: "sign-out" } as const;
  const result = await b1.client("authenticate").revokeLocally({ ...request, command });
  assert.equal(result.type, "local");
  for (const [role, reason, actor] of [
    ["authenticate", "operator", request.actor],
    ["authenticate", "sign-out", "operator:eve"],
    ["proxy", "sign-out", request.actor],
  ] as const) {
    const refused = await b1.client(role).revokeLocally({ ...aRequest(), actor, command: { ...command, reason } });
    assert.ok(refused.type === "refused" && refused.code === "forbidden", `${role} ${reason} ${actor}`);
  }
});

test("only an operator may revoke in a region alone, and only what tightens", async (t) => {
  const { b1 } = await aRegion(t);
  for (const role of ["proxy", "authorize", "authenticate", "broker"] as const) {
    const result = await b1.client(role).revokeLocally(aRequest());
    assert.ok(result.type === "refused" && result.code === "forbidden", role);
  }
  const command = { type: "restoreUser", userId: userId(1) } as const;
  const result = await b1.client("operator").revokeLocally({ ...aRequest(), command });
  assert.ok(result.type === "unavailable" && result.code === "local-off");
  assert.equal(b1.stored().entries.length, 0);
});

test("only a broker may give revocations to a broker, and only those that a broker of the cluster signed", async (t) => {
  const { b1 } = await aRegion(t);
  const question = { broker: "b9", addresses: [], held: [], sealed: [new Uint8Array(20)] };
  await assert.rejects(b1.client("proxy").exchangeRevocations(question));
  await assert.rejects(b1.client("broker").exchangeRevocations(question));
  assert.equal(b1.stored().entries.length, 0);
});

test("a broker of the home region accepts nothing for a region and has no store", async (t) => {
  const broker = brokerOn(createMemoryLog());
  const server = await startDatabrokerServer({
    ...{ broker, cluster, secret, clock: systemClock, logger: quiet },
    listen: { host: "127.0.0.1", port: 0 },
  });
  t.after(async () => {
    await server.close();
    await broker.stop();
  });
  const result = await clientOf(t, server.url, "operator").revokeLocally(aRequest());
  assert.ok(result.type === "unavailable" && result.code === "local-off");
  assert.deepEqual(await clientOf(t, server.url, "proxy").denials(null, { waitMs: 0 }), { type: "none" });
});

/** An envelope as a regional broker makes it. */
function envelopeOf(parts: Partial<LocalRevocation>, by = secret): Uint8Array {
  const boot = "b".repeat(32) as BootId;
  const revocation: LocalRevocation = {
    ...{ commandId: aCommandId(), region: "west", broker: "b1", boot, seq: 1, basis: genesis },
    ...{ actor: "operator:alice#1", acceptedAt: Date.now() as UnixMs, command: "suspendUser", userId: user("u") },
    ...{ sessionIds: [], reason: "stolen laptop" },
    ...parts,
  };
  const signer = answererOf({ cluster, name: "b1", boot, secret: by, seed: new Uint8Array(32).fill(5) });
  return sealEnvelope(signer, "local-revocation", encodeRevocation(revocation));
}

test("the leader records a suspension once under its actor, over a restore made meanwhile, and reports that", async (t) => {
  const log = createMemoryLog();
  const lines: string[] = [];
  const logger = { ...quiet, error: (_fields: object, message: string) => void lines.push(message) };
  const broker = brokerOn(log, { logger });
  t.after(() => broker.stop());
  const operator = broker.databroker("operator");
  const regional = broker.databroker("broker");
  const change = async (at: Databroker, request: Omit<CommandRequest, "commandId">, commandId = aCommandId()) =>
    waitFor("a definite answer", async () => {
      const result = await at.submit({ commandId, ...request });
      return result.type === "unavailable" ? undefined : result;
    });
  const by = { actor: "operator:home#1" };
  await change(broker.databroker("authenticate"), { actor: "system", command: createSession("s", "u") });
  await change(operator, { ...by, command: { type: "suspendUser", userId: user("u"), reason: "home" } });
  await change(operator, { ...by, command: { type: "restoreUser", userId: user("u") } });

  const commandId = aCommandId();
  const envelope = envelopeOf({ commandId });
  const merge = { actor: "operator:alice#1", command: { type: "mergeRevocation", envelope } } as const;
  const links: Link[] = [];
  for (let n = 0; n < 3; n++) {
    const result = await change(regional, merge, commandId);
    assert.ok(result.type === "done", JSON.stringify(result));
    links.push(result.link);
  }
  assert.deepEqual(links[2], links[0]);
  const { found } = await operator.history({
    streams: [userStream(user("u"))],
    upTo: links[0]?.position ?? (0 as Position),
    depth: 100,
  });
  const events = found.flatMap(({ previous, bytes }) => decodeEvents([bytes], previous));
  const own = events.filter(({ cause }) => cause === commandId);
  assert.deepEqual(
    own.map(({ type, actor }) => [type, actor]),
    [["UserSuspended", "operator:alice#1"]],
  );
  await waitFor("the leader to report it", () => broker.metrics()["restoresOverridden"] === 1);
  assert.equal(lines.filter((line) => /restored here while/.test(line)).length, 1);
  assert.equal(broker.metrics()["revocationsMerged"], 1);

  const forged = { ...merge, command: { ...merge.command, envelope: envelopeOf({ commandId }, new Uint8Array(32)) } };
  const refused = await change(regional, forged, commandId);
  assert.ok(refused.type === "refused" && refused.code === "forbidden");
  const stolen = await change(regional, merge, aCommandId());
  assert.ok(stolen.type === "refused" && stolen.code === "forbidden", "it has another command id");
});

test("a suspension that the log recorded and lifted, and whose command id it forgot, is found there and not repeated", async (t) => {
  const broker = brokerOn(createMemoryLog());
  t.after(() => broker.stop());
  const submit = (role: Role, request: Omit<CommandRequest, "commandId">, commandId = aCommandId()) =>
    waitFor("a definite answer", async () => {
      const result = await broker.databroker(role).submit({ commandId, ...request });
      return result.type === "unavailable" ? undefined : result;
    });
  await submit("authenticate", { actor: "system", command: createSession("s", "u") });
  const [commandId, acceptedAt] = [aCommandId(), (Date.now() - 48 * 3_600_000) as UnixMs];
  const old = envelopeOf({ commandId, acceptedAt });
  const merge = (envelope: Uint8Array, id = commandId) =>
    submit("broker", { actor: "operator:alice#1", command: { type: "mergeRevocation", envelope } }, id);
  const first = await merge(old);
  assert.ok(first.type === "done" && first.changed, "the log shows that it was never recorded");
  await submit("operator", { actor: "operator:home#1", command: { type: "restoreUser", userId: user("u") } });
  const unknown = envelopeOf({ acceptedAt });
  const opened = openRevocation(unknown, createBrokerOpener({ cluster, secrets: [secret] }));
  assert.ok(typeof opened !== "string");
  const refused = await merge(unknown, opened.revocation.commandId);
  assert.ok(refused.type === "refused" && refused.code === "invalid", "this one is not there: an operator decides");
  const again = await merge(old, commandIdOfEnvelope(old));
  assert.deepEqual([again.type, again.type === "done" && again.link], ["done", first.link]);
});

test("a suspension whose command id means another change is refused as a conflict", async (t) => {
  const broker = brokerOn(createMemoryLog());
  t.after(() => broker.stop());
  const commandId = aCommandId();
  const submit = (at: Databroker, request: CommandRequest) =>
    waitFor("a definite answer", async () => {
      const result = await at.submit(request);
      return result.type === "unavailable" ? undefined : result;
    });
  await submit(broker.databroker("authenticate"), { commandId, actor: "system", command: createSession("s", "u") });
  const command = { type: "mergeRevocation", envelope: envelopeOf({ commandId }) } as const;
  const result = await submit(broker.databroker("broker"), { commandId, actor: "operator:alice#1", command });
  assert.ok(result.type === "refused" && result.code === "conflict", JSON.stringify(result));
  const sessions = envelopeOf({ command: "revokeSession", userId: null, sessionIds: [session("s")], reason: "" });
  const { revocation } = { revocation: openRevocation(sessions, createBrokerOpener({ cluster, secrets: [secret] })) };
  assert.ok(typeof revocation !== "string");
  const done = await submit(broker.databroker("broker"), {
    ...{ commandId: revocation.revocation.commandId, actor: "operator:alice#1" },
    command: { type: "mergeRevocation", envelope: sessions },
  });
  assert.ok(done.type === "done" && done.changed);
  const { found } = await broker.databroker("operator").history({
    ...{ streams: [sessionStream(session("s"))], upTo: done.link.position, depth: 100 },
  });
  assert.ok(found.length > 0);
});
