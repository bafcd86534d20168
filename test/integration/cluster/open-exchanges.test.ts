/**
 * What `complete` means for what is open: a WebSocket, Server-Sent Events, a long download and a long upload, on two
 * nodes of a real cluster, under every change that can take a right away. The upstream and the callers are witnesses:
 * nothing that is sent after the receipt arrives, in either direction, and what others have open goes on.
 *
 * Leases are as they come, W beyond a minute: what completes within seconds has been enforced, never waited out.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { statementIn } from "../../../src/replication/index.ts";
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
  where: string;
}>;

async function openAll(proxy: ClusterProcess, session: Session, route: string): Promise<Open> {
  const target = { port: proxy.ports.address, host: cluster.host(route), cookie: session.cookie };
  const uploadId = randomUUID();
  const socket = await openSocket(target);
  const events = await openMeteredStream({ ...target, path: "/events" });
  const download = await openMeteredStream({ ...target, path: "/download" });
  const upload = await openUpload({ ...target, path: `/upload?r=${uploadId}` });
  assert.deepEqual([events.status, download.status, upload.status], [200, 200, 200], proxy.name);
  const open = { socket, events, download, upload, uploadId, where: `${proxy.name}, ${route}` };
  await waitFor(`all of it to flow at ${open.where}`, () => flowed(open).every((amount) => amount > 0));
  return open;
}

/** How much has come, of each kind, to whoever it is meant for. */
function flowed({ socket, events, download, uploadId }: Open): readonly number[] {
  return [socket.ticks(), events.bytes(), download.bytes(), cluster.upstream.uploadOf(uploadId).bytes];
}

/** When what came last was sent, of each kind. */
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
    await waitFor(`what is permitted to go on at ${open.where}`, () =>
      flowed(open).every((amount, kind) => amount > (before[kind] ?? 0)),
    );
  }
}

type Case = Readonly<{
  what: string;
  route: string;
  revoke: (session: Session) => Promise<Change>;
  /** The close code of a WebSocket. */
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
    ...{ what: "sessions are revoked, among others of many", route: "strict", code: 4401, type: "SessionRevoked" },
    revoke: async ({ id }) => {
      const others = await Promise.all([1, 2, 3].map(() => cluster.session("somebody")));
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
    ...{ what: "a member is taken out of a group", route: "eng", code: 4403, type: "GroupMembersChanged" },
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
  test(`${what}: when the receipt is complete, nothing that is sent later on theirs arrives on either node, and the rest goes on`, async (t) => {
    const theirs = await cluster.session(`person-${n}`, ["eng"]);
    const bystander = await cluster.session(`bystander-${n}`, ["eng"]);
    const open = await Promise.all(cluster.proxies.map((proxy) => openAll(proxy, theirs, route)));
    // Who loses a group by its removal are all of its members; what they have by another right goes on.
    const others = await Promise.all(cluster.proxies.map((proxy) => openAll(proxy, bystander, "app")));
    try {
      const asked = performance.now();
      const { receipt } = await revoke(theirs);
      const completedAt = performance.now();
      assert.equal(receipt?.complete, true);
      const standings = receipt.nodes.map(({ node, status }) => `${node} ${status}`).sort();
      assert.deepEqual(standings, ["authenticate applied", "proxy-1 applied", "proxy-2 applied"]);
      assert.equal(statementIn(receipt.signed ?? "")?.changes?.[0]?.type, type);
      t.diagnostic(`complete after ${Math.round(completedAt - asked)} ms`);

      for (const one of open) {
        assert.equal((await one.socket.closed).code, code, one.where);
        assert.equal(await one.events.ended, "broken", `${one.where}: never taken for the whole answer`);
        assert.equal(await one.download.ended, "broken", one.where);
        await one.upload.ended;
        await waitFor(`the upload at ${one.where} to end at the upstream`, () => {
          return cluster.upstream.uploadOf(one.uploadId).ended !== "no";
        });
        assert.equal(cluster.upstream.uploadOf(one.uploadId).ended, "broken", one.where);
      }
      await stillFlows(others);
      for (const one of open) {
        for (const [kind, sentAt] of Object.entries(newest(one))) {
          assert.ok(
            sentAt > 0 && sentAt < completedAt,
            `${one.where}, ${kind}: sent ${sentAt - completedAt} ms after the receipt`,
          );
        }
      }
      for (const proxy of cluster.proxies) {
        assert.equal((await cluster.get(proxy, route, theirs)).permitted, false, proxy.name);
        assert.equal((await cluster.get(proxy, "app", bystander)).permitted, true, proxy.name);
      }
    } finally {
      closeAll([...open, ...others]);
    }
  });
}

test("after all this no process has written a secret, a cookie or a person's address to its log", async () => {
  const session = await cluster.session("erin");
  await Promise.all(cluster.proxies.map((proxy) => cluster.get(proxy, "app", session)));
  await cluster.operator.post("/sessions/nobody/revoke", {});
  await cluster.operator.post("/users/nobody@example.com/suspend", {});
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
