/**
 * Bench: what a SCIM client that provisions a whole organisation costs one process with all services and SQLite. Prints
 * the rate of users and groups, the time of decisions meanwhile beside an idle process, the time of a change of one
 * member in a small and in a large group, of searches, and resident memory.
 *
 *   node bench/scim.ts [--users 100000] [--groups 20000] [--members 100] [--large 5000]
 *
 * One group in a hundred has `--large` members, the others `--members`.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { mintOperatorToken, operatorApiPrefix } from "../src/console/index.ts";
import { formatScimToken, hashScimSecret, provisionedFrom, scimScopes, secretIn } from "../src/events/index.ts";
import { Visitor, type VisitorResponse } from "../test/support/visitor.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { printTimes, sampled } from "./support/sampled-decisions.ts";
import { withStand } from "./support/stand.ts";

const number = (text: string | undefined): number => Number(text);
const { values } = parseArgs({
  options: {
    users: { type: "string", default: "100000" },
    groups: { type: "string", default: "20000" },
    members: { type: "string", default: "100" },
    large: { type: "string", default: "5000" },
  },
});
const [users, groups, members, large] = [values.users, values.groups, values.members, values.large].map(number) as [
  number,
  number,
  number,
  number,
];
const bulkUsers = 500;
const inFlight = 2;
const groupsInFlight = 4;

type Send = (method: string, path: string, body?: unknown) => Promise<Record<string, unknown>>;

await withStand(async (stand) => {
  const upstream = createServer((_request, response) => response.end("ok")).listen(0, "127.0.0.1");
  stand.atEnd(async () => void upstream.close());
  await new Promise((resolve) => upstream.once("listening", resolve));
  const cardea = await startCardea(stand, {
    upstreamPort: (upstream.address() as AddressInfo).port,
    store: "file",
    settings: ["scim_clients: {bench: {match: subject}}"],
  });
  const visitor = new Visitor();
  stand.atEnd(() => visitor.close());
  const send = await connect(cardea, visitor);
  const idle = await sampled(cardea, async () => delay(3_000));
  printTimes("decisions while idle", idle.times, idle);

  const ids: string[] = [];
  const loading = await sampled(cardea, () => loadUsers(send, ids));
  console.log(
    `${users} users in ${seconds(loading.ms)} (${seconds(loading.cpuMs)} of CPU): ${rate(users, loading.ms)}/s`,
  );
  printTimes("decisions meanwhile", loading.times, loading);

  const made: string[] = [];
  const grouping = await sampled(cardea, () => loadGroups(send, { ids, made }));
  const memberships = Array.from({ length: groups }, (_, n) => sizeOf(n)).reduce((sum, size) => sum + size, 0);
  console.log(
    `${groups} groups with ${memberships} members in ${seconds(grouping.ms)}: ${rate(groups, grouping.ms)}/s`,
  );
  printTimes("decisions meanwhile", grouping.times, grouping);

  for (const [name, group] of [
    ["small", made[1]],
    ["large", made[0]],
  ] as const)
    printTimes(`a member added to and removed from a ${name} group`, await changeMembers(send, group ?? "", ids));
  for (const filter of [`userName eq "user-${users - 1}@example.com"`, `title eq "nothing"`]) {
    const at = performance.now();
    await send("GET", `/Users?filter=${encodeURIComponent(filter)}`);
    console.log(`a search for ${filter}: ${(performance.now() - at).toFixed(0)} ms`);
  }
  console.log(`resident memory: ${Math.round(cardea.pinned.rssBytes() / 1024 ** 2)} MB`);
});

async function connect({ config, port }: Cardea, visitor: Visitor): Promise<Send> {
  const origin = `http://authenticate.localhost:${port}`;
  const operator = await mintOperatorToken({
    secret: config.sharedSecret,
    cluster: config.broker.clusterName,
    name: "bench",
    tokenId: randomUUID(),
    nowS: Math.floor(Date.now() / 1_000),
    ttlS: 300,
  });
  const operate = (path: string, body: object): Promise<VisitorResponse> =>
    visitor.request(`${origin}${operatorApiPrefix}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${operator}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  while ((await operate("/cluster/finalize", { level: provisionedFrom })).status !== 200) await delay(200);
  const tokenId = randomBytes(6).toString("hex");
  const token = formatScimToken(tokenId, randomBytes(32));
  const secretHash = hashScimSecret(secretIn(token));
  await operate("/scim/tokens", { client: "bench", tokenId, secretHash, scopes: scimScopes, wait: "all" });
  return async (method, path, body) => {
    const { status, body: text } = await visitor.request(`${origin}/scim/v2${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/scim+json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text.slice(0, 500)}`);
    return text === "" ? {} : (JSON.parse(text) as Record<string, unknown>);
  };
}

async function loadUsers(send: Send, ids: string[]): Promise<void> {
  const batches = Array.from({ length: Math.ceil(users / bulkUsers) }, (_, batch) => batch * bulkUsers);
  await inParallel(batches, inFlight, async (from) => {
    const count = Math.min(bulkUsers, users - from);
    const Operations = Array.from({ length: count }, (_, n) => {
      const name = `user-${from + n}`;
      const data = {
        userName: `${name}@example.com`,
        externalId: name,
        name: { givenName: "Given", familyName: name },
        emails: [{ value: `${name}@example.com`, type: "work", primary: true }],
        active: true,
      };
      return { method: "POST", path: "/Users", bulkId: name, data };
    });
    const answer = await send("POST", "/Bulk", {
      schemas: ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],
      Operations,
    });
    for (const { status, location } of answer["Operations"] as { status: string; location: string }[]) {
      if (status !== "201") throw new Error(`a user was not created: ${status}`);
      ids.push(location.slice(location.lastIndexOf("/") + 1));
    }
  });
}

function sizeOf(group: number): number {
  return Math.min(users, group % 100 === 0 ? large : members);
}

async function loadGroups(
  send: Send,
  { ids, made }: Readonly<{ ids: readonly string[]; made: string[] }>,
): Promise<void> {
  const all = Array.from({ length: groups }, (_, n) => n);
  await inParallel(all, groupsInFlight, async (group) => {
    const first = (group * 7_919) % ids.length;
    const listed = Array.from({ length: sizeOf(group) }, (_, n) => ({ value: ids[(first + n) % ids.length] }));
    const answer = await send("POST", "/Groups?excludedAttributes=members", {
      displayName: `group ${group}`,
      members: listed,
    });
    made[group] = String(answer["id"]);
  });
}

async function changeMembers(send: Send, group: string, ids: readonly string[]): Promise<readonly number[]> {
  const times: number[] = [];
  const schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
  for (let n = 0; n < 50; n++) {
    const value = ids[ids.length - 1 - n];
    for (const operation of [
      { op: "add", path: "members", value: [{ value }] },
      { op: "remove", path: `members[value eq "${value}"]` },
    ]) {
      const at = performance.now();
      await send("PATCH", `/Groups/${group}`, { schemas, Operations: [operation] });
      times.push(performance.now() - at);
    }
  }
  return times;
}

async function inParallel<T>(all: readonly T[], count: number, run: (one: T) => Promise<void>): Promise<void> {
  const rest = [...all].reverse();
  await Promise.all(
    Array.from({ length: count }, async () => {
      for (let next = rest.pop(); next !== undefined; next = rest.pop()) await run(next);
    }),
  );
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function rate(count: number, ms: number): string {
  return ((count * 1_000) / ms).toFixed(0);
}
