/** `/.pomerium/`: a person's own sessions, and the forms that end them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { parameter, signUrl } from "../../../src/auth/authenticate/sign-in/signed-url.ts";
import type { CommandRequest, Link, SessionId } from "../../../src/events/index.ts";
import type { Databroker, LocalResult } from "../../../src/replication/index.ts";
import { deriveKey } from "../../../src/replication/wire/index.ts";
import { secret, signIn, startWorld, subjectId, type World, type WorldOptions } from "./support.ts";

type Visitor = ReturnType<World["visitor"]>;

const account = (world: World): string => world.url("authenticate", "/.pomerium/");
const signOutPath = "/.pomerium/account/sign-out";

async function visitorOf(world: World, user: string): Promise<Visitor> {
  const visitor = world.visitor();
  await signIn(world, visitor, user);
  return visitor;
}

/** Two browsers of alice and one of bob, in the order in which they signed in. */
async function start(t: TestContext, options: WorldOptions = {}) {
  const world = await startWorld(t, options);
  const first = await visitorOf(world, "alice");
  const second = await visitorOf(world, "alice");
  const bob = await visitorOf(world, "bob");
  return { world, first, second, bob };
}

const sessionsOf = (world: World, user: string): readonly SessionId[] =>
  world.replica.projection.sessionsOf(subjectId(world, user)).filter((id) => isActive(world, id));
const isActive = (world: World, id: SessionId): boolean =>
  world.replica.projection.sessionStatus(id).status === "active";

/** The targets of the forms with a button of this name. */
function forms(page: string, button: string): readonly string[] {
  return [...page.matchAll(/<form method="post" action="([^"]+)">(?:<div[^>]*>)?<button[^>]*>([^<]*)</g)]
    .filter(([, , label]) => label === button)
    .map(([, action = ""]) => action.replaceAll("&amp;", "&"));
}

const pageOf = async (world: World, visitor: Visitor): Promise<string> => (await visitor.request(account(world))).body;

async function onlyForm(world: World, visitor: Visitor, button: string): Promise<string> {
  const [form, ...more] = forms(await pageOf(world, visitor), button);
  assert.equal(more.length, 0);
  return form ?? assert.fail(`no form "${button}"`);
}

const textOf = (html: string): string => html.replace(/<[^>]*>/g, "").replaceAll("&#39;", "'");

test("the page lists the person's own sessions, this browser's first, and says nothing of anyone else", async (t) => {
  const { world, second } = await start(t);
  const page = await pageOf(world, second);
  assert.match(page, /Sessions \(2\)/);
  assert.match(textOf(page), /●This browser[\s\S]*○Another browser or device/);
  assert.doesNotMatch(page, /bob/i);
  for (const id of sessionsOf(world, "bob")) assert.ok(!page.includes(id));
  const [, attribute] = /<li( data-current)?>/.exec(page) ?? [];
  assert.ok(attribute !== undefined, "the first is the current one");
});

test("on a route's host there is neither the list nor a form, but a link to the authenticate host", async (t) => {
  const { world, second } = await start(t);
  const { body } = await second.request(world.url("app", "/.pomerium/"));
  assert.doesNotMatch(body, /<form|Sessions \(/);
  assert.ok(body.includes(`href="${account(world)}"`));
  const posted = await second.request(world.url("app", signOutPath), { form: {} });
  assert.equal(posted.status, 404, "an application there can send no such form");
});

test("one session is ended, and the page says that every server has ended it, with one time", async (t) => {
  const { world, first, second } = await start(t);
  const form = await onlyForm(world, second, "Sign out");
  const answer = await second.request(form, { form: {} });
  assert.equal(answer.status, 303);
  assert.equal(answer.location?.href, account(world));
  assert.match(String(answer.headers["cardea-position"]), /^[1-9]\d*$/);
  assert.equal((await first.request(world.url("app"))).status, 302, "the other browser has to sign in");
  assert.equal((await second.request(world.url("app"))).status, 200);

  const page = await pageOf(world, second);
  const said = /You signed out of a session\.<\/b> Ended on every server at <time datetime="([^"]+)"/;
  const at = said.exec(page)?.[1] ?? assert.fail(page);
  assert.match(page, /Sessions \(1\)/);
  assert.equal(said.exec(await pageOf(world, second))?.[1], at, "another look does not make it later");
  assert.doesNotMatch(await pageOf(world, second), /Ended on every server/, "and then it is old news");
});

