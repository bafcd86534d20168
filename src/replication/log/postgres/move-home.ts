/**
 * Move home: moves the Postgres of the home region to another region, in an order that needs no timing
 * (docs/adr/0041-the-home-moves-by-one-command.md). It carries out the steps of move-plan.ts.
 *
 * - It may be killed at any step and run again: each step asks the servers whether it is done.
 * - A planned move that fails before the promotion lets the old primary write again.
 * - Bringing an old primary back as a standby is left to the operator; the outcome names the commands.
 */
import { formatLink } from "../../../events/index.ts";
import { messageOf } from "./connection.ts";
import { type PostgresHost, parsePostgresHosts } from "./hosts.ts";
import { type AttachedStandby, type MovePlan, type MoveView, planMove, strayStandbys } from "./move-plan.ts";
import type { ServerHead } from "./newest-head.ts";
import { PromotionRefusedError, promotePostgresStandby } from "./promote.ts";
import {
  addressOf,
  asStandby,
  followNew,
  meetServer,
  PromotionFailedError,
  type PromotionServer,
  pollSeconds,
  receivedBytes,
  waitUntil,
} from "./promotion-servers.ts";
import { readServerHeads } from "./server-heads.ts";

export type MoveHomeOptions = Readonly<{
  /** Names every server of every region. Its user must be able to change settings and end sessions. */
  connectionString: string;
  cluster: string;
  schema?: string;
  /** The servers of the target region, named as in the connection string. */
  target: ReadonlySet<string>;
  /** The name of a primary that does not answer, if `synchronous_standby_names` lists it. */
  oldPrimary?: string | null;
  /** Whether to accept a possible loss where no primary answers. */
  loss?: "refuse" | "accept";
  /** `look`: plans, and changes nothing. */
  only?: "look" | "all";
  /** Called with the plan before anything is changed. */
  onPlan?: (plan: MovePlan, view: MoveView) => void;
  say?: (line: string) => void;
  connectTimeoutMs?: number;
  stepTimeoutMs?: number;
}>;

export type MovedHome = Readonly<{
  kind: MovePlan["kind"];
  /** The primary of the target region; null: nothing was changed. */
  primary: string | null;
  /** The newest proven epoch before a broker of the target region leads. */
  epoch: number;
  /** What an operator still has to do, with the commands. */
  left: readonly string[];
  /** Why acknowledged events may be lost; empty: none can be. */
  mayBeLost: readonly string[];
}>;

/** Polls of 50 ms without the rest, before the standbys are pointed at the old primary again. */
const pollsBeforeLead = 10;

type Limits = Readonly<{ connectTimeoutMs: number; stepTimeoutMs: number }>;

/** @throws PromotionRefusedError, PromotionFailedError, LogRefusedError for an unreadable connection string */
export async function movePostgresHome(options: MoveHomeOptions): Promise<MovedHome> {
  const { connectTimeoutMs = 3_000, stepTimeoutMs = 30_000, say = () => {} } = options;
  const limits = { connectTimeoutMs, stepTimeoutMs };
  const view = await viewOf(options, limits);
  const plan = planMove(view);
  options.onPlan?.(plan, view);
  if (plan.refusal !== null) throw new PromotionRefusedError(plan.refusal);
  const epoch = view.newest?.log?.durable.epoch ?? 0;
  const lost = plan.kind === "lost" ? await checkLoss(options, limits) : [];
  if (options.only === "look") return { kind: plan.kind, primary: null, epoch, left: [], mayBeLost: lost };
  if (plan.kind === "planned") await movePlanned(view, options, { ...limits, say });
  if (plan.kind === "lost") await promoteIn(options, limits, options.loss ?? "refuse");
  const left = await settle(options, { ...limits, say });
  const after = await viewOf(options, limits);
  return { kind: plan.kind, primary: after.newest?.host ?? null, epoch, left, mayBeLost: lost };
}

/** @throws PromotionRefusedError when an acknowledged change could be lost and the caller does not accept it */
async function checkLoss(options: MoveHomeOptions, limits: Limits): Promise<readonly string[]> {
  const { mayBeLost } = await promotePostgresStandby({
    ...promotionOf(options, limits),
    loss: options.loss ?? "refuse",
    only: "look",
  });
  return mayBeLost;
}

function promotionOf(options: MoveHomeOptions, limits: Limits) {
  const { connectionString, schema, target: prefer, oldPrimary = null, say } = options;
  return {
    ...limits,
    connectionString,
    prefer,
    oldPrimary,
    livingPrimary: "replace" as const,
    ...(schema === undefined ? {} : { schema }),
    ...(say === undefined ? {} : { say }),
  };
}

async function promoteIn(options: MoveHomeOptions, limits: Limits, loss: "refuse" | "accept"): Promise<void> {
  await promotePostgresStandby({ ...promotionOf(options, limits), loss });
}

