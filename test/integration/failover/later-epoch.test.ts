/**
 * A later epoch reaches a broker without NATS: the broker sees only an old primary that is still running, and the other
 * brokers name the new epoch over HTTP.
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

test("a broker that sees only an old primary learns a later epoch from the other brokers, without NATS", {
  skip,
  timeout: 240_000,
}, async () => {
  const servers = await group.newDatabase();
  testCluster = new InProcessCluster(servers);
  const database = new URL(servers.replace(/,[^/]*/, "")).pathname.slice(1);
  const first = await testCluster.broker("broker-1");
  await waitToLead(first);
  const second = await testCluster.broker("broker-2");
  // It knows no other server, so it can learn a later epoch only from the other brokers.
  const isolated = await testCluster.broker("broker-3", { connectionString: group.only(group.primary(), database) });
  for (const { broker } of [first, second, isolated])
    await waitFor("the broker to know the others", () => Number(broker.metrics()["neighbours"]) === 2, {
      withinMs: 30_000,
    });
  await submitCommand(first, createSession("s", "alice"));
  await group.replicated();
  const before = Number(first.broker.metrics()["epoch"]);
  let newest = 0 as Epoch;
  const { log } = isolated;
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
  await waitFor("the isolated broker to learn the new epoch", () => newest > before, { withinMs: 30_000 });
  assert.equal((await log.observe()).epoch, before, "the old primary is still in the old epoch");
});
