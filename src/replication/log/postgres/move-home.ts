/**
 * Move home: moves the Postgres of the home region to another region, in an order that needs no timing
 * (docs/adr/0041-the-home-moves-by-one-command.md). It carries out the steps of move-plan.ts.
 *
 * - It may be killed at any step and run again: each step asks the servers whether it is done.
 * - A planned move that fails before the promotion lets the old primary write again, unless an earlier run may have
 *   promoted a server that does not answer.
 * - Bringing an old primary back as a standby is left to the operator; the outcome names the commands.
 */
import { formatLink } from "../../../events/index.ts";
import { messageOf } from "./connection.ts";
import type { PostgresHost } from "./hosts.ts";
import { type MovePlan, type MoveView, mayBePromoted, orderedPromotion, planMove, strayStandbys } from "./move-plan.ts";
import { connectTo, hostsOf, type MoveTarget, viewOf } from "./move-view.ts";
import type { ServerHead } from "./newest-head.ts";
import { PromotionRefusedError, promotePostgresStandby } from "./promote.ts";
import { oldPrimaryAmong, sourceIn } from "./promotion.ts";
import {
  addressOf,
  asStandby,
  endAll,
  followNew,
  type MetServers,
  meetAgain,
  meetServer,
  meetServers,
  openSession,
  PromotionFailedError,
  type PromotionServer,
  pollSeconds,
  receivedBytes,
  waitUntil,
  withoutLock,
} from "./promotion-servers.ts";
import { rejoinOf } from "./rejoin.ts";