/** The old primary answers: it stops writing, a standby of the target region receives the rest and is promoted. */
async function movePlanned(
  view: MoveView,
  options: MoveHomeOptions,
  within: Limits & Readonly<{ say: (line: string) => void }>,
): Promise<void> {
  const hosts = hostsOf(options);
  const old = await connect(hosts, view.newest?.host ?? "", within);
  try {
    const end = await fence(old, within);
    try {
      await catchUp(hosts, { options, old: old.host, end, within });
      // Nothing can be lost: no write was accepted after the position that the standby has received.
      await promoteIn(options, within, "accept");
    } catch (error) {
      const after = await viewOf(options, within);
      // A promotion that an earlier run had begun may have come first. The rest remains.
      if (after.newest?.role === "primary" && options.target.has(after.newest.host)) return;
      await unfence(old, within);
      throw new PromotionFailedError(`${messageOf(error)}; ${old.host.name} accepts writes again`, { cause: error });
    }
  } finally {
    await old.end();
  }
}

type Saying = Limits & Readonly<{ say: (line: string) => void }>;

/** @returns the flushed position of the write-ahead log once no session can write, in bytes */
async function fence(server: PromotionServer, { say, ...limits }: Saying): Promise<bigint> {
  const { host, ask } = server;
  await ask("alter system set default_transaction_read_only = on");
  const since = await setsWrites(server, "on", limits);
  await waitUntil(limits.stepTimeoutMs, `the sessions of ${host.name} to end`, async () => {
    const { left } = await ask(
      `select count(pg_terminate_backend(pid))::int as left from pg_stat_activity where backend_type = 'client backend'
         and datname = current_database() and pid <> pg_backend_pid() and backend_start < $1::timestamptz`,
      [since],
    );
    if (left !== 0) await ask(`select pg_sleep(${pollSeconds})`);
    return left === 0;
  });
  const row = await ask("select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text as bytes");
  say(`${host.name}: refuses writes`);
  return BigInt(String(row["bytes"]));
}

async function unfence(server: PromotionServer, { say, ...limits }: Saying): Promise<void> {
  await server.ask("alter system reset default_transaction_read_only");
  await setsWrites(server, "off", limits);
  say(`${server.host.name}: accepts writes`);
}

/** Reloads the settings, and waits until a new session shows them. @returns when that session began */
async function setsWrites({ host, ask }: PromotionServer, value: "on" | "off", limits: Limits): Promise<string> {
  let since = "";
  await ask("select pg_reload_conf()");
  await waitUntil(limits.stepTimeoutMs, `${host.name} to read its settings`, async () => {
    const session = await meetServer(host, limits);
    if ("problem" in session) throw new PromotionFailedError(`${host.name}: ${session.problem}`);
    try {
      const row = await session.ask(
        `select pg_sleep(${pollSeconds}), current_setting('default_transaction_read_only') as read_only,
           (select backend_start::text from pg_stat_activity where pid = pg_backend_pid()) as since`,
      );
      since = String(row["since"]);
      return row["read_only"] === value;
    } finally {
      await session.end();
    }
  });
  return since;
}

async function catchUp(
  hosts: ReadonlyMap<string, PostgresHost>,
  { options, old, end, within }: Readonly<{ options: MoveHomeOptions; old: PostgresHost; end: bigint; within: Saying }>,
): Promise<void> {
  const met = await Promise.all([...options.target].map((name) => connect(hosts, name, within).catch(() => null)));
  const servers = met.filter((server) => server !== null);
  const open = servers.filter(({ row }) => row["standby"] === true).map(asStandby);
  try {
    if (open.length === 0) throw new PromotionFailedError("no standby of the target region answers");
    let polls = 0;
    await waitUntil(within.stepTimeoutMs, "a standby of the target region to receive the rest", async () => {
      const received = await Promise.all(open.map(receivedBytes));
      if (received.some((bytes) => bytes >= end)) return true;
      polls += 1;
      await open[0]?.ask(`select pg_sleep(${pollSeconds})`);
      // A run that was interrupted may have left them without a server to receive from, or with another standby.
      if (polls === pollsBeforeLead)
        await Promise.all(open.map((standby) => followNew(standby, old, within.stepTimeoutMs)));
      return false;
    });
    within.say("the target region has received everything");
  } finally {
    await Promise.all(servers.map((server) => server.end()));
  }
}

/** Steps after the promotion, each of which an earlier run may have done. @returns what is left to do */
async function settle(options: MoveHomeOptions, within: Saying): Promise<readonly string[]> {
  const hosts = hostsOf(options);
  const view = await viewOf(options, within);
  const { newest } = view;
  if (newest === null || newest.role !== "primary" || !options.target.has(newest.host))
    throw new PromotionFailedError("the target region has no primary; run this command again");
  const left: string[] = [];
  const note = (problem: string | undefined): void => {
    if (problem !== undefined) left.push(problem);
  };
  const primary = await connect(hosts, newest.host, within);
  try {
    if (newest.writes === "refused") await unfence(primary, within);
    for (const name of strayStandbys(view)) note(await lead(hosts, { name, primary: primary.host, within }));
  } finally {
    await primary.end();
  }
  for (const old of view.servers)
    if (old !== newest && old.role === "primary") left.push(...(await fenceOld(hosts, { old, newest, within })));
  for (const { host, problem } of view.unread)
    left.push(`${host} does not answer (${problem}). ${rejoinOf(host, hosts.get(newest.host), null)}`);
  return left;
}

