/** `session_idle_lifetime`: where it may be written, which one counts, and what `cardea check` says. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { idleLifetimesOf, signInClientsOf } from "../../src/config/index.ts";
import { base, config, errors, goodRoute, warnings } from "./support.ts";

const minute = 60_000;
type Parts = Readonly<{ global?: string; partners?: string; payroll?: string }>;

function textOf({ global, partners, payroll }: Parts): string {
  const key = (value: string | undefined, before: string): string =>
    value === undefined ? "" : `${before}session_idle_lifetime: ${value}`;
  return `${base}${key(global, "")}
sign_in_providers:
  partners: {provider: google, client_id: c, client_secret: s${key(partners, ", ")}}
${goodRoute}
  - from: https://payroll.example.com
    to: http://127.0.0.1:8092
    allow_any_authenticated_user: true
${key(payroll, "    ")}
`;
}

/** What applies on the two routes, to sessions of the two providers (minutes). */
function appliedBy(parts: Parts): readonly number[] | null {
  const loaded = config(textOf(parts));
  const lifetimes = idleLifetimesOf(loaded);
  if (lifetimes === null) return null;
  const clients = signInClientsOf(loaded);
  const ids = ["default", "partners"].map((name) => clients.byName(name)?.idpId ?? assert.fail(name));
  return loaded.routes.flatMap((route) => ids.map((id) => lifetimes.onRoute(route, id) / minute));
}

describe("the shortest idle lifetime counts", () => {
  test("of the global one, the provider's and the route's; 0s is none", () => {
    assert.equal(appliedBy({}), null);
    assert.equal(appliedBy({ global: "0s", partners: "0s", payroll: "0" }), null);
    assert.deepEqual(appliedBy({ global: "60m" }), [60, 60, 60, 60]);
    assert.deepEqual(appliedBy({ global: "60m", partners: "20m", payroll: "10m" }), [60, 20, 10, 10]);
    assert.deepEqual(appliedBy({ partners: "5m", payroll: "10m" }), [0, 5, 10, 5]);
  });

  test("and reports follow the shortest that a session meets anywhere", () => {
    const loaded = config(textOf({ partners: "5m", payroll: "10m" }));
    const lifetimes = idleLifetimesOf(loaded);
    const partners = signInClientsOf(loaded).byName("partners")?.idpId ?? "";
    assert.equal(lifetimes?.shortest(partners), 5 * minute);
    assert.equal(lifetimes?.shortest("other"), 10 * minute);
    assert.equal(lifetimes?.everywhere("other"), 0);
    assert.equal(
      idleLifetimesOf(config(textOf({ partners: "5m" })))?.shortest("other"),
      0,
      "nothing is remembered of others",
    );
  });
});

test("a value that cannot be meant is refused with its place and the remedy", () => {
  const problems = (parts: Parts): string => errors(textOf(parts)).join("\n");
  assert.match(problems({ global: "9s" }), /session_idle_lifetime: 9s is too short; write 10s or more/);
  assert.match(problems({ payroll: "soon" }), /routes\[1\]\.session_idle_lifetime: "soon" is not a duration/);
  assert.match(
    problems({ partners: "1s" }),
    /sign_in_providers\.partners\.session_idle_lifetime: "1s" is not a lifetime of a session; write a duration from 10s/,
  );
});

test("an idle lifetime without effect is reported", () => {
  const found = (parts: Parts): string => warnings(textOf(parts)).join("\n");
  assert.match(found({ global: "14h" }), /session_idle_lifetime: has no effect: a session ends 14h/);
  assert.match(
    found({ global: "10m", payroll: "10m" }),
    /routes\[1\]\.session_idle_lifetime: has no effect: the global session_idle_lifetime of 10m/,
  );
  assert.match(
    found({ global: "10m", partners: "1h" }),
    /sign_in_providers\.partners\.session_idle_lifetime: has no effect/,
  );
  assert.doesNotMatch(found({ global: "1h", partners: "10m", payroll: "10m" }), /idle/);
});