test("all other sessions end with one button, and the person stays signed in here", async (t) => {
  const { world, first, second } = await start(t);
  const third = await visitorOf(world, "alice");
  await second.navigate(await onlyForm(world, second, "Sign out other sessions"), { form: {} });
  assert.equal(sessionsOf(world, "alice").length, 1);
  assert.equal(sessionsOf(world, "bob").length, 1);
  for (const [visitor, status] of [
    [first, 302],
    [third, 302],
    [second, 200],
  ] as const)
    assert.equal((await visitor.request(world.url("app"))).status, status);
  assert.doesNotMatch(await pageOf(world, second), /Sign out other sessions/);
});

test("everything ends only after a question, then at the provider, and the last page knows the receipt", async (t) => {
  const { world, first, second } = await start(t);
  const page = await pageOf(world, second);
  assert.deepEqual(forms(page, "Sign out everywhere…"), [], "a link, not a form");
  const question = await second.request(world.url("authenticate", signOutPath));
  assert.match(question.body, /This ends all 2 of your sessions/);
  assert.equal(sessionsOf(world, "alice").length, 2, "the question ends nothing");
  const [form = ""] = forms(question.body, "Sign out everywhere");
  const out = await second.request(form, { form: {} });
  assert.equal(out.location?.origin, world.idpUrl.origin);
  assert.deepEqual(sessionsOf(world, "alice"), []);
  const end = await second.navigate(out.location ?? "");
  assert.match(
    textOf(end.body),
    /You're signed out[\s\S]*You signed out everywhere: 2 sessions\. Ended on every server at/,
  );
  assert.equal((await first.request(world.url("app"))).status, 302);
  assert.equal(sessionsOf(world, "bob").length, 1);
});

test("an ordinary sign-out says no more than its receipt", async (t) => {
  const { world, second } = await start(t);
  const end = await second.navigate(world.url("app", "/.pomerium/sign_out"));
  assert.match(textOf(end.body), /You signed out\. Ended on every server at/);
  const stranger = await world.visitor().request(world.url("authenticate", "/.pomerium/signed_out"));
  assert.doesNotMatch(stranger.body, /server/, "a link to the page proves nothing");
});

test("until every server has confirmed, the page says how many have, and within which time the others follow", async (t) => {
  let isComplete = false;
  const { world, second } = await start(t, {
    deps: (deps) => ({
      ...deps,
      databroker: {
        ...deps.databroker,
        async receipt(target, options) {
          const receipt = await deps.databroker.receipt(target, options);
          const [node] = receipt.nodes;
          const silent = { ...node, node: "node-2", status: "unconfirmed" } as (typeof receipt.nodes)[number];
          if (isComplete) return receipt;
          return { ...receipt, status: "incomplete", nodes: [...receipt.nodes, silent], completeInMs: 4_100 };
        },
      },
    }),
  });
  const { body } = await second.navigate(await onlyForm(world, second, "Sign out"), { form: {} });
  assert.match(textOf(body), /1 of 2 servers have confirmed\. The rest follow within 5 s\.\s*Check again/);
  assert.doesNotMatch(body, /every server/);
  isComplete = true;
  assert.match(await pageOf(world, second), /Ended on every server at/);
});

