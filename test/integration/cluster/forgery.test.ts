/**
 * Forgery: an attacker who reads all of NATS and sits between a node and its broker, but holds no key of the cluster,
 * changes nothing and is counted.
 *
 * A link proves continuity, not origin.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import {
  type CardeaEvent,
  type Epoch,
  type Link,
  parseGroupId,
  readsLevel,
  type UserId,
} from "../../../src/events/index.ts";
import { type DeliveryRefusal, deliveryRefusals } from "../../../src/replication/fanout/delivery-guard.ts";
import {
  answererOf,
  encodeMessage,
  type Grant,
  parseGrant,
  parseRenew,
  type Renew,
  type Role,
  type Signer,
  sealAnswer,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { callBroker, type ServiceToken, serviceToken } from "./broker-api.ts";
import { hammer, openSocket } from "./client.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";
import { waitForLogDigest } from "./digests.ts";
import {
  batchAfter,
  enrolSigner,
  flipMiddleBit,
  joinEnvelope,
  listenOnNats,
  randomIncarnation,
  sealBatch,
  splitEnvelope,
  startInterceptor,
  type Tamper,
} from "./eavesdropper.ts";

let cluster: Cluster;

before(
  async () => {
    cluster = await startCluster({ timing: "short", regions: ["north", "south"], relayed: "proxy-2" });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const head = async (): Promise<Link> => {
  const { leader } = await cluster.status();
  assert.ok(leader !== null);
  return leader.head;
};

async function appliedIs(proxy: ClusterProcess, position: number): Promise<void> {
  const applied = () => proxy.metric("cardea_replica_applied");
  await waitFor(`${proxy.name} to have applied all up to ${position}`, async () => (await applied()) >= position);
  assert.equal(await applied(), position, proxy.name);
}

const addedToEng = (userId: UserId): CardeaEvent => ({
  ...{ type: "GroupMembersChanged", groupId: parseGroupId("eng"), source: "operator", added: [userId], removed: [] },
});

/** Messages on NATS refused so far for any of these reasons, by each proxy and each broker. */
const refusedOnNats = (reasons: readonly DeliveryRefusal[]): Promise<number[]> =>
  Promise.all(
    [...cluster.proxies, ...cluster.brokers].map(async (process) => {
      const counts = await Promise.all(reasons.map((reason) => process.metric("cardea_nats_refused", { reason })));
      return counts.reduce((sum, count) => sum + count, 0);
    }),
  );

const grew = (before: readonly number[], now: readonly number[], by: number): boolean =>
  now.every((count, i) => count >= (before[i] ?? 0) + by);

