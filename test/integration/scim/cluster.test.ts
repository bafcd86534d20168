/**
 * SCIM in a cluster of separate processes: two authenticate nodes, a proxy, two brokers, Postgres and NATS. What one
 * node answered holds at the other and at the proxy, clients that race at two nodes get one winner, and a leader that
 * is killed costs a client that retries nothing.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Agent } from "node:http";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { formatScimToken, hashScimSecret, readsLevel, scimScopes, secretIn } from "../../../src/events/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { openSocket, sendRequest } from "../cluster/client.ts";
import { type Cluster, type Session, startCluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { patchOf } from "./scim-client.ts";

type Reply = Readonly<{
  status: number;
  etag: string;
  position: number;
  receipt: string | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: JSON whose form the assertions check
  body: any;
}>;

const enforced = { prefer: "wait=30" };
const patches = { users: 50, each: 10, inFlight: 8 };
const retryMsMax = 60_000;

let cluster: Cluster;
let token = "";
let [first, second]: readonly ClusterProcess[] = [];
const agent = new Agent({ keepAlive: true });

before(async () => {
  cluster = await startCluster({
    timing: "short",
    regions: ["north"],
    authenticates: 2,
    settings: { scim_clients: { okta: { match: "subject" } } },
  });
  [first, second] = cluster.authenticates;
  await waitFor("the level", async () => {
    const { status } = await cluster.operator.post("/cluster/finalize", { level: readsLevel, wait: "all" });
    return status === 200;
  });
  token = await newToken();
});
after(async () => {
  agent.destroy();
  await cluster?.stop();
});

async function newToken(): Promise<string> {
  const tokenId = randomBytes(6).toString("hex");
  const made = formatScimToken(tokenId, randomBytes(32));
  const body = { client: "okta", tokenId, secretHash: hashScimSecret(secretIn(made)), scopes: scimScopes, wait: "all" };
  const { status, body: text } = await cluster.operator.post("/scim/tokens", body);
  assert.equal(status, 200, text);
  return made;
}

type Call = Readonly<{ method: string; path: string; body?: object; headers?: Readonly<Record<string, string>> }>;

/** Once; a connection that breaks rejects. */
async function scimOnce(node: ClusterProcess | undefined, { method, path, body, headers = {} }: Call): Promise<Reply> {
  assert.ok(node !== undefined);
  const answer = await sendRequest({
    method,
    agent,
    port: node.ports.address,
    host: cluster.host("authenticate"),
    path: `/scim/v2${encodeURI(path)}`,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/scim+json", ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return {
    status: answer.status,
    etag: answer.headers.etag ?? "",
    position: Number(answer.headers["cardea-position"]),
    receipt: answer.headers["cardea-receipt"]?.toString(),
    body: answer.body.startsWith("{") ? JSON.parse(answer.body) : {},
  };
}

/** As providers do: repeats what got no answer or a 503, at the nodes in turn, as a load balancer would. */
async function scim(node: ClusterProcess | undefined, call: Call): Promise<Reply> {
  const nodes = [node, ...cluster.authenticates.filter((each) => each !== node)];
  const giveUpAt = performance.now() + retryMsMax;
  for (let tries = 0; ; tries++) {
    const answer = await scimOnce(nodes[tries % nodes.length], call).catch(() => undefined);
    if (answer !== undefined && answer.status !== 503) return answer;
    assert.ok(performance.now() < giveUpAt, `${call.method} ${call.path}: ${JSON.stringify(answer?.body)}`);
    await delay(50);
  }
}

async function create(node: ClusterProcess | undefined, name: string, more: object = {}): Promise<Reply> {
  const body = { userName: `${name}@example.com`, externalId: name, active: true, ...more };
  const answer = await scim(node, { method: "POST", path: "/Users", body, headers: enforced });
  assert.equal(answer.status, 201, JSON.stringify(answer.body));
  return answer;
}

const proxyStatus = async (route: string, session: Session): Promise<number> =>
  (await cluster.get(cluster.proxy(1), route, session)).status;
const socketOf = (route: string, session: Session) =>
  openSocket({ port: cluster.proxy(1).ports.address, host: cluster.host(route), path: "/ws", cookie: session.cookie });

test("what one node has answered is there at the other node, with the version that the answer names", async () => {
  const created = await create(first, "ada");
  assert.equal(created.receipt, "complete");
  assert.ok(created.position > 0);
  const path = `/Users/${created.body.id}`;
  let newest = created;
  for (let n = 0; n < 10; n++) {
    const [writer, reader] = n % 2 === 0 ? [first, second] : [second, first];
    const read = await scim(reader, { method: "GET", path });
    assert.deepEqual([read.status, read.etag], [200, newest.etag]);
    const found = await scim(reader, { method: "GET", path: '/Users?filter=userName eq "ADA@example.com"' });
    assert.equal(found.body.totalResults, 1);
    const change = patchOf({ op: "replace", path: "title", value: `title ${n}` });
    const changed = await scim(writer, { method: "PATCH", path, body: change, headers: enforced });
    assert.deepEqual([changed.status, changed.receipt], [200, "complete"]);
    assert.ok(changed.position > newest.position);
    newest = changed;
  }
});

test("a deactivation at one node ends sessions and cuts the open WebSocket at the proxy", async () => {
  const session = await cluster.session("walter");
  const { body } = await create(second, "walter");
  assert.equal(await proxyStatus("app", session), 200);
  const socket = await socketOf("app", session);
  assert.ok(socket.isOpen());
  const change = patchOf({ op: "Replace", path: "active", value: "False" });
  const left = await scim(first, { method: "PATCH", path: `/Users/${body.id}`, body: change, headers: enforced });
  assert.deepEqual([left.status, left.body.active, left.receipt], [200, false, "complete"]);
  const answered = performance.now();
  await socket.closed;
  const ticks = socket.ticks();
  assert.ok(performance.now() - answered < 2_000, "a complete receipt means that the socket has been cut");
  assert.equal(await proxyStatus("app", session), 401);
  assert.equal(socket.ticks(), ticks);
});

test("a removal from a group decides open connections and requests anew", async () => {
  const session = await cluster.session("gina");
  const { body } = await create(first, "gina");
  const group = { displayName: "eng", members: [{ value: body.id }] };
  const made = await scim(second, { method: "POST", path: "/Groups", body: group, headers: enforced });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  await waitFor("gina in eng", async () => (await proxyStatus("eng", session)) === 200);
  const socket = await socketOf("eng", session);
  const change = patchOf({ op: "remove", path: `members[value eq "${body.id}"]` });
  const path = `/Groups/${made.body.id}`;
  const removed = await scim(first, { method: "PATCH", path, body: change, headers: enforced });
  assert.deepEqual([removed.status, removed.receipt], [204, "complete"]);
  await socket.closed;
  assert.equal(await proxyStatus("eng", session), 403);
  assert.equal(await proxyStatus("app", session), 200, "the session goes on");
});

test("of two clients that create one userName at two nodes at once, one wins and the other is refused", async () => {
  for (let round = 0; round < 10; round++) {
    const body = (n: number): object => ({
      userName: `${n === 0 ? "R" : "r"}ace-${round}`,
      externalId: `${round}-${n}`,
    });
    const answers = await Promise.all(
      [first, second].map((node, n) => scim(node, { method: "POST", path: "/Users", body: body(n) })),
    );
    const statuses = answers.map(({ status }) => status).sort();
    assert.deepEqual(statuses, [201, 409], JSON.stringify(answers.map((answer) => answer.body)));
    assert.equal(answers.find(({ status }) => status === 409)?.body.scimType, "uniqueness");
    const filter = `/Users?filter=userName eq "race-${round}"`;
    for (const node of [first, second])
      assert.equal((await scim(node, { method: "GET", path: filter })).body.totalResults, 1);
  }
});

test("of two changes of one version at two nodes at once, one wins and the other gets 412", async () => {
  const created = await create(first, "edna");
  const path = `/Users/${created.body.id}`;
  let { etag } = created;
  for (let round = 0; round < 10; round++) {
    const answers = await Promise.all(
      [first, second].map((node, n) => {
        const body = patchOf({ op: "replace", path: "title", value: `${round} of ${n}` });
        return scim(node, { method: "PATCH", path, body, headers: { "if-match": etag, ...enforced } });
      }),
    );
    const won = answers.filter(({ status }) => status === 200);
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 412]);
    etag = won[0]?.etag ?? "";
    for (const node of [first, second]) {
      const read = await scim(node, { method: "GET", path });
      assert.deepEqual([read.etag, read.body.title], [etag, won[0]?.body.title]);
    }
  }
});

