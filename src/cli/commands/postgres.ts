/** `cardea postgres promote`: promotes a Postgres standby without losing an acknowledged change. */
import { type Config, type HomeRegion, loadConfig, postgresServerOf } from "../../config/index.ts";
import {
  LogRefusedError,
  PromotionFailedError,
  PromotionRefusedError,
  parsePostgresHosts,
  promotePostgresStandby,
} from "../../replication/log/index.ts";
import { asUser } from "../build/postgres-user.ts";
import { operatorOptions, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";

const options = {
  config: operatorOptions.config,
  json: operatorOptions.json,
  user: { type: "string" },
  "old-primary": { type: "string" },
  prefer: { type: "string" },
  "replace-living": { type: "boolean" },
  "accept-loss": { type: "boolean" },
  "dry-run": { type: "boolean" },
} as const;

export const postgresPromote: CliCommand = {
  name: "postgres promote",
  usage:
    "-c cardea.yaml [--user postgres] [--old-primary NAME] [--prefer REGION] [--replace-living] [--accept-loss] [--dry-run]",
  summary: "promote a Postgres standby without losing an acknowledged change",
  help: `For a primary and standbys that no other tool manages (with Patroni, use Patroni). databroker_storage_connection_string must name all
servers. First every standby stops receiving. Then the standby that has received the most is promoted, and the others follow it. The
procedure does not depend on time, and the old primary may be dead, cut off or alive.

--user NAME         the database user that may change the servers' settings, with the password in PGPASSWORD
--old-primary NAME  its name in synchronous_standby_names, if it is listed there and does not answer
--prefer REGION     promotes a standby of this region of broker.homes; if another has received more, it first receives the rest from that one
--replace-living    replaces a primary that still answers
--accept-loss       continues even if an acknowledged change may be lost (asynchronous standbys, or an unreachable one);
                    nodes report the revocations that they had applied, and people whose sessions are lost sign in again
--dry-run           prints what it would do, and changes nothing

Exit 1: not done, because an acknowledged change could be lost or a primary still answers. Brokers find the new primary by themselves.
Bring the old primary back only as a standby (pg_rewind). Brokers reject its answers, but that takes time.`,
  async run(args, terminal) {
    const parsed = parse(args, options, { min: 0, max: 0 });
    const path = parsed.text("config");
    if (path === undefined) throw new UsageError("name the configuration with -c");
    const json = parsed.flag("json");
    try {
      const config = configAt(path, terminal);
      const connectionString = asUser(config, { user: parsed.text("user"), env: terminal.env });
      const region = parsed.text("prefer");
      const promotion = await promotePostgresStandby({
        connectionString,
        ...(region === undefined ? {} : { prefer: serversIn(config, region, connectionString) }),
        oldPrimary: parsed.text("old-primary") ?? null,
        livingPrimary: parsed.flag("replace-living") ? "replace" : "refuse",
        loss: parsed.flag("accept-loss") ? "accept" : "refuse",
        only: parsed.flag("dry-run") ? "look" : "all",
        say: (line) => terminal.err(`${line}\n`),
      });
      if (json) terminal.out(`${JSON.stringify(promotion)}\n`);
      else if (parsed.flag("dry-run")) terminal.out("nothing was changed\n");
      else
        terminal.out(
          `${promotion.promoted} is the primary, at epoch ${promotion.epoch}, position ${promotion.position}\n`,
        );
      for (const line of promotion.left) terminal.err(`left to do: ${line}\n`);
      return 0;
    } catch (error) {
      if (error instanceof PromotionRefusedError) {
        terminal.err(`not promoted: ${error.message}\n`);
        return 1;
      }
      if (error instanceof PromotionFailedError || error instanceof LogRefusedError)
        throw new CannotError(error.message, { cause: error });
      throw error;
    }
  },
};

function configAt(path: string, { env }: Terminal): Config {
  const loaded = loadConfig(path, { env });
  if (!loaded.ok) throw new CannotError(`${path} is not valid; see cardea check -c ${path}`);
  if (loaded.config.store.type !== "postgres")
    throw new CannotError(`${path} stores its log in ${loaded.config.store.type}, not in Postgres`);
  return loaded.config;
}

/** The Postgres servers of a region of `broker.homes`, named as in the connection string. @throws UsageError */
function serversIn({ broker }: Config, region: string, connectionString: string): ReadonlySet<string> {
  const names = parsePostgresHosts(connectionString).map(({ name }) => name);
  const serversOf = ({ postgres }: HomeRegion): readonly string[] =>
    names.filter((name) => postgres.includes(postgresServerOf(name)));
  const found = broker.homes.filter((home) => home.region === region).flatMap(serversOf);
  if (found.length > 0) return new Set(found);
  const known = broker.homes.filter((home) => serversOf(home).length > 0).map((home) => home.region);
  throw new UsageError(
    known.length === 0
      ? "--prefer needs broker.homes, which names the Postgres servers of each region"
      : `--prefer ${region}: broker.homes names no Postgres server of ${region} that is in the connection string, but some of ${known.join(", ")}`,
  );
}
