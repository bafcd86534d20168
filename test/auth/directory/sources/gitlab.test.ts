import assert from "node:assert/strict";
import { test } from "node:test";
import { findAdapter } from "../../../../src/auth/directory/directory-adapters.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { gitlabAdapter } from "../../../../src/auth/directory/sources/gitlab/gitlab-adapter.ts";
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

type Extra = {
  fields: object;
  /** Called before each page of members. */
  onMembers: () => void;
  email: object;
};
type Gitlab = Fixture & Readonly<{ extra: Extra; open: (more?: object) => DirectorySource }>;

async function startGitlab(): Promise<Gitlab> {
  const extra: Extra = { fields: {}, onMembers: () => {}, email: { confirmed_at: "2020-01-01T00:00:00.000Z" } };
  const fixture = await startFixture({
    limited: () => {
      const now = Math.floor(Date.now() / 1_000);
      const headers = { "ratelimit-remaining": "0", "ratelimit-reset": String(now + 2) };
      return { status: 429, headers: { ...headers, date: new Date(now * 1_000).toUTCString() }, body: "Retry later" };
    },
    refused: () => ({ status: 401, body: { message: "401 Unauthorized" } }),
    answer: (request, { base, content }) => apiAnswer(request, { base, content, extra }),
  });
  const url = new URL("gitlab", fixture.base).href;
  return {
    ...fixture,
    extra,
    open: (more = { all_users: true }) => gitlabAdapter.open({ url, token: "glpat-token", ...more }, fixture.parts),
  };
}

function apiAnswer(
  { path, query, headers }: FixtureRequest,
  { base, content, extra }: Readonly<{ base: URL; content: Fixture["content"]; extra: Extra }>,
): FixtureAnswer {
  if (headers["private-token"] !== "glpat-token") return { status: 401, body: { message: "401 Unauthorized" } };
  const [, rest = ""] = /^\/gitlab\/api\/v4\/(.*)$/.exec(path) ?? [];
  const size = query.get("per_page");
  const paged = (all: readonly object[], by: "page" | "id_after"): FixtureAnswer => {
    assert.equal(size, "100");
    const page = Number(query.get("page") ?? 1);
    const offset = by === "page" ? 3 * (page - 1) : Number(query.get("id_after") ?? 0);
    const { items, next } = pageOf(all, offset);
    const following = new URL(path, base);
    following.search = query.toString();
    following.searchParams.set(by, String(by === "page" ? page + 1 : next));
    const link = next === null ? "" : `<${following}>; rel="next"`;
    // A list by keyset has no total.
    return { headers: { link, ...(by === "page" && { "x-total": String(all.length) }) }, body: items };
  };
  const account = ({ id, userName, name, active, email }: (typeof content.value.people)[number]) => ({
    id: Number(id),
    username: userName,
    name,
    state: active ? "active" : "blocked",
    avatar_url: null,
    web_url: "x",
    ...extra.fields,
    ...(query.get("pagination") === "keyset" && { email, ...extra.email }),
  });
  const groupOf = ({ id, name }: Readonly<{ id: string; name: string }>) => ({
    id: Number(id),
    full_path: name,
    name: "x",
    parent_id: null,
    ...extra.fields,
  });
  const { people, groups } = content.value;
  if (rest === "users") {
    assert.equal(query.get("order_by"), "id");
    return paged(people.map(account), "id_after");
  }
  if (rest === "groups") return paged(groups.map(groupOf), "page");
  const [, key = "", sub] = /^groups\/([^/]+)(\/.*)?$/.exec(rest) ?? [];
  const group = groups.find(({ id, name }) => id === key || encodeURIComponent(name) === key);
  const missing = { status: 404, body: { message: "404 Group Not Found" } };
  if (group === undefined) return missing;
  if (sub === undefined) return { body: groupOf(group) };
  if (sub === "/descendant_groups")
    return paged(groups.filter((each) => group.groups.includes(each.id)).map(groupOf), "page");
  if (sub !== "/members/all") return missing;
  const members = people
    .filter(({ id }) => group.people.includes(id))
    .map((person) => ({ ...account(person), access_level: 30 }));
  const answer = paged(members, "page");
  extra.onMembers();
  return answer;
}

