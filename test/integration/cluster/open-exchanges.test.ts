/**
 * What a complete receipt means for open exchanges: WebSockets, Server-Sent Events, downloads and uploads on two nodes
 * of a real cluster, under every change that can remove a right.
 *
 * The upstream and the callers stamp what they send. Nothing sent after the receipt arrives in either direction, and
 * the exchanges of other people continue. Leases are default, W over a minute, so a receipt that completes within
 * seconds was confirmed by every node and did not wait for W.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { statementIn } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import {
  type LiveSocket,
  type MeteredStream,
  openMeteredStream,
  openSocket,
  openUpload,
  type Upload,
} from "./client.ts";
import { type Change, type Cluster, type Session, startCluster } from "./cluster.ts";
import type { ClusterProcess } from "./cluster-process.ts";

let cluster: Cluster;
before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "south"] });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

type Open = Readonly<{
  socket: LiveSocket;
  events: MeteredStream;
  download: MeteredStream;
  upload: Upload;
  uploadId: string;
  label: string;
}>;

async function openAll(proxy: ClusterProcess, session: Session, route: string): Promise<Open> {
  const target = { port: proxy.ports.address, host: cluster.host(route), cookie: session.cookie };
  const uploadId = randomUUID();
  const socket = await openSocket(target);
  const events = await openMeteredStream({ ...target, path: "/events" });
  const download = await openMeteredStream({ ...target, path: "/download" });
  const upload = await openUpload({ ...target, path: `/upload?r=${uploadId}` });
  assert.deepEqual([events.status, download.status, upload.status], [200, 200, 200], proxy.name);
  const open = { socket, events, download, upload, uploadId, label: `${proxy.name}, ${route}` };
  await waitFor(`every stream to flow at ${open.label}`, () => flowed(open).every((amount) => amount > 0));
  return open;
}

/** How much has arrived at its receiver, by kind. */
function flowed({ socket, events, download, uploadId }: Open): readonly number[] {
  return [socket.ticks(), events.bytes(), download.bytes(), cluster.upstream.uploadOf(uploadId).bytes];
}

/** Send time of the newest data that arrived, by kind. */
function newest({ socket, events, download, uploadId }: Open): Readonly<Record<string, number>> {
  const upload = cluster.upstream.uploadOf(uploadId).newest;
  return { socket: socket.newest(), events: events.newest(), download: download.newest(), upload };
}

function closeAll(all: readonly Open[]): void {
  for (const { socket, events, download, upload } of all)
    for (const one of [socket, events, download, upload]) one.close();
}

async function stillFlows(all: readonly Open[]): Promise<void> {
  for (const open of all) {
    const before = flowed(open);
    await waitFor(`the permitted streams to flow at ${open.label}`, () =>
      flowed(open).every((amount, kind) => amount > (before[kind] ?? 0)),
    );
  }
}

type Case = Readonly<{
  what: string;
  route: string;
  revoke: (session: Session) => Promise<Change>;
  /** Close code of the WebSocket. */
  code: number;
  type: string;
}>;

const post = async (path: string, body: object = {}): Promise<Change> => {
  const answer = await cluster.operator.post(path, { ...body, wait: "all" });
  assert.equal(answer.status, 200, answer.body);
  return JSON.parse(answer.body) as Change;
};

const cases: readonly Case[] = [
  {
    ...{ what: "a session is revoked", route: "app", code: 4401, type: "SessionRevoked" },
    revoke: ({ id }) => post(`/sessions/${id}/revoke`),
  },
  {
    ...{ what: "several sessions are revoked in one command", route: "strict", code: 4401, type: "SessionRevoked" },
    revoke: async ({ id }) => {
      const others = await Promise.all([1, 2, 3].map(() => cluster.session("another")));
      return post("/sessions/revoke", { sessionIds: [id, ...others.map((other) => other.id)] });
    },
  },
  {
    ...{ what: "all sessions of a user are revoked", route: "app", code: 4401, type: "UserSessionsRevoked" },
    revoke: ({ userId }) => post(`/users/${userId}/sessions/revoke`),
  },
  {
    ...{ what: "a user is suspended", route: "app", code: 4401, type: "UserSuspended" },
    revoke: ({ userId }) => post(`/users/${userId}/suspend`),
  },
  {
    ...{ what: "a member is removed from a group", route: "eng", code: 4403, type: "GroupMembersChanged" },
    revoke: ({ userId }) => post("/groups/eng/members", { remove: [userId] }),
  },
  {
    ...{ what: "a group is removed", route: "eng", code: 4403, type: "GroupRemoved" },
    revoke: () => post("/groups/eng/remove"),
  },
  {
    ...{ what: "a person is erased", route: "app", code: 4401, type: "UserErased" },
    revoke: ({ userId }) => post(`/users/${userId}/erase`),
  },
];

