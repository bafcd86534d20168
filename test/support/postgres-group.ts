/**
 * Postgres group: a primary and its standbys, two by default, with the failover of `cardea postgres promote`.
 *
 * - The old primary may stay alive after a failover.
 * - The group's connection string names all servers, so a client sees one server.
 */
import { promotePostgresStandby } from "../../src/replication/log/index.ts";
import { startPostgres } from "./postgres.ts";
import { newDatabase, withClient } from "./postgres-client.ts";
import { type PostgresStandby, type Replication, replicationOf, startStandby } from "./postgres-standby.ts";
import type { PostgresServer } from "./service.ts";
import { waitFor } from "./wait-for.ts";

export type Synchrony = "quorum" | "asynchronous";

/** A server of a group: a primary, a standby, or an old primary that could become one. */
export type PostgresMember = PostgresServer & Replication;

export type PostgresGroup = PostgresServer &
  Readonly<{
    /** All servers: the first primary, then the standbys. */
    servers: readonly PostgresMember[];
    standbys: readonly PostgresStandby[];
    /** The current primary, according to the failovers of this group. */
    primary(): PostgresServer;
    /** The connection string of one server only. */
    only(server: PostgresServer, database: string): string;
    /** Cuts off every standby. With `quorum` no commit is acknowledged from now on. */
    detachStandbys(): Promise<void>;
    /**
     * Resolves when every standby has replayed the WAL that the primary has now. Later writes do not extend the wait.
     */
    replicated(): Promise<void>;
    /** The standbys receive again from the primary that they had, if their histories allow it. */
    attachStandbys(): Promise<void>;
    /** From now on standbys receive through other ports, such as those of relays. */
    reachThrough(route: PostgresRoute): Promise<void>;
    /**
     * Fails over. The old primary stays as it is: alive and writable, unless it was killed before.
     * @param loss what to do when commits may be lost; by default refuse with `quorum`, accept with `asynchronous`
     * @returns the old primary, and when the new one could be written to
     */
    failOver(loss?: "refuse" | "accept"): Promise<Readonly<{ oldPrimary: PostgresServer; promotedAt: number }>>;
    /** Something else has promoted this server: it is the primary from now on. The others follow, but the old one. */
    adopt(name: string): Promise<void>;
    /**
     * Brings every server back that follows no primary, as a standby with a copy of the current one's data. It does not
     * wait until they stream.
     */
    rejoin(): Promise<void>;
    /** Runs SQL on the primary as a superuser. */
    sql(text: string, database?: string): Promise<Record<string, unknown>[]>;
  }>;

/** The port by which a standby reaches its primary, both by name. */
export type PostgresRoute = (standby: string, primary: string) => number;

const replicationSettings = {
  wal_keep_size: "256MB",
  wal_receiver_status_interval: "1",
  wal_retrieve_retry_interval: "100ms",
};

