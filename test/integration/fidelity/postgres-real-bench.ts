/** Postgres bench on real servers: a primary and a streaming standby from local binaries. */
import { type EventLog, openPostgresLog } from "../../../src/replication/log/index.ts";
import { startPostgres } from "../../support/postgres.ts";
import { withClient } from "../../support/postgres-client.ts";
import { startStandby } from "../../support/postgres-standby.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { OpenOptions, PostgresBench, ServerName } from "./postgres-bench.ts";

export async function startRealBench(): Promise<PostgresBench> {
  const primary = await startPostgres();
  const standby = await startStandby(primary);
  const url = (...names: readonly ServerName[]): string => {
    const one = new URL(primary.connectionString());
    const hosts = names.map((name) => `${primary.host}:${name === "primary" ? primary.port : standby.port}`);
    return one.href.replace(one.host, hosts.join(","));
  };
  const sql = (name: ServerName, text: string, values: readonly unknown[] = []) =>
    withClient(url(name), async (client) => (await client.query(text, [...values])).rows as Record<string, unknown>[]);
  const configure = async (name: ServerName, setting: string): Promise<void> => {
    await sql(name, `alter system set ${setting}`);
    await sql(name, "select pg_reload_conf()");
  };
  const until = async (what: string, isSo: () => Promise<boolean>): Promise<void> => {
    await waitFor(what, isSo, { withinMs: 30_000 });
  };
  const untilSynchronous = () =>
    until("the standby to be synchronous", async () => {
      const rows = await sql("primary", "select 1 from pg_stat_replication where sync_state in ('sync', 'quorum')");
      return rows.length === 1;
    });
  const waits = () => sql("primary", "select pid from pg_stat_activity where wait_event = 'SyncRep'");

  await configure("primary", "synchronous_standby_names = 'ANY 1 (*)'");
  await untilSynchronous();
  const [upstream] = await sql("standby", "select current_setting('primary_conninfo') as conninfo");
  const conninfo = String(upstream?.["conninfo"]).replaceAll("'", "''");
  const opened: EventLog[] = [];
  return {
    until,
    open: async (options = {}) => {
      const { writeTimeoutMs = 30_000, servers = ["primary", "standby"] }: OpenOptions = options;
      const log = await openPostgresLog({
        connectionString: url(...servers),
        cluster: "fidelity",
        connectTimeoutMs: 10_000, // a stopped server refuses at once, but a running one may be slow
        writeTimeoutMs,
      });
      opened.push(log);
      return log;
    },
    visibleHead: async (name) => Number((await sql(name, "select pos from cardea.log_head"))[0]?.["pos"]),
    standbyAway: async () => {
      await configure("standby", "primary_conninfo = ''");
      await until(
        "the walsender to end",
        async () => (await sql("primary", "select 1 from pg_stat_replication")).length === 0,
      );
    },
    standbyBack: async () => {
      await configure("standby", `primary_conninfo = '${conninfo}'`);
      await untilSynchronous();
      await until("no commit to wait", async () => (await waits()).length === 0);
    },
    commitWaits: () => until("a commit to wait", async () => (await waits()).length > 0),
    cancelWait: async () => {
      const [row] = await waits();
      if (row === undefined) throw new Error("no commit waits");
      await sql("primary", "select pg_cancel_backend($1)", [row["pid"]]);
    },
    setSynchronous: async (standbys) => {
      await configure("primary", `synchronous_standby_names = '${standbys === 0 ? "" : "ANY 1 (*)"}'`);
      if (standbys > 0)
        await until("the setting to be read", async () => {
          const [row] = await sql("primary", "select current_setting('synchronous_standby_names') as names");
          return row?.["names"] !== "";
        });
    },
    kill: async (name) => {
      if (name === "primary") await primary.kill();
      else await standby.stop();
    },
    start: async (name) => {
      if (name === "standby") throw new Error("a stopped standby cannot be started again");
      await primary.start();
    },
    promoteStandby: () => standby.promote(),
    dispose: async () => {
      await Promise.allSettled(opened.map((log) => log.close()));
      await standby.stop();
      await primary.stop();
    },
  };
}
