/**
 * Session refresh: policy decides by the provider's latest claims, a refusal ends the session, and silence changes
 * nothing.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import {
  createRefresh,
  newRefreshMemory,
  type ProviderClient,
  type RefreshMemory,
} from "../../../../src/auth/index.ts";
import type { Duty } from "../../../../src/broker/index.ts";
import type {
  ActiveSession,
  Command,
  CommandRequest,
  CommandResult,
  Epoch,
  Projection,
  SessionId,
  UnixMs,
  UserId,
  VaultedTokens,
} from "../../../../src/events/index.ts";
import { RefreshRequests } from "../../../../src/events/projection/refresh-requests.ts";
import { systemClock } from "../../../../src/replication/runtime/index.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { finish, type OddProvider, startOddProvider } from "../odd-provider.ts";
import { quiet, signIn, startWorld, subjectId, type World } from "../support.ts";

type Runs = { count: number; readonly memory: RefreshMemory };

const refreshing = (oidc: ProviderClient, runs: Runs, everyMs = 200): Duty => {
  const refresh = createRefresh({
    providerOf: () => oidc,
    groupsFromClaim: "groups",
    uuid: randomUUID,
    pause: () => turn(),
    everyMs,
    graceMs: 60_000,
    memory: runs.memory,
    log: quiet,
  });
  return {
    name: "refresh",
    everyMs: 30,
    async run(context) {
      await refresh(context);
      runs.count++;
    },
  };
};

async function startRefreshing(t: TestContext): Promise<Readonly<{ world: World; runs: Runs }>> {
  const runs = { count: 0, memory: newRefreshMemory() };
  return { runs, world: await startWorld(t, { duties: (oidc) => [refreshing(oidc, runs)] }) };
}

const groupsOf = (world: World, user: string): string =>
  [...world.replica.projection.groupsOf(subjectId(world, user), Date.now() as UnixMs)].sort().join(",");

test("a group that the provider adds or removes changes at the next refresh", async (t) => {
  const { world } = await startRefreshing(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  assert.equal(groupsOf(world, "alice"), "admins,eng");
  world.provider.setGroups("alice", ["eng", "sales"]);
  await waitFor("the changed groups", () => groupsOf(world, "alice") === "eng,sales");
  assert.match((await visitor.request(world.url("app"))).body, /^hello alice of eng,sales at/);
  world.provider.setGroups("alice", []);
  await waitFor("no groups", () => groupsOf(world, "alice") === "");
  assert.equal((await visitor.request(world.url("app"))).status, 200, "the same session");
});

test("an operator's request makes the leader ask the provider now, long before the session is due", async (t) => {
  const runs = { count: 0, memory: newRefreshMemory() };
  const hourMs = 3_600_000;
  const world = await startWorld(t, {
    duties: (oidc) => [refreshing(oidc, runs, hourMs)],
    provider: { accessTokenS: 3_600 },
  });
  await world.submit({ type: "finalizeUpgrade", level: 5 });
  await signIn(world, world.visitor(), "alice");
  await signIn(world, world.visitor(), "bob");
  world.provider.setGroups("alice", ["sales"]);
  world.provider.setGroups("bob", ["eng"]);
  const request = { type: "requestRefresh", userId: subjectId(world, "alice") } as const;
  const requested = await world.submit(request);
  assert.equal(requested.type, "done", JSON.stringify(requested));
  await waitFor("the changed groups", () => groupsOf(world, "alice") === "sales", { withinMs: 60_000 });
  assert.notEqual(groupsOf(world, "bob"), "eng", "no operator asked about bob");
  const counts = [...runs.memory.counts.values()].map(({ refreshed }) => refreshed);
  const { count } = runs;
  await waitFor("more runs", () => runs.count > count + 10);
  assert.deepEqual(
    [...runs.memory.counts.values()].map(({ refreshed }) => refreshed),
    counts,
    "it asks once",
  );
});

test("a request to ask about a person without a session changes nothing, and needs level 5", async (t) => {
  const { world } = await startRefreshing(t);
  const request = { type: "requestRefresh", userId: subjectId(world, "alice") } as const;
  const unknown = await world.submit(request);
  assert.equal(unknown.type === "refused" && unknown.code, "not-found");
  await signIn(world, world.visitor(), "alice");
  const early = await world.submit(request);
  assert.match(early.type === "refused" ? early.message : "", /level 1.*cardea cluster finalize/);
});

test("an operator's removal persists, whatever the provider claims at a refresh", async (t) => {
  const { world, runs } = await startRefreshing(t);
  await signIn(world, world.visitor(), "alice");
  const userId = subjectId(world, "alice");
  const change = { groupId: "eng" as never, source: "operator", added: [], removed: [userId] } as const;
  await world.submit({ type: "changeGroupMembers", ...change });
  world.provider.setGroups("alice", ["eng", "sales"]);
  await waitFor("a refresh", () => groupsOf(world, "alice").includes("sales"));
  const { count } = runs;
  await waitFor("another run", () => runs.count > count + 2);
  assert.equal(groupsOf(world, "alice"), "sales");
});

test("a refused refresh revokes the session, with the reason in the log", async (t) => {
  const { world, runs } = await startRefreshing(t);
  const visitor = world.visitor();
  const newest = async (): Promise<SessionId> => {
    await signIn(world, visitor, "alice");
    return [...world.replica.projection.sessions()].at(-1)?.sessionId ?? assert.fail();
  };
  let id = await newest();
  await waitFor("the provider to refuse", async () => {
    const tokens = await world.deps.databroker.tokens(id);
    if (tokens !== undefined) await world.oidc.revoke(tokens); // a concurrent refresh may win
    // On a very busy machine a new epoch may have started, which gives the session its grace.
    if (runs.memory.inGrace.has(id)) id = await newest();
    return world.replica.projection.sessionStatus(id).status === "revoked";
  });
  const status = world.replica.projection.sessionStatus(id);
  assert.equal(status.status === "revoked" ? status.reason : "", "refresh-refused");
  assert.equal((await visitor.request(world.url("app"))).status, 302);
});

test("while a provider is down nothing changes", async (t) => {
  const { world, runs } = await startRefreshing(t);
  const visitor = world.visitor();
  await signIn(world, visitor, "alice");
  await world.provider.close();
  const { count } = runs;
  await waitFor("many runs", () => runs.count > count + 15);
  assert.equal(groupsOf(world, "alice"), "admins,eng");
  assert.equal((await visitor.request(world.url("app"))).status, 200);
});

// --- edge cases, one run at a time

type Bench = Readonly<{
  provider: OddProvider;
  memory: RefreshMemory;
  submitted: Command[];
  forwarded: Command[];
  vault: Map<SessionId, VaultedTokens>;
  /** The next result of the broker; by default it executes the command. */
  answer: { next: (command: Command) => "done" | "unavailable" | "refused" };
  /** The process's view of its leadership. */
  leads: { now: boolean; epoch: Epoch };
  run(): Promise<void>;
  /** Advances the clock. */
  advance(ms: number): void;
}>;

