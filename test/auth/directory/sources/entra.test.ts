import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, X509Certificate } from "node:crypto";
import { test } from "node:test";
import { jwtVerify } from "jose";
import { findAdapter } from "../../../../src/auth/directory/directory-adapters.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { entraAdapter } from "../../../../src/auth/directory/sources/entra/entra-adapter.ts";
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
  pageSize,
  startFixture,
} from "../fixture-server.ts";
import { rejectsWith } from "../rejects-with.ts";
import { rsaCertificate } from "../rsa-certificate.ts";

const tenant = "contoso.onmicrosoft.com";
const clientId = "11111111-2222-3333-4444-555555555555";
const signal = (): AbortSignal => AbortSignal.timeout(10_000);

type Extra = {
  fields: object;
  /** What `users/delta` and `groups/delta` show of each version of the directory. */
  history: DirectoryContent[];
  /** The status and code of the next answer about a token. */
  expired: Readonly<{ status: number; code: string }> | null;
  /** A change names only these properties of a person. */
  changedOnly: boolean;
  endless: boolean;
  /** In a full run, objects that were removed earlier are listed too. */
  listsRemoved: boolean;
  forms: URLSearchParams[];
};
type Graph = Fixture &
  Readonly<{ extra: Extra; open: (more?: object) => DirectorySource; set: ControlledDirectory["set"] }>;

async function startGraph(): Promise<Graph> {
  const extra: Extra = {
    fields: {},
    history: [{ people: [], groups: [] }],
    expired: null,
    changedOnly: false,
    endless: false,
    listsRemoved: false,
    forms: [],
  };
  const fixture = await startFixture({
    limited: () => ({ status: 429, headers: { "retry-after": "2" }, body: { error: { code: "TooManyRequests" } } }),
    refused: ({ path }) =>
      path.endsWith("/token")
        ? { status: 401, body: { error: "invalid_client", error_description: "AADSTS7000215" } }
        : { status: 401, body: { error: { code: "InvalidAuthenticationToken" } } },
    answer(request, { base }) {
      if (request.path !== `/${tenant}/oauth2/v2.0/token`) return graphAnswer(request, base, extra);
      const form = new URLSearchParams(request.body);
      extra.forms.push(form);
      assert.equal(form.get("grant_type"), "client_credentials");
      assert.equal(form.get("scope"), `${base.origin}/.default`);
      return { body: { token_type: "Bearer", expires_in: 3599, ext_expires_in: 3599, access_token: "eyJ0.token" } };
    },
  });
  const settings = {
    tenant_id: tenant,
    client_id: clientId,
    login_url: fixture.base.href,
    graph_url: fixture.base.href,
  };
  return {
    ...fixture,
    extra,
    open: (more = { client_secret: "s3cret" }) => entraAdapter.open({ ...settings, ...more }, fixture.parts),
    set(content) {
      extra.history.push(content);
    },
  };
}

function graphAnswer({ path, query, headers }: FixtureRequest, base: URL, extra: Extra): FixtureAnswer {
  if (headers.authorization !== "Bearer eyJ0.token") return { status: 401, body: { error: { code: "x" } } };
  const version = extra.history.length - 1;
  const present = extra.history[version] ?? { people: [], groups: [] };
  const list = /^\/v1\.0\/(users|groups)\/delta$/.exec(path)?.[1];
  if (list === undefined) return personAnswer(path, present, extra);
  const skip = query.get("$skiptoken");
  const delta = query.get("$deltatoken");
  if (extra.expired !== null && (skip ?? delta) !== null && delta !== "latest")
    return { status: extra.expired.status, body: { error: { code: extra.expired.code, message: "no" } } };
  const link = (text: string): string => `${base.href}v1.0/${list}/delta?${text}`;
  if (delta === "latest") {
    assert.ok(query.get("$select") !== null);
    return { body: { "@odata.deltaLink": link(`$deltatoken=${version}`), value: [] } };
  }
  // A token has everything that the first request said.
  const [from, to, offset] = skip?.split(".").map(Number) ?? [delta === null ? -1 : Number(delta), version, 0];
  if (from === undefined || to === undefined || offset === undefined) return { status: 400 };
  const before = extra.history[from];
  const now = extra.history[to] ?? present;
  const values = list === "users" ? userValues(before, now, extra) : groupValues(before, now, extra);
  const { items, next } = pageOf(values, offset);
  const ends =
    next === null
      ? { "@odata.deltaLink": link(`$deltatoken=${to}`) }
      : { "@odata.nextLink": link(`$skiptoken=${from}.${to}.${extra.endless ? offset : next}`) };
  return { body: { "@odata.context": `${base.href}v1.0/$metadata#${list}`, ...ends, value: items, ...extra.fields } };
}

