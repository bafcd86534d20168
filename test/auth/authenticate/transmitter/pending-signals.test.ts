/** Signals that wait: which restored people are reported, and what is kept of a person's name. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Identities, identitiesMax } from "../../../../src/auth/authenticate/transmitter/identities.ts";
import {
  type Identity,
  PendingSignals,
  type SignalSource,
  type StreamFilter,
} from "../../../../src/auth/authenticate/transmitter/pending-signals.ts";
import { RestoredPeople } from "../../../../src/auth/authenticate/transmitter/restored-people.ts";
import {
  type CardeaEvent,
  encodeEvent,
  genesis,
  type Link,
  Projection,
  provisionedUserId,
  signalRecordId,
  type UnixMs,
  type UserId,
} from "../../../../src/events/index.ts";
import { record } from "../../../events/support.ts";

const alice = "user-1" as UserId;
const atScim = provisionedUserId("hr", "alice@example.com");
const atOther = provisionedUserId("directory:ldap", "alice@example.com");
const bySignal = signalRecordId("okta", { by: "email", email: "alice@example.com" });
const own: Identity = {
  ...{ issuer: "https://idp.test", subject: "alice", email: "Alice@example.com", emailVerified: true },
  ...{ name: "Alice", claims: {} },
};
const provisioned = (issuer: string): Identity => ({
  ...{ ...own, issuer, subject: "1", email: "alice@example.com", emailVerified: false },
});
const identities = new Map<UserId, Identity>([
  [alice, own],
  [atScim, provisioned("scim:hr")],
  [atOther, provisioned("directory:ldap")],
]);
const profile = (userId: UserId): CardeaEvent => ({ type: "UserUpserted", userId, profile: new Uint8Array([1]) });
const suspended = (userId: UserId): CardeaEvent => ({ type: "UserSuspended", userId, reason: "" });
const restored = (userId: UserId): CardeaEvent => ({ type: "UserRestored", userId });
const filter: StreamFilter = {
  ...{ streamId: "s", salt: "x".repeat(43), events: new Set(["account-enabled", "account-disabled"]) },
  ...{ groups: null, claims: [], mode: "all", listed: new Set<string>() },
};

/** Everything that waits after these events. */
async function waiting(events: readonly CardeaEvent[]) {
  const recorded = record([...[alice, atScim, atOther, bySignal].map(profile), ...events]);
  const projection = new Projection();
  for (const each of recorded) projection.apply(each);
  const open = async (users: readonly UserId[]) =>
    new Map(users.flatMap((id) => (identities.has(id) ? [[id, identities.get(id) as Identity]] : [])));
  const people = new RestoredPeople({
    ...{ projection, open, now: () => 0 as UnixMs, salt: "salt" },
    recordsOf: ({ email, emailVerified, issuer }) =>
      emailVerified && email.toLowerCase() === "alice@example.com"
        ? [bySignal, ...(issuer === own.issuer ? [atScim, atOther] : [])]
        : [],
  });
  const source: SignalSource = {
    read: async (after: Link) => ({
      type: "page",
      page: {
        ...{
          previous: after,
          entries: recorded.map((each) => encodeEvent(each as Parameters<typeof encodeEvent>[0])),
          keys: [],
        },
        ...{ last: projection.applied, head: projection.applied },
      },
    }),
    applied: () => projection.applied.position,
    identities: open,
    stillBarred: (users, known) => people.stillBarred(users, known),
    userOf: () => null,
  };
  const window = new PendingSignals(filter, { cursor: { after: genesis, index: 0 }, done: [] });
  await window.scan(source, null);
  return window.pending;
}
const enabled = async (events: readonly CardeaEvent[]): Promise<readonly (UserId | null)[]> =>
  (await waiting(events)).filter(({ signal }) => signal.name === "account-enabled").map(({ signal }) => signal.userId);

test("a person is reported as enabled when the last source that bars them lifts it, and not before", async () => {
  for (const one of [alice, atScim, atOther])
    for (const other of [alice, atScim, atOther, bySignal]) {
      if (one === other) continue;
      const both = [suspended(one), suspended(other), restored(one)];
      assert.deepEqual(await enabled(both), [], `${other} still bars, ${one} does not`);
      const last = other === bySignal ? [one] : [one, other];
      const all = await enabled([...both, restored(other)]);
      assert.ok(last.length === all.length && all.includes(one));
    }
  assert.deepEqual(await enabled([suspended(alice), restored(alice)]), [alice]);
  assert.deepEqual(await enabled([suspended(alice), restored(alice), suspended(alice)]), [], "suspended again");
});

test("a signal that waits keeps no name of its person", async () => {
  const all = await waiting([suspended(alice), restored(alice)]);
  assert.ok(all.length > 0);
  assert.doesNotMatch(JSON.stringify(all), /example\.com|Alice/i);
});

test("of the people who are next a few names are known, and of an erased one none", async () => {
  const projection = new Projection();
  const users = Array.from({ length: 200 }, (_, n) => `user-${n}` as UserId);
  for (const each of record(users.map(profile))) projection.apply(each);
  const first = users[0] ?? assert.fail();
  const names = new Identities(projection, { keepsClaims: false });
  let opened = 0;
  const open = async (wanted: readonly UserId[]) => {
    opened += 1;
    return new Map(wanted.map((id) => [id, own]));
  };
  await names.prepare(users, open);
  await names.prepare(users, open);
  assert.equal(opened, 1, "what is known is not opened again");
  assert.equal(names.size, identitiesMax);
  for (let sent = 0; sent < 100; sent++) await names.prepare(users.slice(sent), open);
  assert.ok(opened <= 4, `names are opened many at once: ${opened} times for 100 tokens`);
  await names.prepare(users, open);
  assert.equal(names.identityOf(first)?.email, own.email);
  const erased = record([...users.map(profile), { type: "UserErased", userId: first }]).at(-1) ?? assert.fail();
  projection.apply(erased);
  assert.equal(names.identityOf(first), undefined);
  await names.prepare(users, open);
  assert.equal(names.identityOf(first), undefined);
  await names.prepare([], open);
  assert.equal(names.size, 0);
});