/** @returns the problem in plain words; undefined: none */
async function lead(
  hosts: ReadonlyMap<string, PostgresHost>,
  { name, primary, within }: Readonly<{ name: string; primary: PostgresHost; within: Saying }>,
): Promise<string | undefined> {
  const server = await connect(hosts, name, within);
  try {
    const problem = await followNew(asStandby(server), primary, within.stepTimeoutMs);
    within.say(problem ?? `${name}: follows ${primary.name}`);
    return problem;
  } finally {
    await server.end();
  }
}

/** An old primary is stopped from writing. @returns how to bring it back */
async function fenceOld(
  hosts: ReadonlyMap<string, PostgresHost>,
  { old, newest, within }: Readonly<{ old: ServerHead; newest: ServerHead; within: Saying }>,
): Promise<readonly string[]> {
  const at = old.log === null ? "" : `, epoch ${old.log.epoch}, head ${formatLink(old.log.head)}`;
  const title = `${old.host} is an old primary${at}`;
  try {
    const server = await connect(hosts, old.host, within);
    try {
      if (old.writes === "accepted") await fence(server, within);
      const { folder } = await server.ask("select current_setting('data_directory', true) as folder");
      const known = typeof folder === "string" && folder !== "" ? folder : null;
      return [`${title}; it refuses writes. ${rejoinOf(old.host, hosts.get(newest.host), known)}`];
    } finally {
      await server.end();
    }
  } catch (error) {
    return [`${title}, and could not be stopped from writing: ${messageOf(error)}`];
  }
}

function rejoinOf(name: string, primary: PostgresHost | undefined, folder: string | null): string {
  if (primary === undefined) return "";
  const { host, port } = addressOf(primary);
  const data = folder ?? "$PGDATA";
  return `Bring it back only as a standby. On the machine of ${name}:
    pg_ctl -D ${data} stop -m fast
    pg_rewind -D ${data} -R --source-server="host=${host} port=${port} user=postgres dbname=postgres"
    pg_ctl -D ${data} start
  If pg_rewind refuses, take a new copy: pg_basebackup -D (an empty folder) -R -d "host=${host} port=${port} user=postgres"`;
}

// --- what the servers say

function hostsOf({ connectionString }: MoveHomeOptions): ReadonlyMap<string, PostgresHost> {
  return new Map(parsePostgresHosts(connectionString).map((host) => [host.name, host]));
}

/** @throws PromotionFailedError when it does not answer */
async function connect(
  hosts: ReadonlyMap<string, PostgresHost>,
  name: string,
  limits: Limits,
): Promise<PromotionServer> {
  const host = hosts.get(name);
  if (host === undefined) throw new PromotionFailedError(`the connection string has no server ${name}`);
  const server = await meetServer(host, limits);
  if ("problem" in server) throw new PromotionFailedError(`${name}: ${server.problem}`);
  return server;
}

async function viewOf(options: MoveHomeOptions, limits: Limits): Promise<MoveView> {
  const { connectionString, cluster, schema, target } = options;
  const { connectTimeoutMs } = limits;
  const heads = await readServerHeads({
    connectionString,
    cluster,
    connectTimeoutMs,
    ...(schema === undefined ? {} : { schema }),
  });
  const hosts = hostsOf(options);
  const met = await Promise.all(heads.servers.map(({ host }) => connect(hosts, host, limits).catch(() => null)));
  const servers = met.filter((server) => server !== null);
  try {
    const names = new Map(
      servers.map((server) => [
        server.host.name,
        server.row["standby"] === true ? asStandby(server).seen.name : String(server.row["cluster_name"]),
      ]),
    );
    const newest = servers.find(({ host }) => host.name === heads.newest?.host);
    return {
      ...heads,
      target,
      names,
      synchronous: String(newest?.row["synchronous"] ?? ""),
      attached: newest === undefined || newest.row["standby"] === true ? [] : await attachedTo(newest),
    };
  } finally {
    await Promise.all(servers.map(({ end }) => end()));
  }
}

async function attachedTo({ ask }: PromotionServer): Promise<readonly AttachedStandby[]> {
  const { standbys } = await ask(`select coalesce(json_agg(json_build_object(
      'name', application_name, 'isStreaming', state = 'streaming',
      'behindBytes', greatest(0, coalesce(pg_current_wal_lsn() - flush_lsn, 0)))), '[]') as standbys
    from pg_stat_replication`);
  return standbys as readonly AttachedStandby[];
}
