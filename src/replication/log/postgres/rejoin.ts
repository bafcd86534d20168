/**
 * Rejoin: the commands by which an operator brings an old primary back as a standby of the new one. They need a shell
 * on its machine, so Cardea prints them. Pure.
 *
 * Before Postgres 16, `pg_rewind` reads the timeline of the new primary from its last checkpoint. Until the first one
 * after the promotion it finds nothing to rewind, and the old primary never follows. So a checkpoint comes first.
 */
import type { PostgresHost } from "./hosts.ts";
import { addressOf } from "./promotion-servers.ts";

export type Rejoining = Readonly<{
  /** Its name in the connection string. */
  host: string;
  /** Its name in `synchronous_standby_names`; null: not known. */
  name: string | null;
  /** Its data folder; null: not known. */
  folder: string | null;
  primary: PostgresHost | undefined;
}>;

/** Text for a terminal. Empty: the new primary is not known. */
export function rejoinOf({ host: old, name, folder, primary }: Rejoining): string {
  if (primary === undefined) return "";
  const { host, port } = addressOf(primary);
  const { username, searchParams } = new URL(primary.connectionString);
  const user = decodeURIComponent(username) || "postgres";
  const data = folder === null ? '"$PGDATA"' : shellWord(folder);
  const own = name === null || name === "" ? "" : ` application_name=${conninfoValue(name)}`;
  const { tls, root } = tlsOf(searchParams);
  const source = `host=${conninfoValue(host)} port=${port} user=${conninfoValue(user)}${tls}`;
  const files = root === null ? "" : ` and the certificates of ${root} in that file`;
  return `Bring it back only as a standby. On the machine of ${old}, as the user of Postgres, with the password of ${user} in PGPASSWORD${files}:
    pg_ctl -D ${data} stop -m fast
    psql -d ${shellWord(`${source} dbname=postgres`)} -c checkpoint
    pg_rewind -D ${data} -R --source-server=${shellWord(`${source} dbname=postgres${own}`)}
    pg_ctl -D ${data} start
  If pg_rewind refuses, take a new copy instead: pg_basebackup -D (an empty folder) -R -d ${shellWord(`${source}${own}`)}`;
}

/** How the connection of Cardea is protected: that of the standby must not be protected less. */
function tlsOf(parameters: URLSearchParams): Readonly<{ tls: string; root: string | null }> {
  const root = parameters.get("sslrootcert");
  // The driver verifies a server whose root certificate is named, and libpq only with a mode that says so.
  const mode = parameters.get("sslmode") ?? (root === null ? null : "verify-full");
  const settings = [
    ...(mode === null ? [] : [`sslmode=${conninfoValue(libpqModes.get(mode) ?? mode)}`]),
    ...(root === null ? [] : [`sslrootcert=${conninfoValue(root)}`]),
  ];
  return { tls: settings.map((setting) => ` ${setting}`).join(""), root };
}

/** The modes of the driver that libpq calls otherwise. */
const libpqModes: ReadonlyMap<string, string> = new Map([["no-verify", "require"]]);

/** A value in connection settings. */
function conninfoValue(value: string): string {
  return /^[\w.:/-]+$/.test(value) ? value : `'${value.replace(/(['\\])/g, "\\$1")}'`;
}

function shellWord(text: string): string {
  return /^[\w.,:/@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