function userValues(before: DirectoryContent | undefined, now: DirectoryContent, extra: Extra): object[] {
  const whole = (person: DirectoryContent["people"][number]): object => ({
    id: person.id,
    userPrincipalName: person.userName,
    mail: person.email,
    displayName: person.name,
    accountEnabled: person.active,
    ...extra.fields,
  });
  const old = new Map(before?.people.map((person) => [person.id, JSON.stringify(person)]));
  const changed = now.people.filter((person) => old.get(person.id) !== JSON.stringify(person));
  const gone = [...old.keys()].filter((id) => !now.people.some((person) => person.id === id));
  return [
    ...changed.map((person) =>
      before !== undefined && extra.changedOnly ? { id: person.id, displayName: person.name } : whole(person),
    ),
    ...gone.map((id) => ({ id, "@removed": { reason: "changed" } })),
    ...(before === undefined && extra.listsRemoved ? [{ id: "gone", "@removed": { reason: "deleted" } }] : []),
  ];
}

/** The members of a group are spread over several entries of the group. */
function groupValues(before: DirectoryContent | undefined, now: DirectoryContent, extra: Extra): object[] {
  const edges = (group: DirectoryContent["groups"][number] | undefined): Map<string, string> =>
    new Map([
      ...(group?.people ?? []).map((id) => [id, "#microsoft.graph.user"] as const),
      ...(group?.groups ?? []).map((id) => [id, "#microsoft.graph.group"] as const),
    ]);
  const values: object[] = [];
  for (const group of now.groups) {
    const old = before?.groups.find((each) => each.id === group.id);
    const [was, is] = [edges(old), edges(group)];
    const changes = [
      ...[...is].filter(([id]) => !was.has(id)).map(([id, type]) => ({ "@odata.type": type, id })),
      ...[...was]
        .filter(([id]) => !is.has(id))
        .map(([id, type]) => {
          return { "@odata.type": type, id, "@removed": { reason: "deleted" } };
        }),
      ...(old === undefined ? [{ "@odata.type": "#microsoft.graph.device", id: "a-laptop" }] : []),
    ];
    if (changes.length === 0 && old?.name === group.name) continue;
    for (let at = 0; at === 0 || at < changes.length; at += pageSize) {
      const members = changes.slice(at, at + pageSize);
      values.push({
        id: group.id,
        displayName: group.name,
        ...(members.length > 0 && { "members@delta": members }),
        ...extra.fields,
      });
    }
  }
  for (const old of before?.groups ?? [])
    if (!now.groups.some((group) => group.id === old.id))
      values.push({ id: old.id, "@removed": { reason: "changed" } });
  return values;
}

