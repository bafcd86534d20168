/**
 * Provisioning by Okta and Entra ID: their documented request sequences against a running installation, and what routes
 * then permit people who really sign in.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, type TestContext, test } from "node:test";
import { startPostgres } from "../../support/postgres.ts";
import type { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, type Installation, startInstallation } from "../identity/installation.ts";
import { assertHas, filled, raiseLevel, type Step, scimClient } from "./scim-client.ts";

type Sequence = Readonly<{ client: string; steps: readonly Step[] }>;
const sequenceOf = (name: string): Sequence =>
  JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url), "utf8")) as Sequence;

const start = (t: Pick<TestContext, "after">, more: Readonly<Record<string, unknown>>): Promise<Installation> =>
  startInstallation(t, ({ url, upstream }) => ({
    scim_clients: { okta: { match: "subject" }, entra: { match: "claim", claim: "name" } },
    routes: [
      {
        from: url("app", ""),
        to: upstream,
        allow_any_authenticated_user: true,
        pass_identity_headers: true,
      },
    ],
    jwt_claims_headers: ["groups"],
    ...more,
  }));

for (const store of ["file", "postgres"] as const) {
  for (const name of ["entra", "okta"]) {
    test(`the requests of ${name} decide what people may use, with ${store}`, async (t) => {
      const more =
        store === "file"
          ? { databroker_storage_type: "file" }
          : {
              databroker_storage_type: "postgres",
              databroker_storage_connection_string: await (await postgres()).newDatabase(),
            };
      const at = await start(t, more);
      await raiseLevel(at);
      await play(at, sequenceOf(name));
    });
  }
}

let server: Awaited<ReturnType<typeof startPostgres>> | undefined;
after(() => server?.stop());
async function postgres(): Promise<Awaited<ReturnType<typeof startPostgres>>> {
  server ??= await startPostgres();
  return server;
}

async function play(at: Installation, { client, steps }: Sequence): Promise<void> {
  const scim = await scimClient(at, client);
  const saved = new Map<string, string>();
  const people = new Map<string, Visitor>();
  const etags = new Map<string, string>();
  for (const [n, step] of steps.entries()) {
    const where = `step ${n + 1}: ${client} ${step.does}`;
    const { method, path, body } = filled({ method: step.method, path: step.path, body: step.body ?? null }, saved);
    const answer = await scim.request(method, path, body ?? undefined);
    assert.equal(answer.status, step.status, `${where}: ${JSON.stringify(answer.body)}`);
    if (step.answer !== undefined) assertHas(answer.body, filled(step.answer, saved), where);
    for (const name of step.without ?? []) assert.ok(!(name in answer.body), `${where}: has ${name}`);
    for (const [as, from] of Object.entries(step.save ?? {})) saved.set(as, String(answer.body[from]));
    const etag = answer.header("etag");
    if (step.sameVersion === true) assert.equal(etag, etags.get(path), where);
    if (etag !== null) etags.set(path, etag);
    for (const person of step.denied ?? []) await assertDenied(at, people, person, where);
    for (const [person, groups] of Object.entries(step.groups ?? {})) {
      await waitFor(`${where}: ${person} in ${groups.join(", ")}`, async () => {
        const found = await groupsOf(at, people, person);
        assert.deepEqual(found, groups);
        return true;
      });
    }
  }
}

async function signIn(at: Installation, people: Map<string, Visitor>, person: string): Promise<Visitor> {
  const visitor = at.visitor();
  people.set(person, visitor);
  at.provider.person.name = person;
  at.provider.person.claims = { name: `oid-${person}` };
  return visitor;
}

/** What the upstream learns of the person's groups; signs in where that is needed. */
async function groupsOf(at: Installation, people: Map<string, Visitor>, person: string): Promise<readonly string[]> {
  const visitor = people.get(person) ?? (await signIn(at, people, person));
  at.provider.person.name = person;
  at.provider.person.claims = { name: `oid-${person}` };
  const { end } = await follow(visitor, at.url("app"));
  const header = echoOf(end).headers["x-pomerium-claim-groups"];
  return header === undefined || header === "" ? [] : String(header).split(",");
}

async function assertDenied(
  at: Installation,
  people: Map<string, Visitor>,
  person: string,
  where: string,
): Promise<void> {
  const before = people.get(person);
  if (before !== undefined) {
    const answer = await before.request(at.url("app"), { headers: { accept: "application/json" } });
    assert.notEqual(answer.status, 200, `${where}: ${person} still has access`);
  }
  const again = await signIn(at, people, person);
  const { end } = await follow(again, at.url("app"));
  assert.equal(end.status, 403, `${where}: ${person} signed in again`);
  assert.match(end.body, /suspended/i);
}