test("a leader that is killed in a run of 500 PATCHes loses none and applies none twice", {
  timeout: 300_000,
}, async () => {
  const users = await Promise.all(
    Array.from(
      { length: patches.users },
      async (_, n) => (await create(n % 2 === 0 ? first : second, `p${n}`)).body.id,
    ),
  );
  const leader = await cluster.leader();
  const positions = new Set<number>();
  let answered = 0;
  let heldUp = 0;
  let killing: Promise<void> | undefined;
  const patchUser = async (id: string, n: number): Promise<void> => {
    for (let nth = 1; nth <= patches.each; nth++) {
      const operations = [
        { op: "add", path: "roles", value: [{ value: `role ${nth}` }] },
        { op: "replace", path: "title", value: `title ${nth}` },
      ];
      const call: Call = { method: "PATCH", path: `/Users/${id}`, body: patchOf(...operations) };
      const at = performance.now();
      const answer = await scim((n + nth) % 2 === 0 ? first : second, call);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      positions.add(answer.position);
      answered += 1;
      if (performance.now() - at > 1_000) heldUp += 1;
      if (answered >= (patches.users * patches.each) / 2) killing ??= leader.kill();
    }
  };
  const rest = users.map((id, n) => ({ id, n }));
  await Promise.all(
    Array.from({ length: patches.inFlight }, async () => {
      for (let next = rest.pop(); next !== undefined; next = rest.pop()) await patchUser(next.id, next.n);
    }),
  );
  await killing;
  assert.ok(heldUp > 0, "the kill held no request up");
  const expected = Array.from({ length: patches.each }, (_, nth) => `role ${nth + 1}`);
  for (const node of [first, second])
    for (const id of users) {
      const { body, etag } = await scim(node, { method: "GET", path: `/Users/${id}` });
      assert.deepEqual(
        (body.roles as { value: string }[]).map(({ value }) => value),
        expected,
      );
      assert.deepEqual([body.title, etag], [`title ${patches.each}`, `W/"${1 + patches.each}"`], "each once");
    }
});
