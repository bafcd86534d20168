/** `cardea region move-home`: moves the home region, with its Postgres primary and its leader, to another region. */
import type { Config, HomeRegion } from "../../config/index.ts";
import { postgresServerOf } from "../../config/index.ts";
import { findReplayBuffer } from "../../replication/fanout/index.ts";
import {
  LogRefusedError,
  type MovePlan,
  type MoveView,
  movePostgresHome,
  PromotionFailedError,
  PromotionRefusedError,
  parsePostgresHosts,
  refusesMeanwhile,
} from "../../replication/log/index.ts";
import { localConfigOf } from "../build/local-config.ts";
import { asUser } from "../build/postgres-user.ts";
import {
  contendersBeside,
  type HomeBroker,
  HomeBrokers,
  leaderIn,
  unmergedIn,
  whyNotReady,
  withoutMirror,
} from "../operator/home-brokers.ts";
import { PauseWatch } from "../operator/pause-watch.ts";
import { operatorOptions, type Parsed, parse, parseWait } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";

const options = {
  config: operatorOptions.config,
  json: operatorOptions.json,
  user: { type: "string" },
  "old-primary": { type: "string" },
  "accept-loss": { type: "boolean" },
  "despite-brokers": { type: "boolean" },
  "dry-run": { type: "boolean" },
  timeout: { type: "string" },
} as const;

/** How long to wait for the brokers to take their parts, unless `--timeout` says otherwise. */
const brokersMsMax = 60_000;
/** Nothing waits for the mirrors, so this ends soon. */
const mirrorMsMax = 15_000;

type Move = Readonly<{ config: Config; home: HomeRegion; parsed: Parsed; terminal: Terminal }>;
type Brokers = Readonly<{ brokers: readonly HomeBroker[]; left: readonly string[] }>;

export const regionMoveHome: CliCommand = {
  name: "region move-home",
  usage:
    "REGION -c broker.yaml [--user postgres] [--old-primary NAME] [--accept-loss] [--despite-brokers] [--dry-run] [--timeout 60s]",
  summary: "move the home region: the Postgres primary, and with it the leader",
  help: `The configuration is that of a broker with broker.homes, and its connection string names the Postgres servers of all regions. The
command prints a plan, then carries it out. While the old primary answers, the move is planned: it stops writing, a standby of REGION
receives the rest and is promoted. Otherwise the home region is lost: the standbys stop receiving, are compared, and one of REGION is
promoted. The brokers of all regions find the new primary and change their parts by themselves. No file is edited.

The order of the steps does not depend on time. A run that was interrupted, at whatever step, is run again. When the old home comes
back, run it again too: it finds the old primary, stops it from writing, and prints how to bring it back as a standby.

--user NAME         the database user that may change the servers' settings, with the password in PGPASSWORD
--old-primary NAME  the old primary's name in synchronous_standby_names, if it does not answer and broker.homes has no
                    postgres_names, or other servers do not answer either
--accept-loss       continues even if an acknowledged change may be lost: where no primary answers, or an earlier run may have
                    promoted a server that does not answer
--despite-brokers   continues a planned move although no broker of REGION answers, or although REGION has revocations of
                    its own that the log does not have yet
--dry-run           prints the plan, and changes nothing
--timeout TIME      how long to wait for a broker of REGION to lead (60s)

Exit 1: refused, or not complete; the output says what is left to do. Exit 3: the configuration cannot be used; nothing was changed.`,
  async run(args, terminal) {
    const parsed = parse(args, options, { min: 1, max: 1 });
    const config = localConfigOf(parsed, terminal);
    const move = { config, home: homeOf(config, parsed.positionals[0] ?? ""), parsed, terminal };
    try {
      return await moveHome(move);
    } catch (error) {
      if (error instanceof PromotionRefusedError) {
        terminal.err(`not moved: ${error.message}\n`);
        return 1;
      }
      if (error instanceof PromotionFailedError) {
        terminal.err(`not complete: ${error.message}. Run this command again\n`);
        return 1;
      }
      if (error instanceof LogRefusedError) throw new CannotError(error.message, { cause: error });
      throw error;
    }
  },
};