const grace = 60_000;
/** The context of a leader that is never deposed. */
const permanentLeader = {
  submitToLeader: () => assert.fail("unexpected submission to the leader"),
  leads: () => true,
  leadership: { epoch: 1 as Epoch },
  clock: systemClock,
};
const done = (): "done" => "done";

async function startBench(
  t: TestContext,
  options: Readonly<{ sessions?: number; status?: (id: SessionId) => string; session?: Partial<ActiveSession> }> = {},
): Promise<Bench> {
  const provider = await startOddProvider(t);
  let now = Date.now();
  const vault: Bench["vault"] = new Map();
  const submitted: Command[] = [];
  const forwarded: Command[] = [];
  const answer: Bench["answer"] = { next: done };
  const leads = { now: true, epoch: 1 as Epoch };
  const sessions: ActiveSession[] = [];
  for (let i = 0; i < (options.sessions ?? 1); i++) {
    const { tokens } = await finish(provider);
    const sessionId = `session-${i}` as SessionId;
    vault.set(sessionId, { version: 1, tokens, obtainedIn: leads.epoch, presentation: null });
    sessions.push({
      status: "active",
      sessionId,
      userId: "user" as UserId,
      idpId: "demo",
      issuedAt: now as UnixMs,
      expiresAt: (now + 36_000_000) as UnixMs,
      refreshedAt: now as UnixMs,
      profile: new Uint8Array(),
      createdAt: 1 as never,
      ...options.session,
    });
  }
  const projection = {
    sessions: () => sessions.values(),
    sessionStatus: (id: SessionId) => ({ status: options.status?.(id) ?? "active" }),
    refreshRequests: new RefreshRequests(),
  } as unknown as Projection;
  const memory = newRefreshMemory();
  const refresh = createRefresh({
    providerOf: () => provider.client,
    groupsFromClaim: "groups",
    uuid: randomUUID,
    pause: () => turn(),
    everyMs: 60_000,
    graceMs: grace,
    memory,
    log: quiet,
  });

  /** Executes a command as the broker does. */
  function perform(command: Command): "done" | "refused" {
    if (!("tokens" in command) || command.type === "createSession") return "done";
    const { sessionId, tokens, tokenVersion } = command;
    const version = vault.get(sessionId)?.version ?? 0;
    if (tokenVersion !== undefined && tokenVersion !== version) return "refused";
    const obtainedIn = "obtainedIn" in command ? command.obtainedIn : leads.epoch;
    const presentation =
      command.type === "startRefresh"
        ? { tokenVersion: version, epoch: leads.epoch, deadline: command.deadline }
        : null;
    vault.set(sessionId, { version: version + 1, tokens, obtainedIn, presentation });
    if (command.type !== "refreshSession") return "done";
    const at = sessions.findIndex((session) => session.sessionId === sessionId);
    sessions[at] = { ...(sessions[at] as ActiveSession), refreshedAt: command.refreshedAt };
    return "done";
  }
  function answerTo({ commandId, command }: CommandRequest): CommandResult {
    const result = answer.next(command);
    if (result === "unavailable") return { type: "unavailable", commandId, message: "", retryAfterMs: 1 };
    if (result === "refused" || perform(command) === "refused")
      return { type: "refused", commandId, code: "conflict", message: "" };
    return { type: "done", commandId, changed: true, link: undefined as never };
  }
  return {
    ...{ provider, memory, submitted, forwarded, vault, answer, leads },
    advance: (ms) => {
      now += ms;
    },
    run: () =>
      refresh({
        submit: async (request) => {
          submitted.push(request.command);
          return answerTo(request);
        },
        submitToLeader: async (request) => {
          forwarded.push(request.command);
          return answerTo(request);
        },
        projection,
        now: now as UnixMs,
        clock: { monotonic: () => now, wall: () => now as UnixMs },
        leads: () => leads.now,
        leadership: { epoch: leads.epoch },
        tokens: async (id) => vault.get(id),
        signal: new AbortController().signal,
      }),
  };
}