test("every node and broker refuses and counts a forged batch that links correctly, and applies none of it", async () => {
  const { config, setup } = cluster;
  const [outsider, insider] = [await cluster.session("mallory"), await cluster.session("alice", ["eng"])];
  const sockets = await Promise.all(
    cluster.proxies.map((proxy) =>
      openSocket({ port: proxy.ports.address, host: cluster.host("eng"), cookie: insider.cookie }),
    ),
  );
  const nats = await listenOnNats(cluster.nats.urls[0] ?? "", setup.clusterName);
  try {
    const { link } = await cluster.operator.revoke(await cluster.session("bob"));
    const { envelope, batch } = await nats.batchEndingAt(link);
    assert.deepEqual(await head(), batch.last, "the batch is the newest");
    const genuine = splitEnvelope(envelope);
    const { epoch, incarnation } = batch;

    const grantsAccess = batchAfter(batch.last, addedToEng(outsider.userId), { epoch, incarnation });
    const revokesAccess = batchAfter(
      batch.last,
      { type: "SessionRevoked", sessionId: insider.id as never, userId: insider.userId, reason: "operator" },
      { epoch, incarnation },
    );
    const next = { epoch: (epoch + 1) as Epoch, incarnation: randomIncarnation() };
    const opensEpoch = batchAfter(
      batch.last,
      { type: "EpochOpened", ...next, brokerId: "broker-3" as never, publicKey: "" },
      next,
    );
    const leaderIdentity = {
      cluster: setup.clusterName,
      name: cluster.brokers[0]?.name ?? "",
      epoch,
      incarnation,
    } as const;
    const ownSecret = randomBytes(32);
    const outsiders: readonly Signer[] = [
      enrolSigner({ ...leaderIdentity, secret: ownSecret, role: "broker" }),
      // A stolen enrolment key of a proxy enrols proxies, and no broker.
      enrolSigner({ ...leaderIdentity, secret: config.sharedSecret, role: "proxy" }),
      enrolSigner({ ...leaderIdentity, secret: config.sharedSecret, role: "broker", rootOf: "proxy" }),
      enrolSigner({ ...leaderIdentity, secret: config.sharedSecret, role: "broker", cluster: "another" }),
    ];
    const forged: Uint8Array[] = [grantsAccess, revokesAccess].flatMap((each) => [
      ...outsiders.map((speaker) => sealBatch(speaker, each)),
      // The leader's certificate, with the signature of another key, or its signature of another message.
      joinEnvelope({ ...genuine, payload: encodeMessage(each) }),
      joinEnvelope({ ...splitEnvelope(sealBatch(outsiders[0] as Signer, each)), ...certificateOf(genuine) }),
    ]);
    forged.push(sealBatch(enrolSigner({ ...leaderIdentity, ...next, secret: ownSecret, role: "broker" }), opensEpoch));
    forged.push(flipMiddleBit(envelope), randomBytes(200), new Uint8Array());

    const before = await refusedOnNats(deliveryRefusals);
    await nats.send(...forged);
    await waitFor("every node and broker to count all forged messages", async () =>
      grew(before, await refusedOnNats(deliveryRefusals), forged.length),
    );

    assert.deepEqual(await head(), batch.last, "the log does not hold the forged event");
    for (const proxy of cluster.proxies) {
      await appliedIs(proxy, batch.last.position);
      assert.equal(
        (await cluster.get(proxy, "eng", outsider)).status,
        403,
        `${proxy.name} refuses the user in the forged event`,
      );
      assert.equal(
        (await cluster.get(proxy, "eng", insider)).permitted,
        true,
        `${proxy.name} still permits the session in the forged revocation`,
      );
    }
    assert.ok(sockets.every((socket) => socket.isOpen()));
    assert.ok((await cluster.status()).nodes.every(({ digestMismatch }) => !digestMismatch));
  } finally {
    for (const socket of sockets) socket.close();
    await nats.close();
  }
});

/** The parts of the envelope that belong to its certificate. */
function certificateOf({ certificate, rootSignature }: ReturnType<typeof splitEnvelope>) {
  return { certificate, rootSignature };
}

test("genuine batches that are replayed, in any order, change nothing", async () => {
  const nats = await listenOnNats(cluster.nats.urls[0] ?? "", cluster.setup.clusterName);
  try {
    const [revoked, valid] = [await cluster.session("alice"), await cluster.session("alice", ["eng"])];
    const { link } = await cluster.operator.revoke(revoked, { wait: "all" });
    await nats.batchEndingAt(link);
    const recorded = [...nats.received];
    assert.ok(recorded.length >= 3);
    const before = await refusedOnNats(["repeated"]);
    await nats.send(...recorded, ...recorded.toReversed(), ...recorded);
    await waitFor("all replayed batches to be dropped", async () =>
      grew(before, await refusedOnNats(["repeated"]), recorded.length * 3),
    );
    assert.deepEqual(await head(), link);
    for (const proxy of cluster.proxies) {
      await appliedIs(proxy, link.position);
      assert.equal((await cluster.get(proxy, "app", revoked)).permitted, false);
      assert.equal((await cluster.get(proxy, "eng", valid)).permitted, true);
      await proxy.ready();
    }
  } finally {
    await nats.close();
  }
});