async function gitlabDirectory(): Promise<ControlledDirectory> {
  const gitlab = await startGitlab();
  return {
    ...controlledFixture(gitlab),
    open: () => gitlab.open(),
    addUnknownFields() {
      gitlab.extra.fields = { group_saml_identity: { deep: [1] }, locked: false };
    },
  };
}

directorySourceContract(
  "gitlab",
  {
    faults: ["limited", "unavailable", "cut", "refused"],
    nestedGroups: false,
    delta: false,
    duplicates: true,
    membersApart: true,
    personId: (n) => String(100 + n),
    groupId: (n) => String(10 + n),
  },
  gitlabDirectory,
);

const ada = { id: "1", userName: "ada", email: "ada@example.com", name: "Ada", active: true };
const people = [1, 2, 3, 4, 5].map((n) => ({
  ...ada,
  id: String(n),
  userName: `user${n}`,
  email: `user${n}@example.com`,
}));
const ids = people.map(({ id }) => id);

test("gitlab: a group is read with its subgroups, and people from the lists of members, without e-mail", async () => {
  const gitlab = await startGitlab();
  const root = { id: "20", name: "acme/tools", people: ids.slice(0, 4), groups: ["21"] };
  const inner = { id: "21", name: "acme/tools/core", people: ids, groups: [] };
  gitlab.content.value = { people, groups: [root, inner, { id: "22", name: "other", people: ids, groups: [] }] };
  const read = await readAll(gitlab.open({ group: "acme/tools" }));
  assert.deepEqual(
    [...read.groups],
    [
      ["20", "acme/tools"],
      ["21", "acme/tools/core"],
    ],
  );
  assert.deepEqual([...(read.members.get("20") ?? [])], ids.slice(0, 4));
  assert.deepEqual([...(read.members.get("21") ?? [])], ids);
  assert.deepEqual(
    [...read.people.values()].map(({ email }) => email),
    [null, null, null, null, null],
  );
  await gitlab.close();
});

test("gitlab: members who move while a list is read make the run partial", async () => {
  const gitlab = await startGitlab();
  const group = { id: "20", name: "acme", people: ids, groups: [] };
  gitlab.content.value = { people, groups: [group] };
  gitlab.extra.onMembers = () => {
    gitlab.content.value = { people, groups: [{ ...group, people: ids.slice(1) }] };
  };
  const read = await readAll(gitlab.open());
  // The fourth person moved to the page that had been read.
  assert.equal(read.members.get("20")?.has("4"), false);
  assert.deepEqual(read.problems, ["the list changed while it was read"]);
  await gitlab.close();
});

test("gitlab: an address that its owner has not confirmed does not count", async () => {
  const gitlab = await startGitlab();
  gitlab.content.value = { people, groups: [] };
  gitlab.extra.email = { confirmed_at: null };
  const read = await readAll(gitlab.open());
  assert.ok([...read.people.values()].every(({ email }) => email === null));
  await gitlab.close();
});

test("gitlab: a group that is not visible is an error, not an empty directory", async () => {
  const gitlab = await startGitlab();
  await rejectsWith(readAll(gitlab.open({ group: "acme" })), "malformed", /does not know the group, or hides it/);
  await gitlab.close();
});

test("gitlab: the settings want a group, or everyone", () => {
  const adapter = findAdapter("gitlab");
  const problem = (section: object): string => adapter?.settings.safeParse(section).error?.message ?? "";
  assert.equal(problem({ group: 9, token: "x" }), "");
  assert.equal(problem({ all_users: true, token: "x" }), "");
  assert.match(problem({ token: "x" }), /is missing, and all_users is not set/);
});