/** The submitted command types without intents. */
const types = ({ submitted }: Bench): string[] =>
  submitted.map(({ type }) => type).filter((type) => type !== "startRefresh");
const intents = ({ submitted }: Bench): number => submitted.filter(({ type }) => type === "startRefresh").length;
/** How often the token endpoint received each refresh token that a session had. */
function presentations({ provider }: Bench): readonly number[] {
  const counts = new Map<string, number>();
  for (const { path, body } of provider.seen) {
    const token = body.get("refresh_token");
    if (path === "/token" && token !== null) counts.set(token, (counts.get(token) ?? 0) + 1);
  }
  return [...counts.values()];
}

test("a session is refreshed when it is due, and not before", async (t) => {
  const bench = await startBench(t);
  await bench.run();
  await bench.run();
  assert.deepEqual(types(bench), []);
  bench.advance(60_000);
  await bench.run();
  await bench.run();
  assert.deepEqual(types(bench), ["refreshSession"]);
  const command = bench.submitted.at(-1);
  assert.ok(command?.type === "refreshSession");
  assert.deepEqual(command.groupIds, ["eng"]);
  assert.equal(command.profile.name, "From userinfo");
  assert.equal(bench.vault.get(command.sessionId)?.tokens, command.tokens);
  assert.equal(intents(bench), 1);
  bench.advance(60_000);
  await bench.run();
  assert.deepEqual(types(bench), ["refreshSession", "refreshSession"]);
  assert.equal(bench.provider.usedRefreshTokens.size, 2, "each refresh token was used once");
});