function personAnswer(path: string, { people, groups }: DirectoryContent, extra: Extra): FixtureAnswer {
  const [, id = "", sub] = /^\/v1\.0\/users\/([^/]+)(\/memberOf)?$/.exec(path) ?? [];
  const person = people.find((each) => each.id === id);
  if (person === undefined) return { status: 404, body: { error: { code: "Request_ResourceNotFound" } } };
  if (sub === undefined)
    return { body: userValues(undefined, { people: [person], groups: [] }, { ...extra, listsRemoved: false })[0] };
  const own = groups.filter((group) => group.people.includes(id));
  const role = { "@odata.type": "#microsoft.graph.directoryRole", id: "role", displayName: "Global Reader" };
  return {
    body: {
      value: [
        role,
        ...own.map((group) => ({ "@odata.type": "#microsoft.graph.group", id: group.id, displayName: group.name })),
      ],
    },
  };
}

async function entraDirectory(): Promise<ControlledDirectory> {
  const graph = await startGraph();
  return {
    ...controlledFixture(graph),
    set: graph.set,
    open: () => graph.open(),
    addUnknownFields() {
      graph.extra.fields = { "@odata.etag": "x", onPremises: { deep: [1] } };
    },
  };
}

directorySourceContract(
  "entra",
  { faults: ["limited", "unavailable", "cut", "refused"], nestedGroups: true, delta: true, duplicates: true },
  entraDirectory,
);

const ada = { id: "a", userName: "ada@example.com", email: "ada@example.com", name: "Ada", active: true };
const bob = { ...ada, id: "b", userName: "bob@example.com", email: null, name: "Bob" };
const team = (people: readonly string[], groups: readonly string[] = []) => ({
  id: "g1",
  name: "Team",
  people,
  groups,
});

test("entra: a delta has the changes alone: people, groups, and members who came or went", async () => {
  const graph = await startGraph();
  graph.set({
    people: [ada, bob],
    groups: [team(["a", "b"], ["g2"]), { id: "g2", name: "Inner", people: [], groups: [] }],
  });
  const { delta } = await readAll(graph.open());
  const eve = { ...ada, id: "e" };
  graph.set({ people: [{ ...ada, active: false }, eve], groups: [team(["a", "e"])] });
  const changes = await readAll(graph.open(), delta);
  assert.deepEqual([...changes.people.values()], [{ ...ada, active: false }, eve]);
  assert.deepEqual(changes.removedPeople, ["b"]);
  assert.deepEqual([...(changes.members.get("g1") ?? [])], ["e"]);
  assert.deepEqual(changes.removedMembers, ["b"]);
  const again = await readAll(graph.open(), changes.delta);
  assert.equal(again.people.size + again.groups.size + again.removedPeople.length, 0);
  await graph.close();
});

test("entra: what is removed during a full run is removed by the next one", async () => {
  const graph = await startGraph();
  const others = [1, 2, 3, 4].map((n) => ({ ...ada, id: `p${n}` }));
  graph.set({ people: [ada, ...others], groups: [team(["a"])] });
  const source = graph.open();
  let page = await source.read({ since: null, cursor: null, signal: signal() });
  assert.ok(page.people.some(({ id }) => id === "a"));
  graph.set({ people: others, groups: [team([])] });
  graph.extra.listsRemoved = true;
  while (page.next !== null) page = await source.read({ since: null, cursor: page.next, signal: signal() });
  const changes = await readAll(graph.open(), page.delta);
  assert.deepEqual(changes.removedPeople, ["a"]);
  assert.deepEqual(changes.removedMembers, ["a"]);
  await graph.close();
});

test("entra: a change that names a person by the changed properties alone reads the person", async () => {
  const graph = await startGraph();
  graph.set({ people: [ada], groups: [] });
  const { delta } = await readAll(graph.open());
  graph.extra.changedOnly = true;
  graph.set({ people: [{ ...ada, name: "Ada L.", active: false }], groups: [] });
  const changes = await readAll(graph.open(), delta);
  assert.deepEqual([...changes.people.values()], [{ ...ada, name: "Ada L.", active: false }]);
  await graph.close();
});

