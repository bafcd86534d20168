import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { jwtVerify } from "jose";
import { findAdapter } from "../../../../src/auth/directory/directory-adapters.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { googleAdapter } from "../../../../src/auth/directory/sources/google/google-adapter.ts";
import { type ControlledDirectory, directorySourceContract, readAll } from "../../../contract/directory-source.ts";
import {
  controlledFixture,
  type Fixture,
  type FixtureAnswer,
  type FixtureRequest,
  pageOf,
  startFixture,
} from "../fixture-server.ts";
import { rejectsWith } from "../rejects-with.ts";

const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const administrator = "admin@example.com";
const clientEmail = "sync@project.iam.gserviceaccount.com";
const signal = (): AbortSignal => AbortSignal.timeout(10_000);

type Extra = { fields: object; hidden: Set<string>; everyone: Set<string>; quota: boolean };

async function startGoogle(): Promise<Fixture & Readonly<{ extra: Extra; open: () => DirectorySource }>> {
  const extra: Extra = { fields: {}, hidden: new Set(), everyone: new Set(), quota: false };
  const fixture = await startFixture({
    limited: () => ({ status: 429, headers: { "retry-after": "2" } }),
    refused: ({ path }) =>
      path === "/token"
        ? { status: 400, body: { error: "invalid_grant", error_description: "Invalid JWT Signature." } }
        : refusal(401, "authError"),
    answer: (request, { base, content }) =>
      request.path === "/token" ? tokenAnswer(request, base) : apiAnswer(request, content.value, extra),
  });
  const account = {
    type: "service_account",
    project_id: "project",
    client_email: clientEmail,
    private_key_id: "k1",
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
    token_uri: new URL("/token", fixture.base).href,
  };
  const settings = { service_account_key: JSON.stringify(account), administrator, api_url: fixture.base.href };
  return { ...fixture, extra, open: () => googleAdapter.open(settings, fixture.parts) };
}

async function tokenAnswer({ body }: FixtureRequest, base: URL): Promise<FixtureAnswer> {
  const form = new URLSearchParams(body);
  assert.equal(form.get("grant_type"), "urn:ietf:params:oauth:grant-type:jwt-bearer");
  const { payload, protectedHeader } = await jwtVerify(form.get("assertion") ?? "", publicKey, {
    audience: new URL("/token", base).href,
    issuer: clientEmail,
    subject: administrator,
  });
  assert.equal(protectedHeader.kid, "k1");
  assert.equal(
    payload["scope"],
    "https://www.googleapis.com/auth/admin.directory.user.readonly https://www.googleapis.com/auth/admin.directory.group.readonly",
  );
  assert.ok((payload.exp ?? 0) - (payload.iat ?? 0) <= 3_600);
  return { body: { access_token: "ya29.token", expires_in: 3599, token_type: "Bearer" } };
}

function apiAnswer(request: FixtureRequest, content: Fixture["content"]["value"], extra: Extra): FixtureAnswer {
  const { path, query, headers } = request;
  if (headers.authorization !== "Bearer ya29.token") return refusal(401, "authError");
  if (extra.quota) return refusal(403, "quotaExceeded");
  const [resource, id, sub] = path.replace("/admin/directory/v1/", "").split("/").map(decodeURIComponent);
  const offset = Number(query.get("pageToken") ?? 0);
  const list = (kind: string, name: string, all: readonly object[]): FixtureAnswer => {
    const { items, next } = pageOf(all, offset);
    return {
      body: {
        kind: `admin#directory#${kind}`,
        etag: '"etag"',
        // Google leaves out an empty list.
        ...(items.length > 0 && { [name]: items }),
        ...(next !== null && { nextPageToken: String(next) }),
        ...extra.fields,
      },
    };
  };
  const people = content.people.map((person) => ({
    kind: "admin#directory#user",
    id: person.id,
    primaryEmail: person.email,
    name: { givenName: "User", familyName: "X", fullName: person.name },
    isAdmin: false,
    suspended: !person.active,
    archived: false,
    customerId: "C0123",
    ...extra.fields,
  }));
  const groups = content.groups.map(({ id: groupId, name }) => {
    return {
      kind: "admin#directory#group",
      id: groupId,
      email: name,
      name: `The ${name}`,
      directMembersCount: "3",
      ...extra.fields,
    };
  });
  if (resource === "users" && id === undefined)
    return query.get("customer") === "my_customer" ? list("users", "users", people) : refusal(404, "notFound");
  if (resource === "users") {
    const found = people.find((person) => person.id === id);
    return found === undefined ? refusal(404, "notFound") : { body: found };
  }
  if (sub === undefined) {
    const userKey = query.get("userKey");
    const own = content.groups.filter((group) => userKey === null || group.people.includes(userKey));
    return list(
      "groups",
      "groups",
      groups.filter((group) => own.some((each) => each.id === group.id)),
    );
  }
  if (extra.hidden.has(id ?? "")) return refusal(403, "forbidden");
  const group = content.groups.find((each) => each.id === id);
  if (group === undefined) return refusal(404, "notFound");
  const members = [
    ...(extra.everyone.has(group.id) ? [{ kind: "admin#directory#member", id: "C0123", type: "CUSTOMER" }] : []),
    ...group.people.map((each) => ({
      kind: "admin#directory#member",
      id: each,
      role: "MEMBER",
      type: "USER",
      status: "ACTIVE",
      ...extra.fields,
    })),
    ...group.groups.map((each) => ({
      kind: "admin#directory#member",
      id: each,
      role: "MEMBER",
      type: "GROUP",
      ...extra.fields,
    })),
    { kind: "admin#directory#member", email: "guest@elsewhere.example", role: "MEMBER", type: "USER" },
  ];
  return list("members", "members", members);
}

