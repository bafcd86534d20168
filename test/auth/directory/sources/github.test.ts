import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { jwtVerify } from "jose";
import { findAdapter } from "../../../../src/auth/directory/directory-adapters.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { githubAdapter } from "../../../../src/auth/directory/sources/github/github-adapter.ts";
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

type Extra = {
  fields: object;
  /** Called before each page of a list. */
  onList: () => void;
  membership: FixtureAnswer;
  permissions: Readonly<Record<string, string>>;
  next: FixtureAnswer | null;
};
type Github = Fixture & Readonly<{ extra: Extra; open: (more?: object) => DirectorySource }>;

async function startGithub(): Promise<Github> {
  const extra: Extra = {
    fields: {},
    onList: () => {},
    membership: { body: { state: "active", role: "member" } },
    permissions: { members: "read", metadata: "read" },
    next: null,
  };
  const fixture = await startFixture({
    limited: () => ({
      status: 403,
      headers: { "retry-after": "2" },
      body: { message: "You have exceeded a secondary rate limit." },
    }),
    refused: () => ({ status: 401, body: { message: "Bad credentials" } }),
    async answer(request, { base, content }) {
      const { next } = extra;
      extra.next = null;
      if (next !== null) return next;
      assert.equal(request.headers["user-agent"], "cardea");
      assert.equal(request.headers["x-github-api-version"], "2022-11-28");
      if (request.method === "POST") return installationToken(request, extra);
      if (request.query.get("page") !== null) extra.onList();
      return apiAnswer(request, { base, content: content.value, extra });
    },
  });
  return {
    ...fixture,
    extra,
    open: (more = { token: "ghp_token" }) =>
      githubAdapter.open({ organization: "octo-org", api_url: fixture.base.href, ...more }, fixture.parts),
  };
}

async function installationToken({ path, headers, body }: FixtureRequest, extra: Extra): Promise<FixtureAnswer> {
  assert.equal(path, "/app/installations/77/access_tokens");
  const { payload } = await jwtVerify(headers.authorization?.slice("Bearer ".length) ?? "", publicKey, {
    issuer: "42",
  });
  assert.ok((payload.exp ?? 0) - (payload.iat ?? 0) <= 600);
  assert.deepEqual(JSON.parse(body), { permissions: { members: "read" } });
  const expiresAt = new Date(Date.now() + 3_600_000).toISOString().replace(".000", "");
  return {
    status: 201,
    body: { token: "ghs_token", expires_at: expiresAt, permissions: extra.permissions, repository_selection: "all" },
  };
}

function apiAnswer(
  { path, query, headers }: FixtureRequest,
  { base, content, extra }: Readonly<{ base: URL; content: Fixture["content"]["value"]; extra: Extra }>,
): FixtureAnswer {
  if (headers.authorization !== "Bearer ghp_token" && headers.authorization !== "Bearer ghs_token")
    return { status: 401, body: { message: "Bad credentials" } };
  const list = (all: readonly object[], canonical: string): FixtureAnswer => {
    const page = Number(query.get("page") ?? 1);
    const { items, next } = pageOf(all, 3 * (page - 1));
    const etag = `W/"${createHash("sha256").update(JSON.stringify(items)).digest("hex")}"`;
    if (headers["if-none-match"] === etag) return { status: 304, headers: { etag } };
    const linkTo = (number: number, relation: string): string =>
      `<${new URL(`${canonical}?per_page=100&page=${number}`, base)}>; rel="${relation}"`;
    const links = [
      ...(page > 1 ? [linkTo(page - 1, "prev")] : []),
      ...(next === null ? [] : [linkTo(page + 1, "next")]),
    ];
    return { headers: { etag, link: links.join(", ") }, body: items };
  };
  const users = content.people
    .filter(({ active }) => active)
    .map(({ id, userName }) => ({
      login: userName,
      id: Number(id),
      node_id: "x",
      type: "User",
      site_admin: false,
      ...extra.fields,
    }));
  const organization = /^\/orgs\/octo-org\b/.test(path) || path.startsWith("/organizations/9/");
  const rest = path.replace(/^\/(orgs\/octo-org|organizations\/9)\/?/, "");
  if (path === "/user/memberships/orgs/octo-org") return extra.membership;
  if (!organization) return { status: 404, body: { message: "Not Found" } };
  if (rest === "") return { body: { login: "octo-org", id: 9, ...extra.fields } };
  if (rest === "members") return list(users, "organizations/9/members");
  if (rest === "teams")
    return list(
      content.groups.map(({ id, name }) => ({
        id: Number(id),
        slug: name,
        name: `Team ${name}`,
        privacy: "closed",
        parent: null,
        ...extra.fields,
      })),
      "organizations/9/teams",
    );
  const [, id = ""] = /^team\/(\d+)\/members$/.exec(rest) ?? [];
  const team = content.groups.find((group) => group.id === id);
  if (team === undefined) return { status: 404, body: { message: "Not Found" } };
  // GitHub lists the members of the teams inside a team too.
  const people = new Set(
    [team, ...content.groups.filter((group) => team.groups.includes(group.id))].flatMap((each) => each.people),
  );
  return list(
    users.filter((user) => people.has(String(user.id))),
    `organizations/9/team/${id}/members`,
  );
}

