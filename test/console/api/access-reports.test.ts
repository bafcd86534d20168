/** Access reports over a real broker: who could reach a route, and what a person could reach, at any time. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import type { AccessFailure, WhatReport, WhoReport } from "../../../src/console/index.ts";
import {
  type Command,
  type CommandId,
  type CommandResult,
  type ConfigHash,
  type NodeId,
  packConfigBody,
  readsLevel,
} from "../../../src/events/index.ts";
import { BrokerUnavailableError } from "../../../src/replication/wire/index.ts";
import { signIn, subjectId, type World } from "../../auth/authenticate/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type OperatorWorld, startOperatorWorld } from "./operator-support.ts";

const groupRoute = (id: string, and: readonly object[]): object => ({
  ...{ id, name: "", from: `https://${id}.example/`, host: `${id}.example`, requiresClientCertificate: false },
  ...{ allowPublicUnauthenticatedAccess: false, corsAllowPreflight: false, allowAnyAuthenticatedUser: false },
  ...{ allowedDomains: [], allowedIdpClaims: {}, allowedUsers: [], clientCa: null },
  policy: [{ allow: { and } }],
});
const inGroup = (group: string): object => ({ groups: { has: group } });

async function submit(world: World, command: Command): Promise<void> {
  const request = { commandId: randomUUID() as CommandId, actor: "service:test", command };
  const result: CommandResult = await world.deps.databroker.submit(request);
  assert.equal(result.type, "done", JSON.stringify(result));
  if (result.type === "done") await world.replica.waitFor(result.link, 5_000);
}

/** Has node-1 announce a configuration with these routes. */
async function activate(world: World, routes: readonly object[]): Promise<ConfigHash> {
  const text = JSON.stringify({ routes });
  const configHash = createHash("sha256").update(text).digest("hex") as ConfigHash;
  const nodeId = "node-1" as NodeId;
  await submit(world, { type: "activateConfiguration", nodeId, configHash, body: packConfigBody(text) });
  return configHash;
}

async function report<Report>(at: OperatorWorld, path: string): Promise<Report> {
  const answer = await at.get(path);
  assert.equal(answer.status, 200, answer.body);
  const events = answer.body
    .split("\n\n")
    .flatMap((block) => block.split("\n").filter((line) => line.startsWith("data: ")))
    .map((line) => JSON.parse(line.slice(6)) as { type: string });
  return events.at(-1) as Report;
}

/** A time that is certainly after everything so far and before everything later. */
async function moment(): Promise<string> {
  const before = Date.now();
  await waitFor("the clock to move", () => Date.now() > before + 5);
  const at = new Date().toISOString();
  await waitFor("the clock to move", () => Date.now() > Date.parse(at) + 5);
  return encodeURIComponent(at);
}