function refusal(code: number, reason: string): FixtureAnswer {
  return {
    status: code,
    body: { error: { code, message: "no", errors: [{ message: "no", domain: "global", reason }] } },
  };
}

async function googleDirectory(): Promise<ControlledDirectory> {
  const google = await startGoogle();
  return {
    ...controlledFixture(google),
    open: google.open,
    addUnknownFields() {
      google.extra.fields = { thumbnail: { deep: [1] }, nonEditableAliases: ["x"] };
    },
    hideGroup: (groupId) => google.extra.hidden.add(groupId),
  };
}

directorySourceContract(
  "google",
  {
    faults: ["limited", "unavailable", "cut", "refused"],
    nestedGroups: true,
    delta: false,
    membersApart: true,
    duplicates: true,
  },
  googleDirectory,
);

const ada = { id: "101", userName: "ada@example.com", email: "ada@example.com", name: "Ada", active: true };
const bob = { ...ada, id: "102", userName: "bob@example.com", email: "bob@example.com", name: "Bob" };

test("google: a group that everyone belongs to has all people, and its other members", async () => {
  const google = await startGoogle();
  const groups = [{ id: "g1", name: "all@example.com", people: ["999"], groups: ["g2"] }];
  google.content.value = { people: [ada, bob, { ...ada, id: "103" }, { ...ada, id: "104" }], groups };
  google.extra.everyone.add("g1");
  const read = await readAll(google.open());
  assert.deepEqual([...(read.members.get("g1") ?? [])].sort(), ["101", "102", "103", "104", "999"]);
  assert.deepEqual([...(read.inner.get("g1") ?? [])], ["g2"]);
  await google.close();
});

test("google: an exhausted quota is a limit, although it comes as 403", async () => {
  const google = await startGoogle();
  google.extra.quota = true;
  await rejectsWith(google.open().read({ since: null, cursor: null, signal: signal() }), "limited", /quota/);
  await google.close();
});

test("google: one person is read with their groups, and null if Google has no such person", async () => {
  const google = await startGoogle();
  const group = (n: number) => ({
    id: `g${n}`,
    name: `team${n}@example.com`,
    people: n === 5 ? [] : ["101"],
    groups: [],
  });
  google.content.value = { people: [ada, bob], groups: [1, 2, 3, 4, 5].map(group) };
  const source = google.open();
  const page = await source.readPerson?.("101", signal());
  assert.deepEqual(page?.people, [ada]);
  assert.deepEqual(
    page?.members.map(({ groupId }) => groupId),
    ["g1", "g2", "g3", "g4"],
  );
  assert.equal(await source.readPerson?.("999", signal()), null);
  await assert.rejects(async () => source.readPerson?.("../groups", signal()), /characters/);
  await google.close();
});

test("google: a token is requested once, and again after it was refused", async () => {
  const google = await startGoogle();
  google.content.value = { people: [ada, bob, { ...ada, id: "3" }, { ...ada, id: "4" }], groups: [] };
  const source = google.open();
  const first = await source.read({ since: null, cursor: null, signal: signal() });
  await source.read({ since: null, cursor: first.next, signal: signal() });
  const tokens = (): number => google.requests.filter(({ path }) => path === "/token").length;
  assert.equal(tokens(), 1);
  google.fail("refused", 0);
  await rejectsWith(source.read({ since: null, cursor: first.next, signal: signal() }), "unauthorized", /token/);
  google.heal();
  await source.read({ since: null, cursor: first.next, signal: signal() });
  assert.equal(tokens(), 2);
  await google.close();
});

test("google: a refused assertion names the difference of the clocks", async () => {
  const google = await startGoogle();
  google.skewMs.value = 600_000;
  google.fail("refused", 0);
  const read = google.open().read({ since: null, cursor: null, signal: signal() });
  await rejectsWith(read, "unauthorized", /invalid_grant.*the clock here is (599|600|601) s ahead of its own/);
  await google.close();
});

test("google: the settings refuse what is no key of a service account, and never quote it", () => {
  const adapter = findAdapter("google_workspace");
  for (const key of ["secret text", JSON.stringify({ type: "authorized_user", client_secret: "secret text" })]) {
    const parsed = adapter?.settings.safeParse({ service_account_key: key, administrator });
    assert.equal(parsed?.success, false);
    assert.match(parsed?.error?.message ?? "", /is not the JSON key of a service account/);
    assert.doesNotMatch(parsed?.error?.message ?? "", /secret text/);
  }
});
