/** Lists as CSV files: whole, bounded, harmless in a spreadsheet, and only for a caller that may read the list. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { parse } from "csv-parse/sync";
import { createCsvWriter } from "../../../../src/console/api/lists/list-csv.ts";
import type { CommandId, GroupId, UnixMs } from "../../../../src/events/index.ts";
import { userIdOf } from "../../../../src/events/index.ts";
import { json, type OperatorWorld, startOperatorWorld } from "../operator-support.ts";

async function addPerson(at: OperatorWorld, subject: string, name: string): Promise<string> {
  const now = Date.now();
  const profile = {
    issuer: "https://idp",
    subject,
    email: `${subject}@example.com`,
    emailVerified: true,
    name,
    claims: {},
  };
  const userId = userIdOf(profile.issuer, subject);
  const answer = await at.world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:authenticate",
    command: {
      ...{ type: "createSession", sessionId: randomUUID() as never, userId, idpId: "demo", profile },
      ...{ issuedAt: now as UnixMs, expiresAt: (now + 3_600_000) as UnixMs, groupIds: ["ops" as GroupId] },
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      maxSessionsPerUser: 10,
    },
  });
  assert.equal(answer.type, "done");
  if (answer.type === "done") await at.world.replica.waitFor(answer.link, 2_000);
  return userId;
}

type Row = Readonly<Record<string, string>>;
const rowsOf = (body: string): Row[] => parse(body, { columns: true }) as Row[];

test("each list is a file with the rows of its filters, whatever the limit, and formulas are harmless", async (t) => {
  const at = await startOperatorWorld(t);
  for (const [subject, name] of [
    ["p1", '=HYPERLINK("https://evil.example","x")'],
    ["p2", "+1+cmd|' /C calc'!A0"],
    ["p3", "-2"],
    ["p4", "@SUM(1)"],
    ["p5", 'Say "hi",\nnow'],
  ] as const)
    await addPerson(at, subject, name);
  const people = await at.get("/users?format=csv&limit=1");
  assert.equal(people.status, 200);
  assert.match(String(people.headers["content-type"]), /^text\/csv; charset=utf-8/);
  assert.equal(people.headers["content-disposition"], 'attachment; filename="people.csv"');
  assert.equal(people.headers["cache-control"], "no-store");
  const names = rowsOf(people.body).map(({ name = "" }) => name);
  assert.deepEqual(
    names.toSorted(),
    [
      "'+1+cmd|' /C calc'!A0",
      "'-2",
      '\'=HYPERLINK("https://evil.example","x")',
      "'@SUM(1)",
      'Say "hi",\nnow',
    ].toSorted(),
  );
  assert.ok(at.accesses.some(({ command, targets }) => command === "GET /users" && targets.includes("format:csv")));
  const found = rowsOf((await at.get("/users?format=csv&q=p3")).body);
  assert.deepEqual(
    found.map(({ email }) => email),
    ["p3@example.com"],
  );
  assert.equal(rowsOf((await at.get("/sessions?format=csv&limit=2")).body).length, 5);
  const groups = rowsOf((await at.get("/groups?format=csv")).body);
  assert.deepEqual(
    groups.find(({ id }) => id === "ops"),
    { id: "ops", name: "ops", members: "5", excluded: "0" },
  );
  assert.equal(rowsOf((await at.get("/groups/ops/members?format=csv")).body).length, 5);
  const changes = rowsOf((await at.get("/changes?format=csv&fold=false")).body);
  assert.ok(changes.length >= 5 && changes.every(({ position, at: time }) => position !== "" && time !== ""));
  const [newest, second] = changes.map(({ position }) => Number(position));
  assert.ok(Number(newest) > Number(second), "newest first");
  assert.equal(json(await at.get("/users?format=json")).users.length, 5);
});

test("a file follows the rights of its list, and every bad question", async (t) => {
  const at = await startOperatorWorld(t);
  await addPerson(at, "p1", "One");
  const authorization = `Bearer ${await at.token({ role: "viewer", routeGroups: ["hr"] })}`;
  const limited = { headers: { authorization, accept: "text/csv" } };
  for (const path of ["/users", "/sessions", "/changes"])
    assert.equal((await at.get(`${path}?format=csv`, limited)).status, 403, path);
  const groups = await at.get("/groups?format=csv", limited);
  assert.deepEqual([groups.status, rowsOf(groups.body)], [200, []], "only groups of its routes: there are none");
  assert.equal((await at.get("/groups/ops/members?format=csv", limited)).status, 404);
  assert.equal((await at.get("/users?format=csv", { headers: {} })).status, 401);
  assert.equal((await at.get("/users?format=xml")).status, 400);
  assert.equal((await at.get("/users?format=csv&after=nonsense")).status, 400);
});

function createReply() {
  const sent: { status: number; body: unknown } = { status: 200, body: undefined };
  const reply = {
    code(status: number) {
      sent.status = status;
      return reply;
    },
    type: () => reply,
    header: () => reply,
    send(body: unknown) {
      sent.body = body;
      return reply;
    },
  };
  return { sent, reply };
}

test("a file is bounded, ends when the right does, and only few are written at once", async () => {
  let isOperator = true;
  const caller = { type: "operator", scope: null, reads: [] };
  const sendCsv = createCsvWriter({
    callerOf: async () => (isOperator ? caller : { type: "refused" }) as never,
    fresh: () => true,
    sleep: (ms, signal) => delay(ms, undefined, { signal }),
    rowsMax: 5,
  });
  const list = {
    name: "numbers",
    columns: [["n", (item: number) => item]] as const,
    page: async (after: string | null) => {
      const from = Number(after ?? 0);
      return { items: [from, from + 1], next: String(from + 2) };
    },
  };
  const start = async () => {
    const { sent, reply } = createReply();
    await sendCsv({ request: {}, reply, caller } as never, list);
    return sent;
  };
  const read = async (body: unknown): Promise<string> =>
    (await (body as NodeJS.ReadableStream & { toArray(): Promise<Buffer[]> }).toArray()).join("");
  assert.equal(
    await read((await start()).body),
    '"n"\r\n0\r\n1\r\n2\r\n3\r\n4\r\n"Only the first 5 rows are in this file."\r\n',
  );
  const four = [await start(), await start(), await start(), await start()];
  assert.equal((await start()).status, 503);
  isOperator = false;
  for (const { body } of four) await assert.rejects(read(body), /the right to read has ended/);
  isOperator = true;
  const again = await start();
  assert.equal(again.status, 200, "what has ended makes room");
  await read(again.body);
});
