/**
 * Postgres hosts: parses a connection string that may name several servers, as libpq does and the driver does not:
 * `postgres://user:password@one:5432,two:5432/database?sslmode=verify-full`, or the same as settings: `host=one,two
 * port=5432 user=cardea password='…' dbname=database sslmode=verify-full`.
 *
 * Pure. The string holds a password, so messages quote only host names from it.
 */
import { LogRefusedError } from "../log.ts";

/** One server: its name for people, and a connection string for it alone. */
export type PostgresHost = Readonly<{ name: string; connectionString: string }>;

const hostsMax = 16;

/** @throws LogRefusedError when it is neither a URL of Postgres servers nor libpq settings */
export function parsePostgresHosts(written: string): readonly PostgresHost[] {
  const connectionString = /^\s*\w+\s*=/.test(written) ? urlFromSettings(written) : written;
  const parts = /^(postgres(?:ql)?:\/\/)((?:[^/?#]*@)?)([^@/?#]*)((?:\/[^?#]*)?)((?:\?[^#]*)?)$/.exec(connectionString);
  if (parts === null) throw new LogRefusedError("the Postgres connection string is not a URL of the form postgres://…");
  const [, scheme = "", userInfo = "", authority = "", path = "", query = ""] = parts;
  const parameters = new URLSearchParams(query);
  const named = authority === "" ? (parameters.get("host") ?? "") : authority;
  const ports = (parameters.get("port") ?? "").split(",");
  const fromParameters = authority === "";
  if (fromParameters) {
    parameters.delete("host");
    parameters.delete("port");
  }
  const rest = parameters.size === 0 ? "" : `?${parameters}`;
  const hosts = named
    .split(",")
    .map((host, i) => ({ host: host.trim(), port: ports[i] ?? ports[0] ?? "" }))
    .filter(({ host }) => host !== "")
    .map(({ host, port }): PostgresHost => {
      if (!fromParameters) return { name: host, connectionString: `${scheme}${userInfo}${host}${path}${rest}` };
      const one = new URLSearchParams(parameters);
      one.set("host", host); // may also be the folder of a socket
      if (port !== "") one.set("port", port);
      return {
        name: port === "" ? host : `${host}:${port}`,
        connectionString: `${scheme}${userInfo}${path || "/"}?${one}`,
      };
    });
  if (hosts.length === 0 || hosts.length > hostsMax) {
    throw new LogRefusedError(`the Postgres connection string names ${hosts.length} hosts; it needs 1 to ${hostsMax}`);
  }
  if (!fromParameters && hosts.some((host) => !URL.canParse(host.connectionString))) {
    throw new LogRefusedError("the Postgres connection string has a part that is not valid in a URL; escape it with %");
  }
  return hosts;
}

/** Settings that can lead to servers other than those that the string itself names. */
const elsewhere = new Set(["service", "servicefile", "hostaddr", "passfile", "replication"]);

/** Converts libpq settings (PostgreSQL manual, "Keyword/Value Connection Strings") to a URL. */
function urlFromSettings(text: string): string {
  const settings = new Map<string, string>();
  const each = /\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?:\s+|$)/sy;
  while (each.lastIndex < text.length) {
    const from = each.lastIndex;
    const found = each.exec(text);
    if (found === null || (each.lastIndex === from && text.length > 0)) {
      throw new LogRefusedError(
        `the Postgres connection string has no key=value where one is expected, after ${settings.size} settings; ` +
          "put a value with spaces in single quotes, and a backslash before each quote or backslash in it",
      );
    }
    const [, key = "", quoted, plain = ""] = found;
    settings.set(key, (quoted ?? plain).replace(/\\(.)/gs, "$1"));
  }
  for (const key of settings.keys()) {
    if (elsewhere.has(key))
      throw new LogRefusedError(`the Postgres connection string has a ${key}, which is not supported`);
  }
  const take = (key: string): string => {
    const value = settings.get(key) ?? "";
    settings.delete(key);
    return encodeURIComponent(value);
  };
  const [user, password, database] = [take("user"), take("password"), take("dbname")];
  const userInfo = user === "" && password === "" ? "" : `${user}${password === "" ? "" : `:${password}`}@`;
  return `postgres://${userInfo}/${database}?${new URLSearchParams([...settings])}`;
}

/**
 * The order in which to try the servers, shared by all connections of one log. The last server found right is first. A
 * server that left the outcome of a write open is last: a cut-off old primary looks like any other until a commit
 * waits.
 */
export class HostOrder {
  #hosts: readonly PostgresHost[];

  constructor(hosts: readonly PostgresHost[]) {
    this.#hosts = hosts;
  }

  get hosts(): readonly PostgresHost[] {
    return this.#hosts;
  }

  isFirst(name: string): boolean {
    return this.#hosts[0]?.name === name;
  }

  right(name: string): void {
    this.#hosts = [...this.#named(name), ...this.#others(name)];
  }

  doubtful(name: string): void {
    this.#hosts = [...this.#others(name), ...this.#named(name)];
  }

  #named(name: string): PostgresHost[] {
    return this.#hosts.filter((host) => host.name === name);
  }
  #others(name: string): PostgresHost[] {
    return this.#hosts.filter((host) => host.name !== name);
  }
}
