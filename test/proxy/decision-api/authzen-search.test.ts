/** AuthZEN searches: which projection they read, and how they share the event loop. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Projection } from "../../../src/events/index.ts";
import type { ApiDecision } from "../../../src/proxy/decision-api/api-decision.ts";
import { createAuthzenSearch } from "../../../src/proxy/decision-api/authzen-search.ts";
import type { RecordSearch } from "../../../src/proxy/decision-api/search-record.ts";
import { record, userId } from "../../events/support.ts";
import { routeTo, userRecorded } from "../support.ts";

function projectionOf(...people: readonly number[]): Projection {
  const projection = new Projection();
  for (const one of record(people.map(userRecorded), projection.applied)) projection.apply(one);
  return projection;
}

const permit = { type: "permit", principal: {} } as ApiDecision;
const by = { name: "wiki", requestId: "request-1" };
const recorded: RecordSearch = (_command, _by, search) => search(() => undefined);
const question = { action: { name: "GET" }, resource: { type: "route", id: "app.localhost/" } };

test("after a rebuild, people are searched in the current projection, not in the previous one", async () => {
  const replica = { projection: projectionOf(1, 2) };
  const search = createAuthzenSearch(replica, {
    ...{ api: { resources: {}, subjectIssuer: null }, decider: { routes: [] }, pause: async () => {} },
    ...{ decide: async () => permit, decideFor: async () => permit },
    recorded,
  });
  const findPeople = async () =>
    (await search.subjects({ ...question, subject: { type: "user" } }, by)).results.map(({ id }) => id);
  assert.deepEqual(await findPeople(), [userId(1), userId(2)].sort());
  replica.projection = projectionOf(3);
  assert.deepEqual(await findPeople(), [userId(3)]);
});

test("a search over thousands of routes yields to other work", async () => {
  let longest = 0;
  let decided = 0;
  const routes = Array.from({ length: 5_000 }, (_, i) => ({
    ...routeTo(1, { match: { kind: "prefix", value: `/${i}` } }),
    id: `route-${i}`,
  }));
  const search = createAuthzenSearch(
    { projection: projectionOf() },
    {
      ...{ api: { resources: {}, subjectIssuer: null }, decider: { routes } },
      async decide() {
        longest = Math.max(longest, ++decided);
        return null;
      },
      decideFor: async () => null,
      recorded,
      async pause() {
        decided = 0;
      },
    },
  );
  const subject = { type: "anonymous", id: "-" };
  await search.resources({ ...question, subject, resource: { type: "route" } }, by);
  assert.ok(longest > 0 && longest <= 50, `${longest} decisions in one turn`);
});