test("forged and repeated grants give no lease: the node counts them, denies, and serves again after a genuine one", async () => {
  const node = cluster.proxy(2);
  const interceptors = await Promise.all(cluster.brokers.map((broker) => startInterceptor(broker.brokerUrl)));
  const routeThrough = (ports: readonly number[]): void => {
    for (const [i, relay] of cluster.relays.brokers.entries()) {
      relay.setTargets([ports[i] ?? 0]);
      relay.cut(); // drops connections that bypass the interceptor
      relay.restore();
    }
  };
  const session = await cluster.session("alice");
  const hammering = hammer(
    ["app", "strict"].map((route) => ({
      name: route,
      target: { port: node.ports.address, host: cluster.host(route), cookie: session.cookie },
    })),
  );
  try {
    routeThrough(interceptors.map(({ port }) => port));
    const genuineGrants = () => interceptors.flatMap(({ replies }) => replies);
    await waitFor("genuine grants to pass through", () => genuineGrants().length >= 3);
    const [old] = genuineGrants();
    assert.ok(old !== undefined);
    const outsideSigner = enrolSigner({
      ...{ cluster: cluster.setup.clusterName, secret: randomBytes(32), role: "broker", name: "broker-1" },
      ...grantIn(old),
    });
    const answerer = answererOf({
      ...{ cluster: cluster.setup.clusterName, name: "broker-1", boot: randomUUID() as never },
      ...{ secret: randomBytes(32), seed: randomBytes(32) },
    });
    const forge: Tamper = (genuine, { body, authorization }) => {
      const grant: Grant = { ...grantIn(genuine), nonce: renewIn(body).nonce };
      const forms = [
        sealEnvelope(outsideSigner, "grant", encodeMessage(grant)),
        joinEnvelope({
          ...splitEnvelope(genuine),
          payload: encodeMessage({ ...grant, windowMs: grant.windowMs * 10 }),
        }),
        joinEnvelope({ ...splitEnvelope(genuine), kind: "renew" }),
        flipMiddleBit(genuine),
      ];
      const bytes = forms[grant.nonce % forms.length] ?? genuine;
      // Half of them under the broker's seal, which covers other bytes; half under an outsider's seal of these bytes.
      if (grant.nonce % 2 === 0) return { bytes };
      const callId = String(decodeJwt(authorization.slice("Bearer ".length)).jti);
      return { bytes, seal: sealAnswer(answerer, { callId, status: 200, body: bytes }) };
    };
    const refusedCount = (): Promise<number[]> =>
      Promise.all(
        ["altered", "not-authentic"].map((reason) => node.metric("cardea_broker_answers_refused", { reason })),
      );

    for (const [what, tamper] of [
      ["forged", forge],
      ["repeated", () => ({ bytes: old })],
    ] as const) {
      const before = await refusedCount();
      for (const interceptor of interceptors) interceptor.tamperWith(tamper);
      await waitFor(`the node to be without a lease (${what})`, async () => (await node.notReadyReasons()).length > 0);
      await waitFor("both routes to be denied", () => {
        const last = hammering.shots.slice(-12);
        return last.length === 12 && last.every(({ status }) => status === 503);
      });
      await waitFor("the refused grants to be counted", async () => {
        const after = await refusedCount();
        return grew(before, after, what === "forged" ? 2 : 0) && (after[0] ?? 0) > (before[0] ?? 0);
      });
      for (const interceptor of interceptors) interceptor.tamperWith(null);
      await node.ready();
      await waitFor("both routes to be served again", () => hammering.shots.slice(-12).every((shot) => shot.permitted));
    }
  } finally {
    await hammering.stop();
    routeThrough(cluster.brokers.map(({ ports }) => ports.broker));
    await Promise.all(interceptors.map((interceptor) => interceptor.close()));
  }
  await node.ready();
});