export type MoveHomeOptions = MoveTarget &
  Readonly<{
    /** The name of a primary that does not answer, if `synchronous_standby_names` lists it. */
    oldPrimary?: string | null;
    /**
     * Whether to accept a possible loss where no primary answers, or where an earlier run may have promoted a server
     * that does not answer.
     */
    loss?: "refuse" | "accept";
    /** Called with the plan before anything is changed. What it throws ends the move. */
    onPlan?: (plan: MovePlan, view: MoveView) => void;
    /** Called just before the old primary refuses the first change. */
    onFence?: () => void;
    /** Called once the target region has a primary. */
    onPrimary?: () => void;
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

/** Polls without the rest, before the standbys are pointed at the old primary again. */
const pollsBeforeLead = 25;

type Limits = Readonly<{ connectTimeoutMs: number; stepTimeoutMs: number }>;
type Saying = Limits & Readonly<{ say: (line: string) => void }>;

/** @throws PromotionRefusedError, PromotionFailedError, LogRefusedError for an unreadable connection string */
export async function movePostgresHome(options: MoveHomeOptions): Promise<MovedHome> {
  const { connectTimeoutMs = 3_000, stepTimeoutMs = 30_000, say = () => {} } = options;
  const within = { connectTimeoutMs, stepTimeoutMs, say };
  const lock = options.only === "look" ? "none" : "take";
  // Connected before anything stops: a server that is silent delays no step while no change is accepted.
  const met = await meetServers([...hostsOf(options).values()], { ...within, lock });
  try {
    return await move(options, met, within);
  } finally {
    await endAll(met.servers);
  }
}

async function move(options: MoveHomeOptions, seen: MetServers, within: Saying): Promise<MovedHome> {
  const { met, view } = await afterOrders(options, seen, within);
  const plan = planMove(view, options.loss ?? "refuse");
  options.onPlan?.(plan, view);
  if (plan.refusal !== null) throw new PromotionRefusedError(plan.refusal);
  const epoch = view.newest?.log?.durable.epoch ?? 0;
  const named = plan.kind === "lost" ? { ...options, oldPrimary: oldPrimaryOf(options, met, within) } : options;
  const promoted = mayBePromoted(view);
  const lost = plan.kind === "lost" ? await checkLoss(named, met, within) : promoted === null ? [] : [promoted];
  if (options.only === "look") return { kind: plan.kind, primary: null, epoch, left: [], mayBeLost: lost };
  if (plan.kind === "planned") await movePlanned(view, options, { ...within, met });
  if (plan.kind === "lost")
    await promotePostgresStandby({
      ...promotionOf(named, met, within),
      orders: view.orders,
      loss: options.loss ?? "refuse",
    });
  if (plan.kind === "arrived") options.onPrimary?.();
  const left = await settle(options, met, within);
  const after = await viewOf(options, { ...within, met });
  return { kind: plan.kind, primary: after.newest?.host ?? null, epoch, left, mayBeLost: lost };
}

/** Waits for a promotion in the target region that an earlier run has ordered, so that one run ends the move. */
async function afterOrders(
  options: MoveHomeOptions,
  met: MetServers,
  within: Saying,
): Promise<Readonly<{ met: MetServers; view: MoveView }>> {
  const view = await viewOf(options, { ...within, met });
  const server = met.servers.find(
    ({ host }) => options.target.has(host.name) && view.orders.get(host.name)?.state === "given",
  );
  if (server === undefined || options.only === "look") return { met, view };
  const { host, ask } = server;
  within.say(`${host.name}: an earlier run ordered its promotion; waiting for it`);
  await waitUntil(within.stepTimeoutMs, `${host.name} to be a primary`, async () => {
    const row = await ask(`select pg_sleep(${pollSeconds}), pg_is_in_recovery() as standby`);
    return row["standby"] === false;
  }).catch((error: unknown) => within.say(messageOf(error))); // the plan refuses then
  const again = await meetAgain(met);
  return { met: again, view: await viewOf(options, { ...within, met: again }) };
}

/** The name of the old primary, which does not answer; null: it is not known. */
function oldPrimaryOf(options: MoveHomeOptions, met: MetServers, { say }: Saying): string | null {
  if (options.oldPrimary !== undefined && options.oldPrimary !== null) return options.oldPrimary;
  const hosts = hostsOf(options);
  const addressIn = (name: string): string | null => {
    const found = hosts.get(name);
    if (found === undefined) return null;
    const { host, port } = addressOf(found);
    return `${host}:${port}`.toLowerCase();
  };
  const silent = met.unreachable.map(({ host }) => host);
  const source = oldPrimaryAmong(
    met.servers.filter(({ row }) => row["standby"] === true).map((server) => sourceIn(asStandby(server).conninfo)),
    {
      answering: new Set(met.servers.map(({ host }) => addressIn(host.name))),
      silent: new Set(silent.map(addressIn)),
    },
  );
  const host = source === null ? undefined : silent.find((name) => addressIn(name) === source);
  const name = host === undefined ? undefined : options.names?.get(host);
  if (name === undefined) return null;
  say(`${host}: the old primary (${name}): every standby that answers received from it last`);
  return name;
}

/** @throws PromotionRefusedError when an acknowledged change could be lost and the caller does not accept it */
async function checkLoss(options: MoveHomeOptions, met: MetServers, within: Saying): Promise<readonly string[]> {
  const { mayBeLost } = await promotePostgresStandby({
    ...promotionOf(options, met, within),
    loss: options.loss ?? "refuse",
    only: "look",
  });
  return mayBeLost;
}

function promotionOf(options: MoveHomeOptions, met: MetServers, within: Saying) {
  const { connectionString, schema, target: prefer, oldPrimary = null, onPrimary } = options;
  return {
    ...within,
    met,
    connectionString,
    prefer,
    oldPrimary,
    livingPrimary: "replace" as const,
    ...(onPrimary === undefined ? {} : { onPrimary }),
    ...(schema === undefined ? {} : { schema }),
  };
}

/** The old primary answers: it stops writing, a standby of the target region receives the rest and is promoted. */
async function movePlanned(
  view: MoveView,
  options: MoveHomeOptions,
  { met, ...within }: Saying & Readonly<{ met: MetServers }>,
): Promise<void> {
  const old = met.servers.find(({ host }) => host.name === view.newest?.host);
  if (old === undefined) throw new PromotionFailedError(`${view.newest?.host} did not answer; nothing was changed`);
  const wasFenced = view.newest?.writes === "refused";
  let isOrdered = false;
  const onOrder = (): void => {
    isOrdered = true;
  };
  try {
    options.onFence?.();
    const end = await fence(old, within);
    await catchUp(met, { options, old: old.host, end, within });
    // Nothing can be lost if no other server was promoted since the fence: the standby has received the last write.
    const loss = mayBePromoted(view) === null ? "accept" : (options.loss ?? "refuse");
    await promotePostgresStandby({ ...promotionOf(options, met, within), orders: view.orders, loss, onOrder });
  } catch (error) {
    const after = await viewOf(options, { ...within, met });
    // A promotion that an earlier run had begun may have come first. The rest remains.
    if (after.newest?.role === "primary" && options.target.has(after.newest.host)) return;
    const promoted = wasFenced ? mayBePromoted(after) : null;
    if (isOrdered || promoted !== null) {
      const why = promoted ?? "the promotion may yet happen";
      const rest = `${old.host.name} still refuses writes, because ${why}`;
      throw new PromotionFailedError(`${messageOf(error)}; ${rest}`, { cause: error });
    }
    await unfenceOverNewConnection(old.host, within);
    throw new PromotionFailedError(`${messageOf(error)}; ${old.host.name} accepts writes again`, { cause: error });
  }
}

/** Over a new connection: the other may be the one that failed. */
async function unfenceOverNewConnection(host: PostgresHost, within: Saying): Promise<void> {
  const server = await meetServer(host, within);
  if ("problem" in server)
    throw new PromotionFailedError(`${host.name}: ${server.problem}. It refuses writes: run this command again`);
  try {
    await unfence(server, within);
  } finally {
    await server.end();
  }
}

/** The sessions that could write to this log, without those of this run. */
const otherSession = `backend_type = 'client backend' and datname = current_database() and pid <> pg_backend_pid()
  and ${withoutLock}`;

/** @returns the flushed position of the write-ahead log once no session can write, in bytes */
async function fence(server: PromotionServer, { say, ...limits }: Saying): Promise<bigint> {
  const { host, ask } = server;
  await ask("alter system set default_transaction_read_only = on");
  const since = await setsWrites(server, "on", limits);
  // Named one by one as well: the clock of the server may have been set back.
  const { sessions } = await ask(
    `select coalesce(json_agg(json_build_array(pid, backend_start::text)) filter (where pg_terminate_backend(pid)), '[]')
       ::text as sessions from pg_stat_activity where ${otherSession}`,
  );
  await waitUntil(limits.stepTimeoutMs, `the sessions of ${host.name} to end`, async () => {
    const { left } = await ask(
      `select pg_sleep(${pollSeconds}), (select count(pg_terminate_backend(pid))::int from pg_stat_activity
       where ${otherSession} and (backend_start < $1::timestamptz
         or jsonb_build_array(pid, backend_start::text) in (select jsonb_array_elements($2::jsonb)))) as left`,
      [since, sessions],
    );
    return left === 0;
  });
  const row = await ask("select (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text as bytes");
  say(`${host.name}: refuses writes`);
  return BigInt(String(row["bytes"]));
}

/** Whether the fence is in the settings on disk, also where a run was killed before the server read them. */
async function isFenceWritten({ ask }: PromotionServer): Promise<boolean> {
  const { written } = await ask(
    `select exists (select from pg_file_settings where name = 'default_transaction_read_only' and setting = 'on'
       and sourcefile like '%postgresql.auto.conf') as written`,
  );
  return written === true;
}

/**
 * Whether a session is left that is older than the settings, so that a killed run did not end the fence. Only a new
 * session knows when the server read them.
 */
async function hasOlderSession({ ask }: PromotionServer): Promise<boolean> {
  const { older } = await ask(
    `select exists (select from pg_stat_activity where ${otherSession} and backend_start < pg_conf_load_time()) as older`,
  );
  return older === true;
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
    const session = await openSession(host, limits).catch((cause: unknown) => {
      throw new PromotionFailedError(`${host.name}: ${messageOf(cause)}`, { cause });
    });
    try {
      const row = await session.ask(
        `select current_setting('default_transaction_read_only') as read_only,
           (select backend_start::text from pg_stat_activity where pid = pg_backend_pid()) as since`,
      );
      since = String(row["since"]);
      if (row["read_only"] !== value) await session.ask(`select pg_sleep(${pollSeconds})`);
      return row["read_only"] === value;
    } finally {
      void session.end(); // the next step need not wait for its goodbye
    }
  });
  return since;
}