async function githubDirectory(): Promise<ControlledDirectory> {
  const github = await startGithub();
  return {
    ...controlledFixture(github),
    open: () => github.open(),
    addUnknownFields() {
      github.extra.fields = { gravatar_id: "", deep: [{ more: 1 }] };
    },
  };
}

directorySourceContract(
  "github",
  {
    faults: ["limited", "unavailable", "cut", "refused"],
    nestedGroups: true,
    delta: false,
    duplicates: true,
    membersApart: true,
    withoutEmail: true,
    personId: (n) => String(1_000 + n),
    groupId: (n) => String(50 + n),
  },
  githubDirectory,
);

const ada = { id: "1", userName: "ada", email: null, name: "ada", active: true };
const people = [1, 2, 3, 4].map((n) => ({ ...ada, id: String(n), userName: `user${n}` }));
const groups = [{ id: "7", name: "core", people: ["1", "2"], groups: [] }];

test("github: a request names the ETag of the answer that was kept, which counts if nothing has changed", async () => {
  const github = await startGithub();
  github.content.value = { people, groups };
  const source = github.open();
  const readOnce = async () => {
    const ids: string[] = [];
    let cursor: string | null = null;
    do {
      const page = await source.read({ since: null, cursor, signal: AbortSignal.timeout(10_000) });
      ids.push(...page.people.map(({ id }) => id), ...page.members.flatMap((each) => each.people));
      cursor = page.next;
    } while (cursor !== null);
    return ids;
  };
  const first = await readOnce();
  const before = github.requests.length;
  assert.deepEqual(await readOnce(), first);
  const later = github.requests.slice(before).filter(({ path }) => /members$|teams$/.test(path));
  assert.ok(later.length > 0 && later.every(({ headers }) => headers["if-none-match"] !== undefined));
  github.content.value = { people, groups: [{ ...groups[0], id: "7", name: "core", people: ["1"], groups: [] }] };
  assert.deepEqual(await readOnce(), ["1", "2", "3", "4", "1"]);
  await github.close();
});

test("github: members who move while a list is read make the run partial", async () => {
  const github = await startGithub();
  const five = people.concat({ ...ada, id: "5", userName: "user5" });
  github.content.value = { people: five, groups };
  let lists = 0;
  github.extra.onList = () => {
    lists += 1;
    if (lists === 2) github.content.value = { people: five.slice(1), groups };
  };
  const read = await readAll(github.open());
  // The fourth person moved to the page that had been read.
  assert.equal(read.people.has("4"), false);
  assert.deepEqual(read.problems, ["the list changed while it was read"]);
  await github.close();
});

test("github: a token that would see only public members is refused before anything is read", async () => {
  const github = await startGithub();
  github.content.value = { people, groups };
  for (const membership of [{ status: 404 }, { body: { state: "pending" } }]) {
    github.extra.membership = membership;
    await rejectsWith(
      readAll(github.open()),
      "forbidden",
      /not a member of the organization, or the token lacks read:org/,
    );
  }
  await github.close();
});

test("github: an app's token has the permission to read members and no other, or nothing is read", async () => {
  const github = await startGithub();
  github.content.value = { people, groups };
  const key = privateKey.export({ type: "pkcs1", format: "pem" });
  const app = { app_id: 42, installation_id: "77", private_key: key };
  assert.equal((await readAll(github.open(app))).people.size, 4);
  github.extra.permissions = { metadata: "read" };
  await rejectsWith(readAll(github.open(app)), "forbidden", /lacks read access/);
  await github.close();
});

test("github: limits are recognized by header, by count, and by the page that an answer names", async () => {
  const github = await startGithub();
  const reset = Math.floor(Date.now() / 1_000) + 90;
  const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(reset) };
  const page = "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits";
  const cases = [
    [{ status: 403, headers }, 85_000, 92_000],
    [{ status: 429 }, 60_000, 60_000],
    [{ status: 403, body: { message: "slow down", documentation_url: page } }, 60_000, 60_000],
  ] as const;
  for (const [answer, min, max] of cases) {
    github.extra.next = answer;
    const error = await readAll(github.open()).catch(
      (thrown: unknown) => thrown as { kind: string; retryAfterMs: number },
    );
    assert.ok("kind" in error && error.kind === "limited");
    assert.ok(error.retryAfterMs >= min && error.retryAfterMs <= max, String(error.retryAfterMs));
  }
  github.extra.next = { status: 403, body: { message: "Resource not accessible by personal access token" } };
  await rejectsWith(readAll(github.open()), "forbidden", /needs read access/);
  await github.close();
});

test("github: the settings want one proof", () => {
  const adapter = findAdapter("github");
  const problem = (section: object): string => adapter?.settings.safeParse(section).error?.message ?? "";
  assert.equal(problem({ organization: "octo-org", token: "x" }), "");
  assert.match(problem({ organization: "octo-org" }), /write either this/);
  assert.match(problem({ organization: "octo-org", app_id: 1 }), /needs installation_id/);
  assert.match(problem({ organization: "../octo", token: "x" }), /is not an organization/);
});