function grantIn(envelope: Uint8Array): Grant {
  return parseGrant(splitEnvelope(envelope).payload);
}
function renewIn(envelope: Uint8Array): Renew {
  return parseRenew(splitEnvelope(envelope).payload);
}

test("forged and repeated renews, confirmations and goodbyes are refused and counted, and complete no receipt", async () => {
  const { config, setup } = cluster;
  const [paused, broker] = [cluster.proxy(1), await cluster.leader()];
  const token = serviceToken(cluster, { role: "proxy" });
  const sendLease = (body: Uint8Array, as = token) => callBroker(broker, { path: "/v1/leases", token: as, body });
  const refusedCount = () => broker.metric("cardea_broker_envelopes_refused");
  const reported = (await cluster.status()).nodes.find(({ node }) => node === paused.name);
  assert.ok(reported !== undefined);
  const session = await cluster.session("alice");
  paused.pause();
  try {
    const { link } = await cluster.operator.revoke(session);
    const victim = { node: reported.node, boot: reported.boot };
    const of = { cluster: setup.clusterName, role: "proxy", name: victim.node, boot: victim.boot } as const;
    const outsiders: readonly Signer[] = [
      enrolSigner({ ...of, secret: randomBytes(32) }),
      enrolSigner({ ...of, secret: config.sharedSecret, rootOf: "authorize" }),
      enrolSigner({ ...of, secret: config.sharedSecret, cluster: "another" }),
      // Another node of this cluster, with a genuine key: it may speak only for itself.
      enrolSigner({ ...of, secret: config.sharedSecret, name: "proxy-9" }),
    ];
    const before = await refusedCount();
    const messages = outsiders.flatMap((speaker) => [
      sealEnvelope(speaker, "confirm", encodeMessage({ ...victim, nonce: 1_000_000, enforced: link })),
      sealEnvelope(speaker, "goodbye", encodeMessage({ ...victim, nonce: 1_000_001 })),
    ]);
    for (const message of messages) assert.equal((await sendLease(message)).status, 403);
    assert.ok((await refusedCount()) >= before + messages.length);
    const receipt = await cluster.operator.receipt(link, { wait: "none" });
    // Within a few seconds the paused node is fenced, whatever is sent in its name.
    const status = receipt.nodes.find(({ node }) => node === paused.name)?.status;
    assert.ok(status === "unconfirmed" || status === "fenced", `a forged message changed its status to ${status}`);
    if (status === "unconfirmed") assert.equal(receipt.complete, false);
  } finally {
    paused.resume();
  }
  await paused.ready();

  // Replays of a node's own messages: each renew is answered once.
  const name = "proxy-8";
  const ownSigner = enrolSigner({ cluster: setup.clusterName, secret: config.sharedSecret, role: "proxy", name });
  const at = await head();
  const renew: Renew = {
    ...{
      node: name as never,
      boot: ownSigner.certificate.boot,
      nonce: 1,
      region: "north",
      role: "proxy",
      version: "test",
    },
    ...{
      windowMs: 1_000,
      applied: at,
      enforced: at,
      digest: "",
      configHash: "",
      replaces: null,
      monotonicMs: 1,
      reads: readsLevel,
    },
  };
  // A leader too busy to answer in time has still received the renew, so each attempt takes a new nonce.
  let nonce = 0;
  const bytes = await waitFor("a renew to be granted", async () => {
    nonce += 1;
    const sent = sealEnvelope(ownSigner, "renew", encodeMessage({ ...renew, nonce, version: "another build" }));
    return (await sendLease(sent)).status === 200 ? sent : undefined;
  });
  const replay = await sendLease(bytes);
  assert.equal(replay.status, 403);
  assert.match(replay.body, /repeated/);
  const confirm = { node: renew.node, boot: renew.boot, nonce: nonce + 1, enforced: at };
  const confirmed = sealEnvelope(ownSigner, "confirm", encodeMessage(confirm));
  assert.equal((await sendLease(confirmed)).status, 204);
  assert.equal((await sendLease(confirmed)).status, 403);
  const invented = { ...at, hash: at.hash.replace(/^./, (c) => (c === "0" ? "1" : "0")) } as Link;
  const invalidConfirm = sealEnvelope(
    ownSigner,
    "confirm",
    encodeMessage({ ...confirm, nonce: nonce + 2, enforced: invented }),
  );
  assert.equal(
    (await sendLease(invalidConfirm)).status,
    403,
    "a confirmation of a link that is not on the chain is refused",
  );
  const goodbye = sealEnvelope(
    ownSigner,
    "goodbye",
    encodeMessage({ node: renew.node, boot: renew.boot, nonce: nonce + 3 }),
  );
  assert.equal((await sendLease(goodbye)).status, 204);
  const lateRenew = await sendLease(sealEnvelope(ownSigner, "renew", encodeMessage({ ...renew, nonce: nonce + 4 })));
  assert.equal(lateRenew.status, 403, "a boot that has sent its goodbye gets no lease again");
});

