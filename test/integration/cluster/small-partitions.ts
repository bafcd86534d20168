/** Small partitions: a log of Postgres that retention can cut after a hundred events, and where it begins. */
import { openPostgresLog } from "../../../src/replication/index.ts";
import { withClient } from "../../support/postgres-client.ts";
import type { Places } from "./cluster-config.ts";

type Place = Pick<Places, "postgres" | "clusterName">;

/** Done to the empty database, before the first process. */
export async function smallPartitions(places: Place): Promise<void> {
  const log = await openPostgresLog({ connectionString: places.postgres, cluster: places.clusterName });
  await log.close();
  await withClient(places.postgres, async (client) => {
    const { rows } = await client.query("select schemaname from pg_tables where tablename = 'log_head'");
    await client.query(`update "${rows[0]?.schemaname}".log_head set partition_size = 100`);
  });
}

/** The position behind which the log begins. */
export async function logBegins(places: Place): Promise<number> {
  const log = await openPostgresLog({ connectionString: places.postgres, cluster: places.clusterName });
  try {
    return (await log.base()).position;
  } finally {
    await log.close();
  }
}
