/** Small partitions: a log in Postgres that retention can cut every 100 events, and the position where it begins. */
import type { Client } from "pg";
import { openPostgresLog } from "../../../src/replication/log/index.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { ClusterSetup } from "./cluster-config.ts";

type LogSetup = Pick<ClusterSetup, "postgres" | "clusterName">;

/** Prepares the empty database before the first process starts. */
export async function shrinkPartitions(setup: LogSetup): Promise<void> {
  const log = await openPostgresLog({ connectionString: setup.postgres, cluster: setup.clusterName });
  await log.close();
  await withClient(setup.postgres, async (client) => {
    await client.query(`update ${await schemaOf(client)}.log_head set partition_size = 100`);
  });
}

async function schemaOf(client: Pick<Client, "query">): Promise<string> {
  const { rows } = await client.query("select schemaname from pg_tables where tablename = 'log_head'");
  return `"${rows[0]?.schemaname}"`;
}

/** Drops whole partitions below this position, as an operator could by hand, even if a node still needs them. */
export async function dropPartitionsBelow(setup: LogSetup, first: number): Promise<void> {
  await withClient(setup.postgres, async (client) => {
    const schema = await schemaOf(client);
    const drop = `select retained.more from ${schema}.log_head as head, ${schema}.retain(false, head.epoch, head.incarnation, $1) as retained`;
    while ((await client.query(drop, [first])).rows[0]?.more === true);
  });
}

/** The position after which the log begins. */
export async function basePosition(setup: LogSetup): Promise<number> {
  const log = await openPostgresLog({ connectionString: setup.postgres, cluster: setup.clusterName });
  try {
    return (await log.base()).position;
  } finally {
    await log.close();
  }
}