async function catchUp(
  met: MetServers,
  { options, old, end, within }: Readonly<{ options: MoveHomeOptions; old: PostgresHost; end: bigint; within: Saying }>,
): Promise<void> {
  const open = met.servers.filter(({ host, row }) => options.target.has(host.name) && row["standby"] === true);
  const standbys = open.map(asStandby);
  const [paced] = standbys;
  if (paced === undefined) throw new PromotionFailedError("no standby of the target region answers");
  let polls = 0;
  await waitUntil(within.stepTimeoutMs, "a standby of the target region to receive the rest", async () => {
    const received = await Promise.all(standbys.map(receivedBytes));
    if (received.some((bytes) => bytes >= end)) return true;
    polls += 1;
    await paced.ask(`select pg_sleep(${pollSeconds})`);
    // A run that was interrupted may have left them without a server to receive from, or with another standby.
    if (polls === pollsBeforeLead)
      await Promise.all(standbys.map((standby) => followNew(standby, old, within.stepTimeoutMs)));
    return false;
  });
  within.say("the target region has received everything");
}

/** Steps after the promotion, each of which an earlier run may have done. @returns what is left to do */
async function settle(options: MoveHomeOptions, met: MetServers, within: Saying): Promise<readonly string[]> {
  const hosts = hostsOf(options);
  const view = await viewOf(options, { ...within, met });
  const { newest } = view;
  if (newest === null || newest.role !== "primary" || !options.target.has(newest.host))
    throw new PromotionFailedError("the target region has no primary; run this command again");
  const left: string[] = [];
  const note = (problem: string | undefined): void => {
    if (problem !== undefined) left.push(problem);
  };
  const primary = await connectTo(hosts, newest.host, within);
  try {
    const ordered = orderedPromotion(view);
    if (newest.writes === "refused" && ordered !== null) throw new PromotionFailedError(ordered);
    if (newest.writes === "refused" || (await isFenceWritten(primary))) await unfence(primary, within);
    for (const name of strayStandbys(view)) note(await lead(hosts, { name, primary: primary.host, within }));
  } finally {
    await primary.end();
  }
  for (const old of view.servers)
    if (old !== newest && old.role === "primary") left.push(...(await fenceOld(hosts, { old, newest, within })));
  const to = hosts.get(newest.host);
  for (const { host, problem } of view.unread) {
    const name = options.names?.get(host) ?? null;
    left.push(`${host} does not answer (${problem}). ${rejoinOf({ host, name, folder: null, primary: to })}`);
  }
  return left;
}

/** @returns the problem in plain words; undefined: none */
async function lead(
  hosts: ReadonlyMap<string, PostgresHost>,
  { name, primary, within }: Readonly<{ name: string; primary: PostgresHost; within: Saying }>,
): Promise<string | undefined> {
  const server = await connectTo(hosts, name, within);
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
    const server = await connectTo(hosts, old.host, within);
    try {
      if (old.writes === "accepted" || (await hasOlderSession(server))) await fence(server, within);
      const { folder } = await server.ask("select current_setting('data_directory', true) as folder");
      const known = typeof folder === "string" && folder !== "" ? folder : null;
      const name = String(server.row["cluster_name"]);
      const rejoin = rejoinOf({ host: old.host, name, folder: known, primary: hosts.get(newest.host) });
      return [`${title}; it refuses writes. ${rejoin}`];
    } finally {
      await server.end();
    }
  } catch (error) {
    return [`${title}, and could not be stopped from writing: ${messageOf(error)}`];
  }
}