test("new tokens are stored while userinfo is down, and the used refresh token is not sent again", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  bench.provider.instead = (path) => (path === "/userinfo" ? { status: 503, body: "down" } : undefined);
  for (let i = 0; i < 5; i++) {
    await bench.run();
    bench.advance(10_000);
  }
  assert.deepEqual(types(bench), ["keepTokens"]);
  assert.equal(bench.provider.usedRefreshTokens.size, 1);
  bench.provider.instead = () => undefined;
  await bench.run();
  assert.deepEqual(types(bench), ["keepTokens", "refreshSession"]);
  bench.advance(60_000);
  await bench.run();
  assert.deepEqual(
    types(bench),
    ["keepTokens", "refreshSession", "refreshSession"],
    "the stored tokens are the new ones",
  );
});

test("new tokens are kept in memory while no broker accepts them, and are written once one does", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  bench.answer.next = ({ type }) => (type === "startRefresh" ? "done" : "unavailable");
  await bench.run();
  bench.advance(10_000);
  await bench.run();
  assert.equal(bench.provider.usedRefreshTokens.size, 1);
  bench.answer.next = done;
  bench.advance(10_000);
  await bench.run();
  assert.deepEqual(types(bench), ["refreshSession", "keepTokens", "keepTokens", "keepTokens", "refreshSession"]);
  assert.equal(bench.provider.usedRefreshTokens.size, 1);
  const storedToken = bench.vault.get("session-0" as SessionId)?.tokens.refreshToken;
  assert.ok(!bench.provider.usedRefreshTokens.has(storedToken ?? ""));
});

test("stored tokens whose access token has expired are renewed by their own refresh token", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  bench.provider.instead = (path) => (path === "/userinfo" ? { status: 503, body: "down" } : undefined);
  await bench.run();
  bench.provider.instead = () => undefined;
  bench.advance(400_000);
  await bench.run();
  assert.deepEqual(types(bench), ["keepTokens", "refreshSession"]);
  assert.equal(bench.provider.usedRefreshTokens.size, 2);
});

test("a request that the provider refuses before it checks the token is sent again later", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  const before = [
    { status: 400, body: { error: "invalid_client" } },
    { status: 401, headers: { "www-authenticate": "Basic" }, body: { error: "invalid_client" } },
    { status: 400, body: { error: "unauthorized_client" } },
    { status: 400, body: { error: "invalid_scope" } },
    { status: 400, body: { error: "temporarily_unavailable" } },
    { status: 429, body: { error: "slow_down" } },
  ];
  for (const answer of before) {
    bench.submitted.length = 0;
    bench.provider.instead = (path) => (path === "/token" ? answer : undefined);
    await bench.run();
    assert.deepEqual(types(bench), ["keepTokens"], JSON.stringify(answer.body));
    bench.provider.instead = () => undefined;
    bench.advance(10_000);
    await bench.run();
    assert.deepEqual(types(bench), ["keepTokens", "refreshSession"], "tried again");
    bench.advance(60_000);
  }
});

test("after an unknown outcome the token is never sent again; the session continues for the grace period, and metrics show it", async (t) => {
  const bench = await startBench(t);
  const unknown = [
    { status: 500, body: { error: "server_error" } },
    { status: 503, body: "down" },
    { status: 200, body: "<html>" },
  ];
  for (const [index, answer] of unknown.entries()) {
    const each = index === 0 ? bench : await startBench(t);
    each.advance(60_000);
    each.provider.instead = (path) => (path === "/token" ? answer : undefined);
    await each.run();
    each.provider.instead = () => undefined;
    for (let i = 0; i < 12; i++) {
      each.advance(10_000);
      await each.run();
    }
    assert.deepEqual(types(each), [], JSON.stringify(answer.body));
    assert.equal(intents(each), 1);
    assert.deepEqual(presentations(each), [1]);
    assert.equal(each.memory.inGrace.size, 1);
    assert.equal(each.memory.counts.get("demo")?.unknown, 1);
  }
  bench.advance(400_000); // the access token and the grace period have expired
  await bench.run();
  assert.deepEqual(bench.submitted.at(-1), {
    type: "revokeSession",
    sessionId: "session-0",
    reason: "refresh-refused",
  });
});