describe("a form", () => {
  const own = (world: World, parameters: Readonly<Record<string, string>>): string => {
    const url = new URL(signOutPath, world.deps.settings.authenticateUrl);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return signUrl(url, deriveKey(secret, "signed urls"), Math.floor(Date.now() / 1_000)).href;
  };

  test("ends nothing if it is forged, changed, repeated, old, or from another site, session or person", async (t) => {
    const { world, first, second, bob } = await start(t);
    const form = await onlyForm(world, second, "Sign out");
    const others = await onlyForm(world, second, "Sign out other sessions");
    const everything = forms(
      (await bob.request(world.url("authenticate", signOutPath))).body,
      "Sign out everywhere",
    )[0];
    const active = [...sessionsOf(world, "alice"), ...sessionsOf(world, "bob")];
    const [bobs = ""] = sessionsOf(world, "bob");
    const changed = (name: string, value: string): string => {
      const url = new URL(form);
      url.searchParams.set(name, value);
      return url.href;
    };
    const refused: readonly (readonly [string, Visitor, string, Readonly<Record<string, string>>, number])[] = [
      ["unsigned", second, world.url("authenticate", `${signOutPath}?pomerium_scope=all`), {}, 400],
      ["another session's id", second, changed(parameter.endSession, bobs), {}, 400],
      ["another scope", second, changed(parameter.scope, "all"), {}, 400],
      ["a parameter twice", second, `${form}&${parameter.scope}=all`, {}, 400],
      ["of this person's other browser", first, form, {}, 400],
      ["of another person", bob, others, {}, 400],
      ["of bob, sent by alice", second, everything ?? "", {}, 400],
      ["without a session", world.visitor(), form, {}, 303],
      ["from another site", second, form, { origin: "https://evil.example" }, 400],
      ["from a route's host", second, form, { "sec-fetch-site": "same-site" }, 400],
      ["from a frame", second, form, { "sec-fetch-site": "cross-site" }, 400],
      ["a sign-out link as a form", second, form.replace("/account/sign-out", "/sign_out"), {}, 200],
    ];
    for (const [what, visitor, url, headers, status] of refused) {
      const answer = await visitor.request(url, { form: {}, headers });
      assert.equal(answer.status, status, what);
      assert.deepEqual([...sessionsOf(world, "alice"), ...sessionsOf(world, "bob")], active, what);
    }
    const read = await second.request(form);
    assert.match(read.body, /Sign out everywhere\?/, "a GET asks");
    world.clockMs = 7 * 60_000;
    assert.equal((await second.request(form, { form: {} })).status, 400, "seven minutes later");
    world.clockMs = 0;
    assert.equal(sessionsOf(world, "alice").length, 2);
  });

  test("that names another person's session, even signed, is answered as one of a session that never was", async (t) => {
    const { world, second } = await start(t);
    const handle = sessionsOf(world, "alice")[1] ?? "";
    const [mine = ""] = [/pomerium_own_session=([^&]+)/.exec(await onlyForm(world, second, "Sign out"))?.[1]];
    assert.equal(mine, handle);
    const [bobs = ""] = sessionsOf(world, "bob");
    const answers: string[] = [];
    for (const target of [bobs, randomUUID(), mine]) {
      const form = own(world, { pomerium_scope: "one", pomerium_own_session: mine, pomerium_end_session: target });
      const { body } = await second.navigate(form, { form: {} });
      answers.push(/<div class="ended"[\s\S]*?<\/div>/.exec(body)?.[0] ?? body);
    }
    assert.match(answers[0] ?? "", /That session had already ended\./);
    assert.equal(new Set(answers).size, 1);
    assert.equal(sessionsOf(world, "bob").length, 1);
    assert.equal(sessionsOf(world, "alice").length, 2, "nor does this browser's own end here");
    for (const odd of ["", "x", "../..", "x".repeat(5_000)]) {
      const form = own(world, { pomerium_scope: "one", pomerium_own_session: mine, pomerium_end_session: odd });
      assert.ok([303, 400].includes((await second.request(form, { form: {} })).status));
    }
    assert.equal(sessionsOf(world, "alice").length, 2);
  });

  test("in a second tab, of a session that the first has ended, says so; after the sign-out it does nothing", async (t) => {
    const { world, second } = await start(t);
    const one = await onlyForm(world, second, "Sign out");
    const others = await onlyForm(world, second, "Sign out other sessions");
    await second.navigate(one, { form: {} });
    assert.match((await second.navigate(one, { form: {} })).body, /That session had already ended\./);
    assert.match((await second.navigate(others, { form: {} })).body, /That session had already ended\./);
    await second.navigate(world.url("app", "/.pomerium/sign_out"));
    const again = await visitorOf(world, "alice");
    assert.equal((await second.request(others, { form: {} })).status, 303);
    await signIn(world, second, "alice");
    assert.equal((await second.request(others, { form: {} })).status, 400, "nor after a new sign-in in this browser");
    assert.equal((await again.request(world.url("app"))).status, 200);
  });
});

