/**
 * A later epoch comes round without NATS: a broker that can see nothing but an old primary which lives on is told of it
 * by the others, over HTTP, though the leader that its old primary names is gone.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Epoch } from "../../../src/events/index.ts";
import { createSession } from "../../broker/support.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { type PostgresGroup, startPostgresGroup } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, waitToLead } from "./in-process.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
let group: PostgresGroup;
let testCluster: InProcessCluster;

before(async () => {
  if (skip !== false) return;
  group = await startPostgresGroup({ synchrony: "quorum" });
});
after(async () => {
  await testCluster?.stop();
  await group?.stop();
});

test("who looks at an old primary which lives on hears of a later epoch from the others, and not by NATS", {
  skip,
  timeout: 240_000,
}, async () => {
  const servers = await group.newDatabase();
  testCluster = new InProcessCluster(servers);
  const database = new URL(servers.replace(/,[^/]*/, "")).pathname.slice(1);
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  const second = await testCluster.broker("broker-2");
  // It knows no other server, so whatever it learns of another epoch it learns from its neighbours.
  const stuck = await testCluster.broker("broker-3", { connectionString: group.only(group.primary(), database) });
  for (const { broker } of [first, second, stuck])
    await waitFor("it to know the others", () => Number(broker.metrics()["neighbours"]) === 2, { withinMs: 30_000 });
  await submitCommand(first, createSession("s", "alice"));
  await group.replicated();
  const before = Number(first.broker.metrics()["epoch"]);
  let newest = 0 as Epoch;
  const { log } = stuck;
  const heardOf = log.heardOf?.bind(log);
  Object.assign(log, {
    heardOf: (epoch: Epoch) => {
      if (epoch > newest) newest = epoch;
      heardOf?.(epoch);
    },
  });

  await first.crash();
  await group.failOver();
  await waitToLead(second);
  await waitFor("it to have heard of the new epoch", () => newest > before, { withinMs: 30_000 });
  assert.equal((await log.observe()).epoch, before, "where it looks there is none");
});