for (const [status, code] of [
  [410, "resyncRequired"],
  [400, "syncStateNotFound"],
  [400, "SyncStateInvalid"],
] as const)
  test(`entra: ${status} ${code} asks for a full run`, async () => {
    const graph = await startGraph();
    graph.set({ people: [ada], groups: [] });
    const { delta } = await readAll(graph.open());
    graph.extra.expired = { status, code };
    await rejectsWith(readAll(graph.open(), delta), "deltaExpired", /no longer has the changes/);
    await graph.close();
  });

test("entra: a 400 of another kind does not begin full runs without end", async () => {
  const graph = await startGraph();
  graph.set({ people: [ada], groups: [] });
  const { delta } = await readAll(graph.open());
  graph.extra.expired = { status: 400, code: "Request_BadRequest" };
  await rejectsWith(readAll(graph.open(), delta), "malformed", /400/);
  await graph.close();
});

test("entra: a list without end is refused", async () => {
  const graph = await startGraph();
  graph.set({ people: [1, 2, 3, 4, 5].map((n) => ({ ...ada, id: `p${n}` })), groups: [] });
  const source = graph.open();
  graph.extra.endless = true;
  const first = await source.read({ since: null, cursor: null, signal: signal() });
  await rejectsWith(source.read({ since: null, cursor: first.next, signal: signal() }), "malformed", /without end/);
  await graph.close();
});

test("entra: one person is read with their groups, without roles", async () => {
  const graph = await startGraph();
  graph.set({ people: [ada], groups: [team(["a"])] });
  const page = await graph.open().readPerson?.("a", signal());
  assert.deepEqual(page?.groups, [{ id: "g1", name: "Team" }]);
  assert.deepEqual(page?.members, [{ groupId: "g1", people: ["a"], groups: [] }]);
  assert.equal(await graph.open().readPerson?.("nobody", signal()), null);
  await graph.close();
});

test("entra: a certificate proves the application, with PS256 and the thumbprint that Entra ID compares", async () => {
  const { cert, key } = await rsaCertificate();
  const graph = await startGraph();
  graph.set({ people: [ada], groups: [] });
  await readAll(graph.open({ certificate: cert, certificate_key: key }));
  const [form] = graph.extra.forms;
  assert.equal(form?.get("client_secret"), null);
  assert.equal(form?.get("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
  const leaf = new X509Certificate(cert);
  const { payload, protectedHeader } = await jwtVerify(form?.get("client_assertion") ?? "", leaf.publicKey, {
    audience: new URL(`/${tenant}/oauth2/v2.0/token`, graph.base).href,
    issuer: clientId,
    subject: clientId,
  });
  assert.equal(protectedHeader.alg, "PS256");
  assert.equal(
    (protectedHeader as { "x5t#S256"?: string })["x5t#S256"],
    createHash("sha256").update(leaf.raw).digest("base64url"),
  );
  assert.ok(payload.jti !== undefined && (payload.exp ?? 0) - (payload.nbf ?? 0) <= 600);
  await graph.close();
});

test("entra: the settings want one proof, and a key that fits the certificate", async () => {
  const adapter = findAdapter("entra");
  const { cert, key } = await rsaCertificate();
  const other = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
  const base = { tenant_id: tenant, client_id: clientId };
  const problem = (more: object): string => adapter?.settings.safeParse({ ...base, ...more }).error?.message ?? "";
  assert.equal(problem({ client_secret: "x" }), "");
  assert.equal(problem({ certificate: cert, certificate_key: key }), "");
  assert.match(problem({}), /write either this/);
  assert.match(problem({ client_secret: "x", certificate: cert, certificate_key: key }), /write either this/);
  assert.match(problem({ certificate: cert }), /needs certificate_key/);
  assert.match(problem({ certificate: cert, certificate_key: other }), /is not the key of certificate/);
  assert.match(problem({ tenant_id: "../evil", client_secret: "x" }), /is not a tenant/);
  assert.match(problem({ client_secret: "x", graph_url: "http://graph.example.com" }), /must be https/);
});