test("the broker API answers 401 to a missing, bad or expired token, and 403 to a role that may not make the call", async () => {
  const session = await cluster.session("alice");
  const revoke = {
    ...{ commandId: randomUUID(), actor: "operator:test" },
    command: { type: "revokeSession", sessionId: session.id, reason: "operator" },
  };
  const create = {
    commandId: randomUUID(),
    actor: "operator:test",
    command: { type: "suspendUser", userId: session.userId, reason: "x" },
  };
  const paths = [
    "/v1/status",
    `/v1/events?after=${encodeURIComponent(`${session.link.epoch}.${session.link.position}.${session.link.hash}`)}`,
    `/v1/receipts/command:${revoke.commandId}?wait=none`,
    `/v1/sessions/${session.id}/tokens`,
  ];
  const bad: readonly (ServiceToken | string | undefined)[] = [
    undefined,
    "nonsense",
    serviceToken(cluster, { role: "operator", issuedAgoS: 120 }),
    serviceToken(cluster, { role: "operator", lifeS: 86_400 }),
    serviceToken(cluster, { role: "operator", secret: randomBytes(32) }),
    serviceToken(cluster, { role: "operator", audience: "cardea:another" }),
    serviceToken(cluster, { role: "operator", keyOf: "proxy" }),
  ];
  for (const broker of cluster.brokers) {
    for (const token of bad) {
      const credentials = token === undefined ? {} : { token };
      for (const path of paths) assert.equal((await callBroker(broker, { path, ...credentials })).status, 401, path);
      for (const path of ["/v1/commands", "/v1/leases"]) {
        const body = path === "/v1/leases" ? new Uint8Array(10) : revoke;
        assert.equal((await callBroker(broker, { path, body, ...credentials })).status, 401, path);
      }
    }
    const statusFor = async (role: Role, call: Readonly<{ path: string; body?: object }>): Promise<number> =>
      (await callBroker(broker, { ...call, token: serviceToken(cluster, { role }) })).status;
    for (const role of ["proxy", "authorize"] as const) {
      assert.equal(await statusFor(role, { path: "/v1/commands", body: revoke }), 403, `${role} may not revoke`);
      assert.equal(await statusFor(role, { path: `/v1/receipts/command:${revoke.commandId}` }), 403);
    }
    assert.equal(
      await statusFor("authenticate", { path: "/v1/commands", body: create }),
      403,
      "authenticate may not suspend a user",
    );
    for (const role of ["authorize", "operator"] as const)
      assert.equal(
        await statusFor(role, { path: `/v1/sessions/${session.id}/tokens` }),
        403,
        `${role} may not read tokens`,
      );
    assert.equal(
      await statusFor("proxy", { path: `/v1/sessions/${session.id}/tokens` }),
      200,
      "a proxy may, for routes that forward tokens",
    );
    assert.equal(await statusFor("operator", { path: "/v1/status" }), 200);
  }
  for (const proxy of cluster.proxies) {
    assert.equal(
      (await cluster.get(proxy, "app", session)).permitted,
      true,
      "none of the refused calls was carried out",
    );
  }
  const front = await cluster.get(cluster.proxy(1), "authenticate", null, "/v1/status");
  assert.equal(front.status, 404, "the databroker API is not reachable through the gateway");
  for (const proxy of cluster.proxies)
    assert.equal((await cluster.get(proxy, "app", null, "/v1/status")).permitted, false);
});

