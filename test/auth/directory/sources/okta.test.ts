import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { jwtVerify } from "jose";
import { findAdapter } from "../../../../src/auth/directory/directory-adapters.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { oktaAdapter } from "../../../../src/auth/directory/sources/okta/okta-adapter.ts";
import {
  type ControlledDirectory,
  type DirectoryContent,
  directorySourceContract,
  readAll,
} from "../../../contract/directory-source.ts";
import {
  controlledFixture,
  type Fixture,
  type FixtureAnswer,
  type FixtureRequest,
  pageOf,
  startFixture,
} from "../fixture-server.ts";
import { rejectsWith } from "../rejects-with.ts";

const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
const signal = (): AbortSignal => AbortSignal.timeout(10_000);

type Stored<T> = Readonly<{ value: T; updated: number; membership: number }>;
type Extra = {
  fields: object;
  users: Map<string, Stored<DirectoryContent["people"][number]> & Readonly<{ status: string }>>;
  groups: Map<string, Stored<DirectoryContent["groups"][number]>>;
  /** Okta names another host as the next page. */
  leadsAway: boolean;
  statusOf: Map<string, string>;
};
type Okta = Fixture &
  Readonly<{ extra: Extra; open: (more?: object) => DirectorySource; set: ControlledDirectory["set"] }>;

async function startOkta(): Promise<Okta> {
  const extra: Extra = { fields: {}, users: new Map(), groups: new Map(), leadsAway: false, statusOf: new Map() };
  const fixture = await startFixture({
    // Okta has no Retry-After. The second of the limit's end is by its own clock.
    limited: () => {
      const now = Math.floor(Date.now() / 1_000);
      const headers = {
        "x-rate-limit-limit": "600",
        "x-rate-limit-remaining": "0",
        "x-rate-limit-reset": String(now + 2),
      };
      return {
        status: 429,
        headers: { ...headers, date: new Date(now * 1_000).toUTCString() },
        body: { errorCode: "E0000047" },
      };
    },
    refused: ({ path }) =>
      path.endsWith("/token")
        ? { status: 401, body: { error: "invalid_client" } }
        : { status: 401, body: { errorCode: "E0000011", errorSummary: "Invalid token provided" } },
    answer: (request, { base }) =>
      request.path === "/oauth2/v1/token" ? tokenAnswer(request, base) : apiAnswer(request, base, extra),
  });
  return {
    ...fixture,
    extra,
    open: (more = { api_token: "00token" }) => oktaAdapter.open({ url: fixture.base.href, ...more }, fixture.parts),
    set: (content) => store(content, extra),
  };
}

function store({ people, groups }: DirectoryContent, extra: Extra): void {
  const now = Date.now();
  for (const person of people) {
    const status = extra.statusOf.get(person.id) ?? (person.active ? "ACTIVE" : "SUSPENDED");
    const before = extra.users.get(person.id);
    if (before === undefined || before.status !== status || JSON.stringify(before.value) !== JSON.stringify(person))
      extra.users.set(person.id, { value: person, status, updated: now, membership: now });
  }
  for (const [id, user] of extra.users)
    if (!people.some((person) => person.id === id) && user.status !== "DEPROVISIONED")
      extra.users.set(id, { ...user, status: "DEPROVISIONED", updated: now });
  for (const group of groups) {
    const before = extra.groups.get(group.id);
    const hasMoved = JSON.stringify(before?.value.people) !== JSON.stringify(group.people);
    const updated = before?.value.name === group.name ? before.updated : now;
    extra.groups.set(group.id, { value: group, updated, membership: hasMoved ? now : (before?.membership ?? now) });
  }
  for (const id of extra.groups.keys()) if (!groups.some((group) => group.id === id)) extra.groups.delete(id);
}

async function tokenAnswer({ body }: FixtureRequest, base: URL): Promise<FixtureAnswer> {
  const form = new URLSearchParams(body);
  assert.equal(form.get("grant_type"), "client_credentials");
  assert.equal(form.get("scope"), "okta.users.read okta.groups.read");
  const { protectedHeader } = await jwtVerify(form.get("client_assertion") ?? "", publicKey, {
    audience: new URL("/oauth2/v1/token", base).href,
    issuer: "0oaclient",
    subject: "0oaclient",
    maxTokenAge: 3_600,
  });
  assert.equal(protectedHeader.kid, "key-1");
  return { body: { token_type: "Bearer", expires_in: 3600, access_token: "eyJ.token", scope: form.get("scope") } };
}