/** @throws UsageError */
function homeOf({ broker }: Config, region: string): HomeRegion {
  const home = broker.homes.find((each) => each.region === region);
  if (home !== undefined && home.postgres.length > 0) return home;
  const known = broker.homes.filter(({ postgres }) => postgres.length > 0).map((each) => each.region);
  throw new UsageError(
    known.length === 0
      ? "the configuration has no broker.homes, which names the brokers and Postgres servers of each region"
      : `${region} cannot be the home region; broker.homes has Postgres servers for ${known.join(", ")}`,
  );
}

async function moveHome(move: Move): Promise<ExitCode> {
  const brokers = new HomeBrokers(move.config);
  try {
    return await moveWith(brokers, move);
  } finally {
    await brokers.close();
  }
}

async function moveWith(asked: HomeBrokers, { config, home, parsed, terminal }: Move): Promise<ExitCode> {
  const json = parsed.flag("json");
  const say = (line: string): void => terminal.err(`${line}\n`);
  const only = parsed.flag("dry-run") ? "look" : "all";
  const connectionString = asUser(config, { user: parsed.text("user"), env: terminal.env });
  const before = await asked.ask();
  let shown: MovePlan | undefined;
  const pause = new PauseWatch(asked, home.region);
  const onPlan = (plan: MovePlan, view: MoveView): void => {
    const why = plan.kind === "arrived" ? null : whyNotReady(before, home.region);
    const mustWait = why !== null && plan.kind === "planned" && !parsed.flag("despite-brokers");
    shown = {
      ...plan,
      refusal: plan.refusal ?? (mustWait ? why : null),
      warnings: [...plan.warnings, ...(why === null ? [] : [why]), ...unmergedText(before, home.region)],
    };
    for (const line of planText({ plan: shown, view, home, brokers: before })) (json ? say : outLine(terminal))(line);
    if (plan.refusal === null && mustWait)
      throw new PromotionRefusedError(`${why}. To continue anyway, use --despite-brokers${refusesMeanwhile(view)}`);
    pause.begin(plan, view.newest?.log?.durable.epoch ?? 0);
  };
  try {
    const moved = await movePostgresHome({
      connectionString,
      cluster: config.broker.clusterName,
      target: serversOf(connectionString, home),
      only,
      onPlan,
      onFence: () => pause.fenced(),
      onPrimary: () => pause.watch(),
      say,
      oldPrimary: parsed.text("old-primary") ?? null,
      names: namesOf(connectionString, config),
      regions: regionsOf(connectionString, config),
      loss: parsed.flag("accept-loss") ? "accept" : "refuse",
    });
    if (only === "look") {
      if (json) terminal.out(`${JSON.stringify({ plan: shown, brokers: before })}\n`);
      else terminal.out("nothing was changed\n");
      return 0;
    }
    const timeoutMs = parseWait(parsed.text("timeout"), brokersMsMax);
    const after = await waitForBrokers(asked, { home, pause, timeoutMs, say });
    const leader = leaderIn(after.brokers, home.region);
    const nats = leader === undefined ? [] : await natsLeft(config, home, say);
    const mirrors = leader === undefined ? [] : await mirrorsLeft(asked, { home, timeoutMs, say });
    const left = [...moved.left, ...after.left, ...nats, ...mirrors];
    const { withoutChangesMs } = pause;
    if (json) {
      const facts = { plan: shown, moved, leader: leader ?? null, withoutChangesMs, brokers: after.brokers, left };
      terminal.out(`${JSON.stringify(facts)}\n`);
    } else if (leader !== undefined) {
      const at = `${moved.primary} is the primary, ${leader.url} leads epoch ${leader.leader?.epoch}`;
      terminal.out(`${home.region} is the home region: ${at}\n`);
      if (withoutChangesMs !== null) terminal.out(`no change was accepted for ${secondsOf(withoutChangesMs)}\n`);
    }
    for (const line of left) say(`left to do: ${line}`);
    return leader === undefined ? 1 : 0;
  } finally {
    pause.stop();
  }
}

