/** Postgres user: the connection string of a configuration, for another user. */
import type { Config } from "../../config/index.ts";
import { CannotError, type Terminal } from "../terminal/command.ts";

/** @param of.user absent: the user of the configuration. Its password is PGPASSWORD. @throws CannotError */
export function asUser(
  { store }: Pick<Config, "store">,
  { user, env }: Readonly<{ user: string | undefined; env: Terminal["env"] }>,
): string {
  if (store.type !== "postgres") throw new CannotError(`the log is stored in ${store.type}, not in Postgres`);
  if (user === undefined) return store.connectionString;
  const { PGPASSWORD: password } = env;
  const as = `${encodeURIComponent(user)}${password === undefined ? "" : `:${encodeURIComponent(password)}`}@`;
  if (!/^postgres(ql)?:\/\//.test(store.connectionString))
    throw new CannotError("with --user, databroker_storage_connection_string must be a URL: postgres://…");
  return store.connectionString.replace(/^(postgres(?:ql)?:\/\/)(?:[^/?#]*@)?/, `$1${as}`);
}
