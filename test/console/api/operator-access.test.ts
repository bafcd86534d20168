/** Audit records of refused callers of the operator API, and of reads of personal data: ids only, and bounded. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AccessAct, createAccessRecorder } from "../../../src/console/api/operator-access.ts";
import { findListedUsers } from "../../../src/console/api/operator-views.ts";
import { type CardeaEvent, Projection, type UnixMs, type UserId } from "../../../src/events/index.ts";
import { signIn } from "../../auth/authenticate/support.ts";
import { record } from "../../events/support.ts";
import { assertAuditRecord } from "../../support/audit-schema.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

function start() {
  const acts: AccessAct[] = [];
  const clock = { now: 1_764_288_000_000 };
  const timers: (() => void)[] = [];
  const recorder = createAccessRecorder({
    record: (act) => void acts.push(act),
    now: () => clock.now as UnixMs,
    uuid: () => "019f0000-0000-7000-8000-000000000002",
    after: (_ms, callBack) => void timers.push(callBack),
  });
  return { acts, clock, recorder, passMinute: () => timers.shift()?.() };
}

test("a flood of refused callers has twenty records a minute, and one that counts the others", () => {
  const { acts, recorder, passMinute } = start();
  const refuse = (status: 401 | 403 = 401): void =>
    recorder.refused({ operation: "GET /users", actor: "anonymous", status, ip: "192.0.2.9" });
  for (let n = 0; n < 50_000; n++) refuse();
  for (let n = 0; n < 10; n++) refuse(403);
  assert.equal(acts.length, 20);
  passMinute();
  assert.deepEqual(
    acts.slice(20).map(({ command, code, count, outcome }) => [command, code, count, outcome]),
    [
      ["many requests", "401", 49_980, "refused"],
      ["many requests", "403", 10, "refused"],
    ],
  );
  passMinute();
  refuse();
  assert.equal(acts.length, 23, "the next minute begins anew");
  passMinute();
  assert.equal(acts.length, 23);
  for (const act of acts) assertAuditRecord({ kind: "operator", ...act, seq: 1, node: "n", boot: "b", region: "here" });
});

test("a read that is repeated within ten minutes has one record, and the next one counts", () => {
  const { acts, clock, recorder } = start();
  const read = (actor: string, target: string): void =>
    recorder.read({ operation: "GET /users/:user", actor, targets: [target], ip: undefined });
  for (let n = 0; n < 5; n++) read("token:t", "user:u-1");
  read("token:t", "user:u-2");
  read("user:u-9", "user:u-1");
  assert.deepEqual(
    acts.map(({ actor, targets }) => [actor, ...targets]),
    [
      ["token:t", "user:u-1"],
      ["token:t", "user:u-2"],
      ["user:u-9", "user:u-1"],
    ],
  );
  clock.now += 600_000;
  read("token:t", "user:u-1");
  assert.equal(acts.at(-1)?.count, 5);
});

test("the API records refused callers by id and the pattern of the path, and reads of people by their ids", async (t) => {
  const at = await startOperatorWorld(t);
  await signIn(at.world, at.world.visitor(), "alice");
  const bob = at.world.visitor();
  await signIn(at.world, bob, "bob");
  const people: readonly Readonly<{ id: string; subject: string }>[] = json(await at.get("/users")).users;
  const [id, bobId] = ["alice", "bob"].map((name) => people.find(({ subject }) => subject === name)?.id);
  at.accesses.length = 0;
  assert.equal((await at.get("/users/alice@example.com", { headers: { authorization: "Bearer x" } })).status, 401);
  const cookie = bob.cookieHeader(new URL(at.world.url("authenticate")));
  assert.equal(
    (await at.get("/users/alice@example.com", { headers: { cookie, "sec-fetch-site": "same-origin" } })).status,
    403,
  );
  assert.equal((await at.get("/users/alice@example.com")).status, 200);
  assert.equal((await at.get("/decisions?user=alice@example.com,bob")).status, 200);
  assert.equal((await at.get("/nodes")).status, 200);
  assert.deepEqual(
    at.accesses.map(({ actor, command, targets, outcome, code, ip }) => ({
      actor,
      command,
      targets,
      outcome,
      code,
      ip,
    })),
    [
      {
        actor: "anonymous",
        command: "GET /users/:user",
        targets: [],
        outcome: "refused",
        code: "401",
        ip: "192.0.2.9",
      },
      {
        actor: `user:${bobId}`,
        command: "GET /users/:user",
        targets: [],
        outcome: "refused",
        code: "403",
        ip: "192.0.2.9",
      },
      {
        actor: "token:t1",
        command: "GET /users/:user",
        targets: [`user:${id}`],
        outcome: "done",
        code: null,
        ip: "192.0.2.9",
      },
      {
        ...{ actor: "token:t1", command: "GET /decisions", targets: [`user:${id}`, `user:${bobId}`] },
        ...{ outcome: "done", code: null, ip: "192.0.2.9" },
      },
    ],
  );
  assert.ok(!JSON.stringify(at.accesses).includes("example.com"));
});

test("a read of a person whose name has a comma is recorded for that person alone", () => {
  const subjects: Readonly<Record<string, string>> = { "user-1": "ann", "user-2": "bob", "user-3": "ann,bob" };
  const projection = new Projection();
  const upserted = (userId: string): CardeaEvent => ({
    ...({ type: "UserUpserted", userId: userId as UserId } as const),
    profile: Buffer.from(userId),
  });
  for (const recorded of record(Object.keys(subjects).map(upserted))) projection.apply(recorded);
  const open = (_sealed: Uint8Array, userId: UserId) =>
    ({ subject: subjects[userId], email: "", issuer: "https://idp", groups: [] }) as never;
  const find = (names: string): readonly string[] => findListedUsers({ projection, open } as never, names, 20);
  assert.deepEqual(find("ann,bob"), ["user-3"]);
  assert.deepEqual(find("ann"), ["user-1"]);
  assert.deepEqual(find("bob,ann,eve").toSorted(), ["user-1", "user-2"]);
});