test("a replayed call to a broker is refused and counted, be it a command or a read", async () => {
  const session = await cluster.session("carol");
  const body = {
    ...{ commandId: randomUUID(), actor: "operator:test" },
    command: { type: "revokeSession", sessionId: session.id, reason: "operator" },
  };
  const bytes = Buffer.from(JSON.stringify(body));
  for (const broker of cluster.brokers) {
    const replayed = () => broker.metric("cardea_broker_calls_replayed");
    const before = await replayed();
    for (const call of [{ path: "/v1/commands", body }, { path: "/v1/status" }]) {
      const method = "body" in call ? "POST" : "GET";
      const make = serviceToken(cluster, { role: "operator" });
      const token = await make({ method, path: call.path, ...("body" in call ? { body: bytes } : {}) });
      assert.equal((await callBroker(broker, { ...call, token })).status, 200, call.path);
      const replay = await callBroker(broker, { ...call, token });
      assert.equal(replay.status, 401);
      assert.deepEqual(JSON.parse(replay.body), { error: "unauthenticated", reason: "replayed" });
    }
    assert.equal(await replayed(), before + 2);
  }
  const receipt = await cluster.operator.receipt(body.commandId);
  assert.equal(receipt.status, "complete", "the first call was carried out");
});

test("as a control, a batch forged with a key of the cluster is accepted until the log contradicts it", async () => {
  const { config, setup } = cluster;
  const outsider = await cluster.session("mallory");
  const nats = await listenOnNats(cluster.nats.urls[0] ?? "", setup.clusterName);
  try {
    const { link } = await cluster.operator.revoke(await cluster.session("bob"), { wait: "all" });
    const { batch } = await nats.batchEndingAt(link);
    const { epoch, incarnation } = batch;
    const secret = config.sharedSecret; // this secret can enrol a broker
    const broker = enrolSigner({ cluster: setup.clusterName, secret, role: "broker", name: "b", epoch, incarnation });
    await nats.send(sealBatch(broker, batchAfter(batch.last, addedToEng(outsider.userId), { epoch, incarnation })));
    // All nodes at once: a node that accepts the forgery reaches no granted head any more, and soon has no lease.
    await Promise.all(
      cluster.proxies.map((proxy) => {
        const isPermitted = async () => (await cluster.getOnce(proxy, "eng", outsider)).permitted;
        return waitFor(`${proxy.name} to accept the forged batch, which links`, isPermitted);
      }),
    );
    assert.deepEqual(await head(), batch.last);
  } finally {
    await nats.close();
  }

  // The log continues without the forgery: such a node reaches no granted head, and is fenced when its window ends.
  const insider = await cluster.session("alice", ["eng"]);
  for (const proxy of cluster.proxies) {
    const refuses = async () => !(await cluster.getOnce(proxy, "eng", outsider)).permitted;
    await waitFor(`${proxy.name} to deny`, refuses, { withinMs: 20_000 });
  }
  // A new epoch proves that the node's newest event is not in the log, and the node rebuilds.
  const leader = await cluster.leader();
  await leader.restart();
  for (const proxy of cluster.proxies) {
    await proxy.ready();
    assert.equal((await cluster.get(proxy, "eng", outsider)).status, 403);
    assert.equal((await cluster.get(proxy, "eng", insider)).permitted, true);
    assert.ok((await proxy.metric("cardea_replica_rebuilds")) >= 1);
  }
  await waitForLogDigest(cluster);
});