function apiAnswer({ path, query, headers }: FixtureRequest, base: URL, extra: Extra): FixtureAnswer {
  if (headers.authorization !== "SSWS 00token" && headers.authorization !== "Bearer eyJ.token")
    return { status: 401, body: { errorCode: "E0000011" } };
  const list = (all: readonly object[]): FixtureAnswer => {
    const size = Number(query.get("limit"));
    assert.ok(size >= 1 && size <= 200);
    const { items, next } = pageOf(all.slice(0, size === 1 ? 1 : undefined), Number(query.get("after") ?? 0));
    const self = new URL(path, base);
    self.search = query.toString();
    const following = new URL(extra.leadsAway ? "https://evil.example/api/v1/users" : self);
    following.searchParams.set("after", String(next));
    const link = `<${self}>; rel="self"${next === null ? "" : `, <${following}>; rel="next"`}`;
    return { headers: { link }, body: items };
  };
  const since = Date.parse(
    /lastUpdated gt "([^"]*)"/.exec(query.get("filter") ?? "")?.[1] ?? "1970-01-01T00:00:00.000Z",
  );
  const asksDeactivated = query.get("filter")?.startsWith('status eq "DEPROVISIONED"') === true;
  const userOf = ({ value, status, updated }: typeof extra.users extends Map<string, infer User> ? User : never) => ({
    id: value.id,
    status,
    lastUpdated: new Date(updated).toISOString(),
    profile: {
      login: value.userName,
      email: value.email,
      firstName: value.name.split(" ")[0],
      lastName: value.name.split(" ")[1] ?? null,
      mobilePhone: null,
    },
    credentials: { provider: { type: "OKTA", name: "OKTA" } },
    _links: { self: { href: "x" } },
    ...extra.fields,
  });
  const groupOf = ({ value, updated, membership }: Stored<DirectoryContent["groups"][number]>) => ({
    id: value.id,
    created: "2020-01-01T00:00:00.000Z",
    lastUpdated: new Date(updated).toISOString(),
    lastMembershipUpdated: new Date(membership).toISOString(),
    objectClass: ["okta:user_group"],
    type: "OKTA_GROUP",
    profile: { name: value.name, description: null },
    ...extra.fields,
  });
  const [resource, id, sub] = path.replace("/api/v1/", "").split("/").map(decodeURIComponent);
  const users = [...extra.users.values()];
  const groups = [...extra.groups.values()];
  const missing = { status: 404, body: { errorCode: "E0000007", errorSummary: "Not found" } };
  if (resource === "users") {
    // Okta leaves out deactivated people unless a filter asks for them.
    if (id === undefined)
      return list(
        users
          .filter(({ status, updated }) => updated > since && (status === "DEPROVISIONED") === asksDeactivated)
          .map(userOf),
      );
    const user = extra.users.get(id);
    if (user === undefined) return missing;
    return sub === undefined
      ? { body: userOf(user) }
      : list(groups.filter(({ value }) => value.people.includes(id)).map(groupOf));
  }
  if (id === undefined)
    return list(groups.filter(({ updated, membership }) => updated > since || membership > since).map(groupOf));
  const group = extra.groups.get(id);
  if (group === undefined) return missing;
  return list(
    users
      .filter(({ value, status }) => status !== "DEPROVISIONED" && group.value.people.includes(value.id))
      .map(userOf),
  );
}

async function oktaDirectory(): Promise<ControlledDirectory> {
  const okta = await startOkta();
  return {
    ...controlledFixture(okta),
    set: okta.set,
    open: () => okta.open(),
    addUnknownFields() {
      okta.extra.fields = { _embedded: { deep: [1] }, realmId: "x" };
    },
  };
}

directorySourceContract(
  "okta",
  {
    faults: ["limited", "unavailable", "cut", "refused"],
    nestedGroups: false,
    delta: true,
    membersApart: true,
    duplicates: false,
  },
  oktaDirectory,
);

const ada = { id: "00u1", userName: "ada@example.com", email: "ada@example.com", name: "Ada Lovelace", active: true };
const bob = { ...ada, id: "00u2", userName: "bob@example.com", email: "bob@example.com" };