test("who could reach a route is answered at any time, with the events and the configuration of that time", async (t) => {
  const at = await startOperatorWorld(t);
  const { world } = at;
  const start = await moment();
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "bob");
  const [alice, bob] = [subjectId(world, "alice"), subjectId(world, "bob")];
  const first = await activate(world, [
    groupRoute("payroll", [inGroup("payroll")]),
    groupRoute("night", [inGroup("eng"), { http_method: { is: "GET" } }]),
  ]);
  await at.post("/cluster/finalize", { level: readsLevel });
  const ungranted = await moment();
  const added = await at.post("/groups/payroll/members", { add: [bob], forMs: 3_600_000, reason: "quarter close" });
  assert.equal(added.status, 200, added.body);
  const granted = await moment();
  await at.post("/groups/payroll/members", { remove: [bob] });
  await at.post(`/users/${alice}/suspend`, {});
  const second = await activate(world, [groupRoute("payroll", [inGroup("eng")])]);
  const later = await moment();

  const who = (time: string, route = "payroll") => report<WhoReport>(at, `/access/who?route=${route}&at=${time}`);
  const before = await who(ungranted);
  assert.deepEqual(
    before.configurations.map(({ configHash, people }) => [configHash, people]),
    [[first, []]],
  );
  assert.equal(before.configurations[0]?.denied, 2);

  const during = await who(granted);
  const [person, ...others] = during.configurations[0]?.people ?? [];
  assert.deepEqual(others, []);
  assert.deepEqual([person?.userId, person?.email, person?.result], [bob, "bob@example.com", "permit"]);
  const fact = person?.facts.find((each) => each.fact === "group:payroll");
  assert.deepEqual([fact?.member, fact?.reason, fact?.exact], [true, "quarter close", true]);
  assert.match(fact?.event?.says ?? "", /added to the group by operator until .*: quarter close/);
  assert.match(fact?.event?.actor ?? "", /^operator:/);

  const after = await who(later);
  assert.deepEqual(
    after.configurations.map(({ configHash }) => configHash),
    [second],
    "the configuration of that time",
  );
  assert.deepEqual(after.configurations[0]?.people, [], "alice is in eng, and suspended; bob is not in eng");

  const night = await who(granted, "night");
  const [maybe] = night.configurations[0]?.people ?? [];
  assert.deepEqual([maybe?.userId, maybe?.result], [alice, "conditional"], "the method is a condition, not a guess");
  assert.match(maybe?.conditions.join() ?? "", /GET/);

  const what = await report<WhatReport>(at, `/access/what?user=${bob}&at=${granted}`);
  assert.deepEqual(
    what.configurations[0]?.routes.map(({ id, result }) => [id, result]),
    [
      ["payroll", "permit"],
      ["night", "deny"],
    ],
  );
  const suspended = await report<WhatReport>(at, `/access/what?user=${alice}&at=${later}`);
  assert.match(suspended.note ?? "", /suspended/);
  const early = await report<AccessFailure>(at, `/access/what?user=${alice}&at=${start}`);
  assert.match(early.error, /did not know this person/);
  const now = await report<WhoReport>(at, "/access/who?route=payroll");
  assert.deepEqual([now.snapshot, now.link], [null, world.replica.applied], "this server's own copy answers");
  const unknownHash = await report<AccessFailure>(
    at,
    `/access/who?route=payroll&at=${granted}&config=${"0".repeat(64)}`,
  );
  assert.match(unknownHash.error, /no node ran a configuration/);

  await at.post(`/users/${bob}/erase`, {});
  const erased = await who(granted);
  const [gone] = erased.configurations[0]?.people ?? [];
  assert.deepEqual(
    [gone?.userId, gone?.email, gone?.result],
    [bob, "", "permit"],
    "the group is known, the name is not",
  );
  assert.match(gone?.note ?? "", /erased since/);
});

test("where retention has dropped the time, the report says so; a malformed question is refused", async (t) => {
  const truncated = { on: false };
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      read: async (after, options) =>
        truncated.on ? { type: "truncated", first: 100 as never } : inner.read(after, options),
    }),
  });
  truncated.on = true;
  const past = encodeURIComponent(new Date(Date.now() - 60_000).toISOString());
  const failed = await report<AccessFailure>(at, `/access/who?route=app&at=${past}`);
  assert.equal(failed.type, "failed");
  assert.match(failed.error, /retention has dropped the events 1 to 99, .*`broker\.archive`.*restore a backup/);
  for (const path of ["/access/who", "/access/who?route=a&at=yesterday", "/access/who?route=a&limit=0", "/access/what"])
    assert.equal((await at.get(path)).status, 400, path);
  assert.equal((await at.get("/access/what?user=unknown")).status, 404);
});

test("one report runs at a time, and a broker that does not answer fails it", async (t) => {
  const gate = Promise.withResolvers<void>();
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      async read() {
        await gate.promise;
        throw new BrokerUnavailableError("no broker answers");
      },
    }),
  });
  const past = encodeURIComponent(new Date(Date.now() - 60_000).toISOString());
  const first = report<AccessFailure>(at, `/access/who?route=app&at=${past}`);
  await waitFor("the second to be refused", async () => {
    const second = await at.get(`/access/who?route=app&at=${past}`);
    return second.status === 503;
  });
  gate.resolve();
  assert.match((await first).error, /no broker answers/);
});