const outLine =
  (terminal: Terminal) =>
  (line: string): void =>
    terminal.out(`${line}\n`);

/** The target's servers, named as in the connection string. @throws CannotError */
function serversOf(connectionString: string, { region, postgres }: HomeRegion): ReadonlySet<string> {
  const names = parsePostgresHosts(connectionString).map(({ name }) => name);
  const own = names.filter((name) => postgres.includes(postgresServerOf(name)));
  if (own.length > 0) return new Set(own);
  throw new CannotError(
    `databroker_storage_connection_string names none of the Postgres servers that broker.homes has for ${region} (${postgres.join(", ")})`,
  );
}

/** The names of the servers in `synchronous_standby_names`, as far as `broker.homes` has them. */
function namesOf(connectionString: string, { broker }: Config): ReadonlyMap<string, string> {
  const named = new Map(
    broker.homes.flatMap(({ postgres, postgresNames }) =>
      postgres.flatMap((server, i): [string, string][] => {
        const name = postgresNames[i];
        return name === undefined ? [] : [[server, name]];
      }),
    ),
  );
  return new Map(
    parsePostgresHosts(connectionString).flatMap(({ name: host }): [string, string][] => {
      const name = named.get(postgresServerOf(host));
      return name === undefined ? [] : [[host, name]];
    }),
  );
}

/** The region of each server of the connection string, as far as `broker.homes` has it. */
function regionsOf(connectionString: string, { broker }: Config): ReadonlyMap<string, string> {
  return new Map(
    parsePostgresHosts(connectionString).flatMap(({ name }): [string, string][] => {
      const home = broker.homes.find(({ postgres }) => postgres.includes(postgresServerOf(name)));
      return home === undefined ? [] : [[name, home.region]];
    }),
  );
}

function planText({
  plan,
  view,
  home,
  brokers,
}: Readonly<{ plan: MovePlan; view: MoveView; home: HomeRegion; brokers: readonly HomeBroker[] }>): readonly string[] {
  const kinds = {
    planned: `a planned move of the home region to ${home.region}: ${view.newest?.host} is the primary, and answers`,
    lost: `the home region is lost: no primary answers. ${home.region} becomes the home region`,
    arrived: `the primary ${view.newest?.host} is in ${home.region}`,
  };
  const servers = view.servers.map(({ host, role, writes, timeline, log }) => {
    const at = log === null ? "no log" : `proven epoch ${log.durable.epoch}, position ${log.durable.position}`;
    return `  ${host}: ${role}${role === "primary" && writes === "refused" ? ", refuses writes" : ""}, timeline ${timeline ?? "unknown"}, ${at}`;
  });
  const unread = view.unread.map(({ host, problem }) => `  ${host}: does not answer (${problem})`);
  const parts = brokers.map(({ url, region, part, leading, problem }) => {
    const role =
      part === null
        ? `does not answer (${problem})`
        : leading
          ? "leads"
          : part === "home"
            ? "home, does not lead"
            : "serves its region";
    return `  ${url} (${region}): ${role}`;
  });
  const steps = plan.steps.flatMap(({ id, state, what, needs, proof }, i) => [
    `${i + 1}. ${id} (${state}): ${what}`,
    `   needs: ${needs}; done when: ${proof}`,
  ]);
  const last = plan.steps.length;
  const rest = [
    `${last + 1}. lead: a broker of ${home.region} opens an epoch there, by itself`,
    "   needs: the new primary and enough of its standbys; done when: that broker says that it leads",
    `${last + 2}. serve: the brokers of the other regions serve their regions, by themselves`,
    "   needs: that leader; done when: each broker that answers says so",
  ];
  return [
    kinds[plan.kind],
    ...servers,
    ...unread,
    ...parts,
    ...plan.warnings.map((warning) => `warning: ${warning}`),
    ...(plan.refusal === null ? ["the plan:", ...steps, ...rest] : []),
  ];
}