test("a groups claim that is absent from a refresh, or only in the old ID token, changes no group; an empty claim does", async (t) => {
  const bench = await startBench(t);
  const groupsAfter = async (claims: object, userinfo: object): Promise<unknown> => {
    bench.provider.claims = { sub: "alice", ...claims };
    bench.provider.userinfo = { sub: "alice", ...userinfo };
    bench.advance(60_000);
    await bench.run();
    const command = bench.submitted.at(-1);
    assert.ok(command?.type === "refreshSession");
    return command.groupIds;
  };
  assert.equal(await groupsAfter({}, {}), null);
  assert.deepEqual(await groupsAfter({ groups: [] }, {}), []);
  assert.deepEqual(await groupsAfter({}, { groups: [] }), []);
  assert.deepEqual(await groupsAfter({ groups: ["eng"] }, {}), ["eng"]);
  bench.provider.refreshedIdToken = "without";
  assert.equal(await groupsAfter({}, {}), null, "the session's old ID token is not a new claim");
  assert.deepEqual(await groupsAfter({}, { groups: ["ops"] }), ["ops"]);
});

test("a leader that finds another leader's intent does not present the token", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  const entry = bench.vault.get("session-0" as SessionId) ?? assert.fail();
  const deadline = (Date.now() + 90_000) as UnixMs;
  const presentation = { tokenVersion: 1, epoch: 1 as Epoch, deadline };
  bench.vault.set("session-0" as SessionId, { ...entry, version: 2, presentation });
  bench.leads.epoch = 2 as Epoch;
  await bench.run();
  assert.deepEqual(presentations(bench), []);
  // The leader of that epoch writes the result in time.
  bench.vault.set("session-0" as SessionId, { ...entry, version: 3, presentation: null });
  bench.advance(10_000);
  await bench.run();
  assert.deepEqual(presentations(bench), [1]);
  assert.equal(bench.memory.inGrace.size, 0);
});

test("a leader that is deposed or paused after its intent sends nothing and withdraws the intent", async (t) => {
  for (const happens of ["deposed", "paused"] as const) {
    const bench = await startBench(t);
    bench.advance(60_000);
    bench.answer.next = ({ type }) => {
      if (type !== "startRefresh") return bench.leads.now || bench.forwarded.length > 0 ? "done" : "unavailable";
      if (happens === "deposed") bench.leads.now = false;
      else bench.advance(6_000);
      return "done";
    };
    await bench.run();
    assert.deepEqual(presentations(bench), [], happens);
    const entry = bench.vault.get("session-0" as SessionId);
    assert.equal(entry?.presentation, null, "the next leader may present it");
    assert.equal(bench.forwarded.length, happens === "deposed" ? 1 : 0);
  }
});

test("a leader that is deposed during the call forwards the new tokens to the next one", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  bench.provider.instead = (path) => {
    if (path === "/token") bench.leads.now = false;
    return undefined;
  };
  bench.answer.next = () => (bench.leads.now || bench.forwarded.length > 0 ? "done" : "unavailable");
  await bench.run();
  assert.deepEqual(
    bench.forwarded.map(({ type }) => type),
    ["keepTokens"],
  );
  const entry = bench.vault.get("session-0" as SessionId) ?? assert.fail();
  assert.equal(entry.presentation, null);
  assert.ok(!bench.provider.usedRefreshTokens.has(entry.tokens.refreshToken ?? ""));
});

test("no request follows an intent that the log refuses or may not have recorded", async (t) => {
  for (const result of ["refused", "unavailable"] as const) {
    const bench = await startBench(t);
    bench.advance(60_000);
    bench.answer.next = ({ type }) => (type === "startRefresh" ? result : "done");
    await bench.run();
    assert.deepEqual(presentations(bench), [], result);
    bench.answer.next = done;
    bench.advance(10_000);
    await bench.run();
    assert.deepEqual(presentations(bench), [1], result);
  }
});