test("okta: a delta reads changed groups whole, and deactivated people as not active", async () => {
  const okta = await startOkta();
  const engineers = { id: "00g1", name: "engineers", people: ["00u1", "00u2"], groups: [] };
  const others = { id: "00g2", name: "others", people: ["00u1"], groups: [] };
  okta.set({ people: [ada, bob], groups: [engineers, others] });
  // As if everything had happened long ago.
  for (const [id, user] of okta.extra.users) okta.extra.users.set(id, { ...user, updated: 1 });
  for (const [id, group] of okta.extra.groups) okta.extra.groups.set(id, { ...group, updated: 1, membership: 1 });
  const { delta } = await readAll(okta.open());
  okta.set({ people: [ada], groups: [{ ...engineers, people: ["00u1"] }, others] });
  const changes = await readAll(okta.open(), delta);
  assert.deepEqual([...changes.people.values()], [{ ...bob, active: false }]);
  assert.deepEqual([...changes.groups.keys()], ["00g1"]);
  assert.deepEqual([...changes.wholeGroups], ["00g1"]);
  assert.deepEqual([...(changes.members.get("00g1") ?? [])], ["00u1"]);
  await okta.close();
});

test("okta: a locked account is active, a suspended or staged one is not", async () => {
  const okta = await startOkta();
  const states = ["ACTIVE", "LOCKED_OUT", "PASSWORD_EXPIRED", "RECOVERY", "PROVISIONED", "SUSPENDED", "STAGED"];
  for (const status of states) okta.extra.statusOf.set(status, status);
  okta.set({ people: states.map((id) => ({ ...ada, id })), groups: [] });
  const { people } = await readAll(okta.open());
  assert.deepEqual(
    [...people.values()].filter(({ active }) => !active).map(({ id }) => id),
    ["SUSPENDED", "STAGED"],
  );
  await okta.close();
});

test("okta: a service app proves itself with a signed assertion", async () => {
  const okta = await startOkta();
  okta.set({ people: [ada], groups: [] });
  const key = privateKey.export({ type: "pkcs8", format: "pem" });
  const { people } = await readAll(okta.open({ client_id: "0oaclient", private_key: key, key_id: "key-1" }));
  assert.equal(people.size, 1);
  await okta.close();
});

test("okta: a next page on another host is not requested", async () => {
  const okta = await startOkta();
  okta.set({ people: [1, 2, 3, 4].map((n) => ({ ...ada, id: `00u${n}` })), groups: [] });
  okta.extra.leadsAway = true;
  await rejectsWith(readAll(okta.open()), "malformed", /next page that is not its own/);
  await okta.close();
});

test("okta: one person is read by id, not by login", async () => {
  const okta = await startOkta();
  okta.set({ people: [ada], groups: [{ id: "00g1", name: "engineers", people: ["00u1"], groups: [] }] });
  const page = await okta.open().readPerson?.("00u1", signal());
  assert.deepEqual(page?.people, [ada]);
  assert.deepEqual(page?.members, [{ groupId: "00g1", people: ["00u1"], groups: [] }]);
  assert.equal(await okta.open().readPerson?.("00u9", signal()), null);
  await okta.close();
});

test("okta: a delta that is no time is not put into a filter", async () => {
  const okta = await startOkta();
  const { delta } = await readAll(okta.open());
  const forged = `${delta?.slice(0, 17)}x" or id pr or id eq "`;
  await rejectsWith(readAll(okta.open(), forged), "deltaExpired", /another version/);
  await okta.close();
});

test("okta: another organization is read whole, and another token is not", async () => {
  const [okta, other] = [await startOkta(), await startOkta()];
  okta.set({ people: [ada], groups: [] });
  const { delta } = await readAll(okta.open());
  await rejectsWith(readAll(other.open(), delta), "deltaExpired", /settings of the directory have changed/);
  const key = privateKey.export({ type: "pkcs8", format: "pem" });
  const app = { client_id: "0oaclient", key_id: "key-1" };
  await rejectsWith(readAll(okta.open({ ...app, private_key: key }), delta), "deltaExpired", /settings/);
  const ofApp = await readAll(okta.open({ ...app, private_key: key }));
  const newKey = `${key}\n`;
  assert.ok((await readAll(okta.open({ ...app, private_key: newKey }), ofApp.delta)).delta !== null);
  await Promise.all([okta.close(), other.close()]);
});

test("okta: the settings want one proof, and the organization's own address", () => {
  const adapter = findAdapter("okta");
  const problem = (section: object): string => adapter?.settings.safeParse(section).error?.message ?? "";
  assert.equal(problem({ url: "https://example.okta.com", api_token: "x" }), "");
  assert.match(problem({ url: "https://example.okta.com" }), /write either this/);
  assert.match(problem({ url: "https://example.okta.com", client_id: "x" }), /needs private_key/);
  assert.match(problem({ url: "https://example.okta.com/oauth2/default", api_token: "x" }), /without a path/);
  assert.match(problem({ url: "https://example.okta.com", api_token: "x", tokn: "y" }), /tokn/);
});