test("what another person has ended in this browser is not shown", async (t) => {
  const { world, second } = await start(t);
  await second.request(await onlyForm(world, second, "Sign out"), { form: {} });
  second.forget("app.localhost");
  const sealed = second.cookie("authenticate.localhost", "_pomerium_ended") ?? assert.fail();
  const bob = await visitorOf(world, "bob");
  bob.keep(new URL(account(world)), `_pomerium_ended=${sealed}; Path=/`);
  assert.doesNotMatch(await pageOf(world, bob), /data-ended/);
  assert.equal(bob.cookie("authenticate.localhost", "_pomerium_ended"), undefined);
  bob.keep(new URL(account(world)), `_pomerium_ended=${"x".repeat(3_000)}; Path=/`);
  assert.equal((await bob.request(account(world))).status, 200);
});

describe("without a leader", () => {
  const cutOff = (revokeLocally: Databroker["revokeLocally"]): WorldOptions & { asked: CommandRequest[] } => {
    const asked: CommandRequest[] = [];
    let isCutOff = false;
    return {
      asked,
      deps: (deps) => ({
        ...deps,
        databroker: {
          ...deps.databroker,
          submit: async (request) => {
            if (request.command.type === "createSession") return deps.databroker.submit(request);
            isCutOff = true;
            asked.push(request);
            const { commandId } = request;
            return { type: "unavailable", commandId, message: "", retryAfterMs: 0, code: "home-unreachable" };
          },
          ...(revokeLocally === undefined ? {} : { revokeLocally }),
          localReceipt: async () =>
            isCutOff ? { type: "receipt", receipt: { complete: true } as never } : { type: "unknown" },
        },
      }),
    };
  };

  test("a region that is cut off accepts it alone, and the page says that it is this region's", async (t) => {
    const accepted: CommandRequest[] = [];
    const { world, second } = await start(
      t,
      cutOff(async (request): Promise<LocalResult> => {
        accepted.push(request);
        const [commandId, basis] = [request.commandId, {} as Link];
        return { type: "local", commandId, region: "west", broker: "b", seq: 1, basis, ids: 1, at: 0 as never };
      }),
    );
    const { body } = await second.navigate(await onlyForm(world, second, "Sign out"), { form: {} });
    assert.match(body, /Ended on the servers of this region\. The others are out of reach/);
    assert.deepEqual(
      accepted.map(({ command, actor }) => [command.type, actor]),
      [["revokeSession", `user:${subjectId(world, "alice")}`]],
    );
  });

  test("and where no one accepts it, the page says that the person is still signed in", async (t) => {
    const { world, second } = await start(t, cutOff(undefined));
    for (const button of ["Sign out", "Sign out other sessions"]) {
      const answer = await second.request(await onlyForm(world, second, button), { form: {} });
      assert.equal(answer.status, 503, button);
      assert.match(answer.body, /You&#39;re still signed in/);
    }
    assert.equal(sessionsOf(world, "alice").length, 2);
    assert.equal((await second.request(world.url("app"))).status, 200);
  });
});