test("an intent of unknown outcome is withdrawn only if the vault shows that very intent", async (t) => {
  for (const recorded of ["own", "of another leader"] as const) {
    const bench = await startBench(t);
    bench.advance(60_000);
    const entry = bench.vault.get("session-0" as SessionId) ?? assert.fail();
    bench.answer.next = ({ type }) => (type === "startRefresh" ? "unavailable" : "done");
    await bench.run();
    assert.deepEqual(types(bench), [], "nothing is written while the outcome is unknown");
    const intent = bench.submitted.findLast(({ type }) => type === "startRefresh");
    assert.ok(intent?.type === "startRefresh");
    const epoch = (recorded === "own" ? bench.leads.epoch : bench.leads.epoch + 1) as Epoch;
    const presentation = { tokenVersion: entry.version, epoch, deadline: intent.deadline };
    bench.vault.set("session-0" as SessionId, { ...entry, version: entry.version + 1, presentation });
    bench.answer.next = done;
    bench.advance(10_000);
    await bench.run();
    assert.deepEqual(types(bench), recorded === "own" ? ["keepTokens"] : [], recorded);
    assert.deepEqual(presentations(bench), []);
  }
});

test("a definite refusal of the provider ends the session", async (t) => {
  for (const error of [
    "invalid_grant",
    "access_denied",
    "interaction_required",
    "login_required",
    "consent_required",
  ]) {
    const bench = await startBench(t);
    bench.advance(60_000);
    bench.provider.instead = (path) => (path === "/token" ? { status: 400, body: { error } } : undefined);
    await bench.run();
    assert.deepEqual(bench.submitted.at(-1), {
      type: "revokeSession",
      sessionId: "session-0",
      reason: "refresh-refused",
    });
  }
});

test("invalid_grant ends no session whose token an earlier epoch or an older version may have presented", async (t) => {
  for (const obtainedIn of [null, 1 as Epoch]) {
    const bench = await startBench(t);
    bench.advance(60_000);
    bench.leads.epoch = 2 as Epoch;
    const entry = bench.vault.get("session-0" as SessionId) ?? assert.fail();
    bench.vault.set("session-0" as SessionId, { ...entry, obtainedIn });
    bench.provider.instead = (path) =>
      path === "/token" ? { status: 400, body: { error: "invalid_grant" } } : undefined;
    for (let i = 0; i < 5; i++) {
      await bench.run();
      bench.advance(10_000);
    }
    assert.deepEqual(types(bench), []);
    assert.deepEqual(presentations(bench), [1]);
    assert.equal(bench.memory.counts.get("demo")?.explained, 1);
    assert.equal(bench.memory.inGrace.size, 1);
  }
});

test("a refresh response for another subject ends the session", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  bench.provider.claims = { sub: "mallory" };
  await bench.run();
  assert.deepEqual(types(bench), ["revokeSession"]);
});

test("a provider that is down receives a few requests, not one for each session", async (t) => {
  const bench = await startBench(t, { sessions: 40 });
  bench.advance(60_000);
  bench.provider.instead = () => ({ status: 503, body: "down" });
  const before = bench.provider.count("/token");
  await bench.run();
  const requestCount = bench.provider.count("/token") - before;
  assert.ok(requestCount >= 3 && requestCount <= 11, `${requestCount} times`);
});

test("a session that userinfo refuses does not delay the others", async (t) => {
  const bench = await startBench(t, { sessions: 20 });
  bench.advance(60_000);
  let refusals = 0;
  bench.provider.instead = (path) =>
    path === "/userinfo" && refusals++ % 2 === 0
      ? { status: 401, headers: { "www-authenticate": 'Bearer error="invalid_token"' }, body: {} }
      : undefined;
  await bench.run();
  assert.equal(types(bench).filter((type) => type === "refreshSession").length, 10);
  assert.equal(types(bench).filter((type) => type === "keepTokens").length, 10);
});

test("sessions are refreshed concurrently, within a bound", async (t) => {
  const bench = await startBench(t, { sessions: 30 });
  bench.advance(60_000);
  let now = 0;
  let concurrentMax = 0;
  bench.provider.instead = async (path) => {
    if (path !== "/token") return undefined;
    concurrentMax = Math.max(concurrentMax, ++now);
    await new Promise((resolve) => setTimeout(resolve, 10));
    now--;
    return undefined;
  };
  await bench.run();
  assert.equal(types(bench).length, 30);
  assert.ok(concurrentMax > 1 && concurrentMax <= 8, `${concurrentMax} at once`);
});