async function waitForBrokers(
  asked: HomeBrokers,
  {
    home,
    pause,
    timeoutMs,
    say,
  }: Readonly<{ home: HomeRegion; pause: PauseWatch; timeoutMs: number; say: (line: string) => void }>,
): Promise<Brokers> {
  const { region } = home;
  say(`waiting for a broker of ${region} to lead`);
  const leader = await pause.leader(timeoutMs);
  if (leader === undefined) {
    const brokers = await asked.ask();
    const silent = brokers.filter((broker) => broker.region === region && broker.part === null);
    const who = silent.map(({ url, problem }) => `${url}: ${problem}`).join("; ");
    const left = `no broker of ${region} leads yet${who === "" ? "" : ` (${who})`}; see its log, and run this command again`;
    return { brokers, left: [left] };
  }
  const { withoutChangesMs } = pause;
  say(
    `${leader.url} leads${withoutChangesMs === null ? "" : `; no change was accepted for ${secondsOf(withoutChangesMs)}`}`,
  );
  const brokers = await asked.askUntil({
    withinMs: timeoutMs,
    isMet: (all) =>
      leaderIn(all, region) !== undefined &&
      contendersBeside(all, region).length === 0 &&
      unmergedIn(all, region) === 0,
  });
  const unmerged = unmergedIn(brokers, region);
  const left = [
    ...contendersBeside(brokers, region).map(
      ({ url, region: other }) =>
        `${url} of ${other} still contends for the lead: it cannot reach the new primary, or has no broker.homes`,
    ),
    ...(unmerged === 0
      ? []
      : [
          `${unmerged} revocations that ${region} had accepted by itself are not in the log yet; read the log of its brokers`,
        ]),
    ...brokers
      .filter(({ part }) => part === null)
      .map(
        ({ url, region: other, problem }) =>
          `${url} of ${other} does not answer (${problem}); it finds the new home by itself`,
      ),
  ];
  return { brokers, left };
}

function secondsOf(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** What the operator should know of revocations that the target region has accepted by itself. */
function unmergedText(brokers: readonly HomeBroker[], region: string): readonly string[] {
  const unmerged = unmergedIn(brokers, region);
  return unmerged === 0
    ? []
    : [
        `${region} has revocations of its own that the log does not have yet (${unmerged}); after the move its brokers record them before they grant a lease`,
      ];
}

/**
 * The regions whose NATS does not mirror the replay buffer of the new home. Their brokers look for it every few
 * seconds.
 */
async function mirrorsLeft(
  asked: HomeBrokers,
  { home, timeoutMs, say }: Readonly<{ home: HomeRegion; timeoutMs: number; say: (line: string) => void }>,
): Promise<readonly string[]> {
  if (home.natsDomain === null) return [];
  const isMet = (brokers: readonly HomeBroker[]): boolean => withoutMirror(brokers).length === 0;
  const brokers = await asked.askUntil({ withinMs: Math.min(timeoutMs, mirrorMsMax), isMet });
  const missing = withoutMirror(brokers);
  const follow = brokers.filter(({ mirror }) => mirror === "follows").map(({ region }) => region);
  if (follow.length > 0) say(`NATS: mirrors in ${[...new Set(follow)].join(", ")}`);
  return missing.map(
    (region) =>
      `NATS of ${region} has no mirror of the replay buffer of ${home.region} yet; its brokers read over HTTPS meanwhile. If it stays so, look at its leaf connections, let it reach $JS.${home.natsDomain}.API.>, and give the NATS clusters of all regions (and single servers) names of their own`,
  );
}

/** Whether the NATS of this machine's region sees the replay buffer of the new home. */
async function natsLeft(
  { nats, broker }: Config,
  home: HomeRegion,
  say: (line: string) => void,
): Promise<readonly string[]> {
  if (nats === null || home.natsDomain === null) return [];
  const seen = await findReplayBuffer({ ...nats, cluster: broker.clusterName }, home.natsDomain);
  if (seen.type === "there") {
    say(`NATS: the replay buffer is in the domain ${home.natsDomain}`);
    return [];
  }
  return [
    `NATS does not show the replay buffer in the domain ${home.natsDomain} (${seen.why}). Nothing waits for it; look at the leaf connections if it stays so`,
  ];
}
