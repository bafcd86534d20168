/**
 * Resolution of a caller on a real projection: active, revoked, expired, unknown, suspended, restored and changed
 * sessions.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { CallerCache, type CallerOptions, resolveCaller } from "../../../src/auth/authorize/caller.ts";
import type { ResolvedCaller } from "../../../src/auth/authorize/decision.ts";
import {
  type CardeaEvent,
  type GroupId,
  type Profile,
  Projection,
  type Sealed,
  type UnixMs,
} from "../../../src/events/index.ts";
import { created, record, revoked, sessionId, userId } from "../../events/support.ts";

const profileOf = (sealed: Sealed): Profile => ({
  issuer: "https://idp.example",
  subject: `subject-${sealed.join("-")}`,
  email: "alice@example.com",
  emailVerified: true,
  name: "Alice",
  claims: { dept: ["eng"] },
});

class World {
  readonly projection = new Projection();
  readonly cache = new CallerCache();
  opened = 0;
  hasKey = true;

  given(...events: readonly CardeaEvent[]): this {
    for (const one of record(events, this.projection.applied)) this.projection.apply(one);
    return this;
  }
  resolve(session = 1, user = 1, options: Partial<CallerOptions> & { handleIdp?: string } = {}): ResolvedCaller {
    return resolveCaller(
      this.projection,
      { sessionId: sessionId(session), userId: userId(user), idpId: options.handleIdp ?? "idp" },
      {
        now: 500 as UnixMs,
        idpIds: new Set(["idp"]),
        credentialInHeader: false,
        open: (sealed) => {
          this.opened++;
          return this.hasKey ? profileOf(sealed) : undefined;
        },
        cache: this.cache,
        ...options,
      },
    );
  }
}

const describeCaller = (caller: ResolvedCaller): string =>
  caller.type === "principal" ? "principal" : `${caller.type}: ${caller.why}`;
const members = (change: { added?: number[]; removed?: number[] }): CardeaEvent => ({
  type: "GroupMembersChanged",
  groupId: "eng" as GroupId,
  source: "operator",
  added: (change.added ?? []).map(userId),
  removed: (change.removed ?? []).map(userId),
});
const user = (type: "UserSuspended" | "UserRestored" | "UserErased" | "UserSessionsRevoked"): CardeaEvent =>
  type === "UserSessionsRevoked"
    ? { type, userId: userId(1), upTo: null, reason: "operator" }
    : type === "UserSuspended"
      ? { type, userId: userId(1), reason: "left" }
      : { type, userId: userId(1) };

test("an active session is a principal with profile, claims and effective groups", () => {
  const caller = new World().given(created(1, 1), members({ added: [1] })).resolve();
  assert(caller.type === "principal");
  assert.equal(caller.principal.profile?.subject, "subject-1-1");
  assert.deepEqual(caller.principal.claims, { dept: ["eng"] });
  assert.deepEqual([...caller.principal.groups], ["eng"]);
  assert.equal(caller.principal.session.sessionId, "session-1");
});

test("a membership that ends by itself belongs to the principal until its end, by the node's own clock", () => {
  const until = { until: 700 as UnixMs, reason: "on call" };
  const world = new World().given(created(1, 1), { ...(members({ added: [1] }) as object), ...until } as CardeaEvent);
  const groupsAt = (now: number): readonly [readonly string[], number | undefined] => {
    const caller = world.resolve(1, 1, { now: now as UnixMs });
    assert(caller.type === "principal");
    return [[...caller.principal.groups], caller.principal.groupsUntil];
  };
  assert.deepEqual(groupsAt(699), [["eng"], 700]);
  assert.deepEqual(groupsAt(700), [[], undefined]);
  assert.deepEqual(groupsAt(699), [["eng"], 700], "a clock that was set back");
  const before = world.resolve(1, 1, { now: 600 as UnixMs });
  assert.equal(world.resolve(1, 1, { now: 650 as UnixMs }), before, "the principal is cached in between");
});

test("no handle is an anonymous caller, and whether the credential was in a header is passed on", () => {
  const options = { now: 0 as UnixMs, idpIds: new Set(["idp"]), credentialInHeader: true, open: () => undefined };
  assert.deepEqual(resolveCaller(new Projection(), undefined, options), {
    type: "anonymous",
    why: "no-credential",
    credentialInHeader: true,
  });
});

const anonymousCases: readonly (readonly [string, (world: World) => ResolvedCaller, string])[] = [
  ["an unknown session", (w) => w.resolve(9), "session-unknown"],
  ["a session at its expiry", (w) => w.resolve(1, 1, { now: 1_000_000 as UnixMs }), "session-expired"],
  [
    "a swept session",
    (w) => w.given({ type: "SessionsExpired", sessionIds: [sessionId(1)] }).resolve(),
    "session-unknown",
  ],
  ["a revoked session", (w) => w.given(revoked(1, 1)).resolve(), "session-revoked: operator"],
  [
    "a session created again after its revocation",
    (w) => w.given(revoked(1, 1), created(1, 1)).resolve(),
    "session-revoked: operator",
  ],
  ["a suspended user's session", (w) => w.given(user("UserSuspended")).resolve(), "session-revoked: user-suspended"],
  [
    "an old session of a restored user",
    (w) => w.given(user("UserSuspended"), user("UserRestored")).resolve(),
    "session-revoked: operator",
  ],
  ["an erased user's session", (w) => w.given(user("UserErased")).resolve(), "session-revoked: user-erased"],
  [
    "a session older than the revocation of all the user's sessions",
    (w) => w.given(user("UserSessionsRevoked")).resolve(),
    "session-revoked: operator",
  ],
  [
    "a session on a route of another provider",
    (w) => w.resolve(1, 1, { idpIds: new Set(["other", "third"]) }),
    "identity-provider-differs",
  ],
  ["a handle made with another provider", (w) => w.resolve(1, 1, { handleIdp: "other" }), "identity-provider-differs"],
  ["a handle that names another user", (w) => w.resolve(1, 2), "session-of-another-user"],
];
for (const [name, act, expect] of anonymousCases) {
  test(`${name} is anonymous: ${expect}`, () => {
    const world = new World().given(created(1, 1));
    assert.equal(describeCaller(world.resolve()), "principal");
    assert.equal(describeCaller(act(world)), `anonymous: ${expect}`);
  });
}

test("a session created after the revocation or the restore is valid", () => {
  const world = new World().given(created(1, 1), user("UserSuspended"), user("UserRestored"), created(2, 1));
  assert.equal(describeCaller(world.resolve(2)), "principal");
  world.given(user("UserSessionsRevoked"), created(3, 1));
  assert.equal(describeCaller(world.resolve(2)), "anonymous: session-revoked: operator");
  assert.equal(describeCaller(world.resolve(3)), "principal");
});

test("a session of any provider of the route is valid", () => {
  const world = new World().given(created(1, 1));
  assert.equal(describeCaller(world.resolve(1, 1, { idpIds: new Set(["other", "idp"]) })), "principal");
  const idpIds = new Set(["other", "idp"]);
  assert.equal(
    describeCaller(world.resolve(1, 1, { handleIdp: "other", idpIds })),
    "anonymous: identity-provider-differs",
    "the handle names another allowed provider than the session",
  );
});

test("a handle that names no provider takes its session's provider", () => {
  const world = new World().given(created(1, 1));
  assert.equal(describeCaller(world.resolve(1, 1, { handleIdp: "" })), "principal");
  assert.equal(
    describeCaller(world.resolve(1, 1, { handleIdp: "", idpIds: new Set(["other"]) })),
    "anonymous: identity-provider-differs",
  );
});

test("personal data that cannot be decrypted yet means that the node is behind, and is tried again", () => {
  const world = new World().given(created(1, 1));
  world.hasKey = false;
  assert.equal(describeCaller(world.resolve()), "behind: personal-data-not-open");
  world.hasKey = true;
  assert.equal(describeCaller(world.resolve()), "principal");
});

test("personal data is decrypted once per session, and the same principal is returned", () => {
  const world = new World().given(created(1, 1), members({ added: [1] }));
  assert.equal(world.resolve(), world.resolve());
  assert.equal(world.opened, 1);
});

test("a change of groups, user or claims creates a new principal at once", () => {
  const world = new World().given(created(1, 1), members({ added: [1] }));
  const groups = () => {
    const caller = world.resolve();
    return caller.type === "principal" ? [...caller.principal.groups] : [];
  };
  assert.deepEqual(groups(), ["eng"]);
  world.given(members({ removed: [1] }));
  assert.deepEqual(groups(), []);

  const before = world.resolve();
  world.given({ type: "UserUpserted", userId: userId(1), profile: new Uint8Array([1]) });
  assert.notEqual(world.resolve(), before);

  world.given({
    type: "SessionRefreshed",
    sessionId: sessionId(1),
    userId: userId(1),
    profile: new Uint8Array([7]),
    refreshedAt: 1 as UnixMs,
  });
  const refreshed = world.resolve();
  assert(refreshed.type === "principal");
  assert.equal(refreshed.principal.profile?.subject, "subject-7");
});

test("a cached principal does not outlive the revocation of the session", () => {
  const world = new World().given(created(1, 1));
  assert.equal(describeCaller(world.resolve()), "principal");
  world.given(revoked(1, 1));
  assert.equal(describeCaller(world.resolve()), "anonymous: session-revoked: operator");
});

test("decrypted personal data of a revoked session is dropped on its next request", () => {
  const world = new World().given(created(1, 1));
  const caller = world.resolve();
  assert(caller.type === "principal");
  assert.notEqual(world.cache.get(caller.principal.session), undefined);
  world.given(user("UserSuspended"));
  world.resolve();
  assert.equal(world.cache.get(caller.principal.session), undefined);
});

test("decrypted personal data of an erased person is unreachable at once, without a request", () => {
  const world = new World().given(created(1, 1));
  const caller = world.resolve();
  assert(caller.type === "principal");
  world.given(user("UserErased"));
  const { session } = world.projection.sessionStatus(sessionId(1)) as { session: typeof caller.principal.session };
  assert.notEqual(session, caller.principal.session, "the cache keeps principals weakly, by session object");
  assert.equal(world.cache.get(session), undefined);
  world.resolve();
  assert.equal(world.cache.get(session), undefined);
});