test("sessions that are expired, revoked or without a refresh token are skipped", async (t) => {
  const over = await startBench(t, { session: { expiresAt: 1 as UnixMs } });
  const denied = await startBench(t, { status: () => "revoked" });
  const bare = await startBench(t);
  const tokens = bare.vault.get("session-0" as SessionId) ?? assert.fail();
  bare.vault.set("session-0" as SessionId, { ...tokens, tokens: { ...tokens.tokens, refreshToken: null } });
  for (const bench of [over, denied, bare]) {
    bench.advance(60_000);
    await bench.run();
    assert.equal(bench.provider.usedRefreshTokens.size, 0);
    assert.deepEqual(types(bench), []);
  }
});

test("a run visits a bounded number of sessions, and the next run continues from there", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  const [due] = [...bench.vault.keys()];
  const over = { status: "active", sessionId: "over", expiresAt: 1 };
  const sessions = [
    ...Array.from({ length: 45_000 }, () => over),
    { status: "active", sessionId: due, expiresAt: 9e15, refreshedAt: 0 },
  ];
  let requestCount = 0;
  const countRefresh: ProviderClient["refresh"] = async (tokens) => {
    requestCount++;
    return { type: "tokens", tokens, problem: null };
  };
  const refresh = createRefresh({
    providerOf: () => ({ ...bench.provider.client, refresh: countRefresh }),
    groupsFromClaim: null,
    uuid: randomUUID,
    pause: () => turn(),
    everyMs: 1,
    graceMs: grace,
    log: quiet,
  });
  const context = {
    submit: async ({ commandId }: CommandRequest) =>
      ({ type: "done", commandId, changed: true, link: {} }) as CommandResult,
    projection: {
      sessions: () => sessions.values(),
      sessionStatus: () => ({ status: "active" }),
      refreshRequests: new RefreshRequests(),
    } as unknown as Projection,
    now: Date.now() as UnixMs,
    tokens: async (id: SessionId) => bench.vault.get(id),
    signal: new AbortController().signal,
    ...permanentLeader,
  };
  for (const expected of [0, 0, 1, 1, 1, 2]) {
    await refresh({ ...context, now: (Date.now() + 60_000 * (requestCount + 1)) as UnixMs });
    assert.equal(requestCount, expected);
  }
});

test("a run over many sessions that are not due lets the event loop turn in between", async (t) => {
  const bench = await startBench(t);
  const sessions = Array.from({ length: 5_000 }, (_, n) => ({ status: "revoked", sessionId: `over-${n}` }));
  const refresh = createRefresh({
    providerOf: () => bench.provider.client,
    groupsFromClaim: null,
    uuid: randomUUID,
    pause: () => turn(),
    everyMs: 60_000,
    graceMs: grace,
    log: quiet,
  });
  let turns = 0;
  let runs = true;
  const count = (): void => {
    turns++;
    if (runs) setImmediate(count);
  };
  setImmediate(count);
  await refresh({
    submit: () => Promise.reject(new TypeError("nothing is due")),
    projection: { sessions: () => sessions.values(), refreshRequests: new RefreshRequests() } as unknown as Projection,
    now: Date.now() as UnixMs,
    tokens: () => Promise.reject(new TypeError("nothing is due")),
    signal: new AbortController().signal,
    ...permanentLeader,
  });
  runs = false;
  assert.ok(turns >= 10, `${turns} turns for 5,000 sessions`);
});

test("an error that is not the provider's fails the run", async (t) => {
  const bench = await startBench(t);
  bench.advance(60_000);
  const broken = createRefresh({
    providerOf: () => ({ ...bench.provider.client, refresh: () => Promise.reject(new TypeError("a bug")) }),
    groupsFromClaim: null,
    uuid: randomUUID,
    pause: () => turn(),
    everyMs: 1,
    graceMs: grace,
    log: quiet,
  });
  const context = {
    submit: async ({ commandId }: CommandRequest) =>
      ({ type: "done", commandId, changed: true, link: {} }) as CommandResult,
    projection: {
      sessions: () => [{ status: "active", sessionId: "s", expiresAt: 9e15, refreshedAt: 0 }].values(),
      sessionStatus: () => ({ status: "active" }),
      refreshRequests: new RefreshRequests(),
    } as unknown as Projection,
    now: Date.now() as UnixMs,
    tokens: async () => bench.vault.get("session-0" as SessionId),
    signal: new AbortController().signal,
    ...permanentLeader,
  };
  await assert.rejects(broken(context), TypeError);
});