for (const [n, { what, route, revoke, code, type }] of cases.entries()) {
  test(`${what}: nothing sent after the complete receipt arrives on the affected exchanges of either node, and all others continue`, async (t) => {
    const affected = await cluster.session(`person-${n}`, ["eng"]);
    const bystander = await cluster.session(`bystander-${n}`, ["eng"]);
    const open = await Promise.all(cluster.proxies.map((proxy) => openAll(proxy, affected, route)));
    // The removal of a group affects all members; what they hold by another right continues.
    const others = await Promise.all(cluster.proxies.map((proxy) => openAll(proxy, bystander, "app")));
    try {
      const revokedAt = performance.now();
      const { receipt } = await revoke(affected);
      const completedAt = performance.now();
      assert.equal(receipt?.complete, true);
      const statuses = receipt.nodes.map(({ node, status }) => `${node} ${status}`).sort();
      assert.deepEqual(statuses, ["authenticate applied", "proxy-1 applied", "proxy-2 applied"]);
      assert.equal(statementIn(receipt.signed ?? "")?.changes?.[0]?.type, type);
      t.diagnostic(`complete after ${Math.round(completedAt - revokedAt)} ms`);

      for (const one of open) {
        assert.equal((await one.socket.closed).code, code, one.label);
        assert.equal(await one.events.ended, "broken", `${one.label}: the client sees an incomplete response`);
        assert.equal(await one.download.ended, "broken", one.label);
        await one.upload.ended;
        await waitFor(`the upload at ${one.label} to end at the upstream`, () => {
          return cluster.upstream.uploadOf(one.uploadId).ended !== "no";
        });
        assert.equal(cluster.upstream.uploadOf(one.uploadId).ended, "broken", one.label);
      }
      await stillFlows(others);
      for (const one of open) {
        for (const [kind, sentAt] of Object.entries(newest(one))) {
          assert.ok(
            sentAt > 0 && sentAt < completedAt,
            `${one.label}, ${kind}: sent ${sentAt - completedAt} ms after the receipt`,
          );
        }
      }
      for (const proxy of cluster.proxies) {
        assert.equal((await cluster.get(proxy, route, affected)).permitted, false, proxy.name);
        assert.equal((await cluster.get(proxy, "app", bystander)).permitted, true, proxy.name);
      }
    } finally {
      closeAll([...open, ...others]);
    }
  });
}

test("no process has written a secret, a cookie or an e-mail address to its log", async () => {
  const session = await cluster.session("erin");
  await Promise.all(cluster.proxies.map((proxy) => cluster.get(proxy, "app", session)));
  await cluster.operator.post("/sessions/unknown/revoke", {});
  await cluster.operator.post("/users/unknown@example.com/suspend", {});
  const { sharedSecret, cookieSecret, idpSecret, postgres } = cluster.setup;
  const texts = [sharedSecret, cookieSecret, idpSecret, new URL(postgres).password, session.cookie, "@example."];
  const encoded = [sharedSecret, cookieSecret].flatMap((text) => {
    const bytes = Buffer.from(text, "base64");
    return [bytes.toString("hex"), bytes.toString("base64url")];
  });
  const patterns = [/\bBearer\s+[\w-]+\./, /eyJ[\w-]{8,}\.[\w-]+\.[\w-]+/, /_pomerium[\w-]*=[^\s";]{8}/];
  for (const process of [...cluster.brokers, cluster.authenticate, ...cluster.proxies]) {
    const log = process.log();
    assert.ok(log.length > 0, process.name);
    const lineWith = (at: number): string =>
      log.slice(log.lastIndexOf("\n", at) + 1, log.indexOf("\n", at)).slice(0, 400);
    for (const text of [...texts, ...encoded].filter((text) => text !== ""))
      assert.equal(log.includes(text), false, `${process.name}: ${lineWith(log.indexOf(text))}`);
    for (const pattern of patterns) assert.doesNotMatch(log, pattern, process.name);
  }
});