export async function startPostgresGroup({
  synchrony,
  settings = {},
  standbys: standbyCount = 2,
}: Readonly<{
  synchrony: Synchrony;
  settings?: Readonly<Record<string, string>>;
  standbys?: number;
}>): Promise<PostgresGroup> {
  const names = ["pg_1", ...Array.from({ length: standbyCount }, (_, i) => `pg_${i + 2}`)];
  const shared = { ...replicationSettings, ...settings };
  const first = await startPostgres({ settings: { ...shared, cluster_name: "pg_1" } });
  const like = first.connectionString();
  const firstMember: PostgresMember = Object.assign(
    first,
    replicationOf({ name: "pg_1", connectionString: () => like, like }),
  );
  const standbys: PostgresStandby[] = [];
  let primary: PostgresMember = firstMember;
  /** The servers that receive from the primary. */
  let followers: readonly PostgresMember[] = [];
  /** The newest database. Its log shows what a standby has. */
  let database = "postgres";
  let route: PostgresRoute | null = null;

  async function query(
    server: PostgresServer,
    text: string,
    database = "postgres",
  ): Promise<Record<string, unknown>[]> {
    return withClient(server.connectionString(database), async (client) => (await client.query(text)).rows);
  }
  async function waitForStandbys(server: PostgresServer, count: number): Promise<void> {
    await waitFor(
      "the standbys to stream",
      async () => {
        const rows = await query(server, "select sync_state from pg_stat_replication where state = 'streaming'");
        const wanted = synchrony === "quorum" ? "quorum" : "async";
        return rows.filter((row) => row["sync_state"] === wanted).length >= count;
      },
      { withinMs: 30_000 },
    );
  }

  try {
    for (const name of names.slice(1)) {
      standbys.push(await startStandby(first, { name, settings: { ...shared, cluster_name: name } }));
    }
    const synchronous = synchrony === "quorum" ? `ANY 1 (${names.join(", ")})` : "";
    for (const server of [first, ...standbys]) {
      await query(server, `alter system set synchronous_standby_names = '${synchronous}'`);
      await query(server, "select pg_reload_conf()");
    }
    await waitForStandbys(first, standbys.length);
    followers = standbys;
  } catch (error) {
    await Promise.all([first, ...standbys].map((server) => server.stop()));
    throw error;
  }

  const members: readonly PostgresMember[] = [firstMember, ...standbys];
  const each = async (act: (server: PostgresServer) => Promise<void>): Promise<void> => {
    await Promise.all(members.map(act));
  };
  /** Where a standby reaches the primary. */
  const wayOf = ({ name }: Replication): Readonly<{ port: number }> =>
    route === null ? primary : { port: route(name, primary.name) };
  const follow = (standby: PostgresMember): Promise<void> => standby.follow(wayOf(standby));

  const group: PostgresGroup = {
    servers: members,
    standbys,
    host: first.host,
    port: first.port,
    primary: () => primary,
    only: (server, database) => server.connectionString(database),
    connectionString(database = "postgres") {
      const url = new URL(first.connectionString(database));
      const hosts = members.map((server) => `${server.host}:${server.port}`);
      return url.href.replace(url.host, hosts.join(","));
    },
    async newDatabase() {
      database = new URL(await newDatabase(primary)).pathname.slice(1);
      return group.connectionString(database);
    },
    detachStandbys: async () => {
      await Promise.all(followers.map((standby) => standby.detach()));
    },
    async replicated() {
      const [row] = await query(primary, "select pg_current_wal_lsn()::text as lsn");
      const behind = `select count(*)::int as n from pg_stat_replication where replay_lsn >= '${row?.["lsn"]}'`;
      const all = followers.length;
      await waitFor("the standbys to have it all", async () => (await query(primary, behind))[0]?.["n"] === all, {
        withinMs: 30_000,
      });
    },
    async attachStandbys() {
      await Promise.all(followers.map(follow));
      await waitForStandbys(primary, followers.length);
    },
    async reachThrough(other) {
      route = other;
      await group.attachStandbys();
    },
    async failOver(loss = synchrony === "quorum" ? "refuse" : "accept") {
      const oldPrimary = primary;
      let promotedAt = 0;
      const { promoted, left } = await promotePostgresStandby({
        connectionString: group.connectionString(database),
        oldPrimary: oldPrimary.name,
        livingPrimary: "replace",
        loss,
        say(line) {
          if (line.endsWith("is the primary")) promotedAt = performance.now();
        },
      });
      const chosen = standbys.find(({ host, port }) => `${host}:${port}` === promoted);
      if (chosen === undefined) throw new Error(`another server was promoted: ${promoted}; ${left.join("; ")}`);
      primary = chosen;
      followers = followers.filter((each) => each !== chosen);
      if (route !== null) await Promise.all(followers.map(follow));
      await waitForStandbys(primary, followers.length);
      return { oldPrimary, promotedAt };
    },
    async adopt(name) {
      const chosen = members.find((each) => each.name === name);
      if (chosen === undefined) throw new RangeError(`there is no Postgres server ${name}`);
      if (chosen === primary) return;
      primary = chosen;
      followers = followers.filter((each) => each !== chosen);
      await Promise.all(followers.map((each) => each.receiveFrom(wayOf(each))));
    },
    async rejoin() {
      for (const member of members) {
        if (member === primary || followers.includes(member)) continue;
        if (member.copyFrom === undefined) throw new Error(`${member.name} runs in a container`);
        await member.copyFrom(member.sourceAt(primary));
        await member.receiveFrom(wayOf(member));
        followers = [...followers, member];
      }
    },
    sql: (text, database) => query(primary, text, database),
    stop: () => each((server) => server.stop()),
    kill: () => primary.kill(),
    start: () => primary.start(),
    restart: () => primary.restart(),
    pause: () => primary.pause(),
    resume: () => primary.resume(),
    log: async () => (await Promise.all(members.map((server) => server.log()))).join("\n"),
    [Symbol.asyncDispose]: () => group.stop(),
  };
  return group;
}
