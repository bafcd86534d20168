/**
 * Home values: the regions that may hold the leader, with their brokers, their Postgres servers and their JetStream
 * domain. Pure.
 */
import { checkUrl } from "./network-values.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  parseStringList,
  type Refuse,
  type RefusedValue,
  valueType,
} from "./value-type.ts";

/** A region that is the home region or may become it. */
export type HomeRegion = Readonly<{
  region: string;
  /** Its brokers. */
  urls: readonly URL[];
  /** Its Postgres servers, `host:port`. Empty: it can never be the home region. */
  postgres: readonly string[];
  /** The name of each of them in `synchronous_standby_names`, in the same order. Empty: none is given. */
  postgresNames: readonly string[];
  /** The JetStream domain of its NATS servers; null: one domain spans the regions, or there is no NATS. */
  natsDomain: string | null;
}>;

const keys = ["region", "urls", "postgres", "postgres_names", "nats_domain"];
const namePattern = /^[A-Za-z0-9_-]{1,64}$/;
const serverPattern = /^(?:\[[0-9a-fA-F:]+\]|[^\s:/@?#,[\]]+)(?::\d{1,5})?$/;
const homesMax = 32;

/** The name of a Postgres server in a form that can be compared: with its port. */
export function postgresServerOf(name: string): string {
  return /:\d+$/.test(name) ? name.toLowerCase() : `${name.toLowerCase()}:5432`;
}

export const homeRegions = () =>
  valueType<readonly HomeRegion[]>(
    {
      label: "list of {region, urls, postgres, postgres_names, nats_domain}",
      json: { type: ["array", "string"], items: { type: "object" } },
    },
    (value, refuse) => {
      const list = typeof value === "string" ? parseJson(value) : value;
      if (!Array.isArray(list))
        return refuse("is not a list", "write one entry per region, each with region, urls and postgres");
      if (list.length > homesMax) return refuse(`names ${list.length} regions`, `write ${homesMax} at most`);
      const found: HomeRegion[] = [];
      for (const [i, item] of list.entries()) {
        const home = parseHome(item, (problem, remedy, path = []) => refuse(problem, remedy, [i, ...path]));
        if (isRefused(home)) return home;
        found.push(home);
      }
      const twice = found.findIndex(({ region }, i) => found.findIndex((other) => other.region === region) < i);
      return twice < 0 ? found : refuse("names a region again", "write one entry per region", [twice, "region"]);
    },
  );

function parseHome(item: unknown, refuse: Refuse): HomeRegion | RefusedValue {
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a region`, "write region, urls and postgres");
  const unknown = Object.keys(item).find((key) => !keys.includes(key));
  if (unknown !== undefined) return refuse(`${unknown} is not a key here`, `write ${keys.join(", ")}`, [unknown]);
  const { region, postgres = [], nats_domain: domain = null } = item;
  if (typeof region !== "string" || region === "")
    return refuse("region is missing", "write the region's name, as in region", ["region"]);
  if (domain !== null && (typeof domain !== "string" || !namePattern.test(domain)))
    return refuse(`${formatValue(domain)} is not a JetStream domain`, "write one such as east", ["nats_domain"]);
  const urls = parseUrls(item["urls"], refuse);
  if (isRefused(urls)) return urls;
  const servers = parseStringList(postgres, (problem, remedy, path = []) =>
    refuse(problem, remedy, ["postgres", ...path]),
  );
  if (isRefused(servers)) return servers;
  const bad = servers.findIndex((server) => !serverPattern.test(server));
  if (bad >= 0)
    return refuse(`${formatValue(servers[bad])} is not a Postgres server`, "write one such as pg-1.east:5432", [
      "postgres",
      bad,
    ]);
  const names = parseStringList(item["postgres_names"] ?? [], (problem, remedy, path = []) =>
    refuse(problem, remedy, ["postgres_names", ...path]),
  );
  if (isRefused(names)) return names;
  if (names.length > 0 && names.length !== servers.length)
    return refuse(
      `names ${names.length} of ${servers.length} Postgres servers`,
      "write the name of each server in synchronous_standby_names, in the order of postgres",
      ["postgres_names"],
    );
  return { region, urls, natsDomain: domain, postgres: servers.map(postgresServerOf), postgresNames: names };
}

function parseUrls(value: unknown, refuse: Refuse): readonly URL[] | RefusedValue {
  const list = parseStringList(value ?? [], (problem, remedy, path = []) => refuse(problem, remedy, ["urls", ...path]));
  if (isRefused(list)) return list;
  if (list.length === 0) return refuse("urls is missing", "write the URLs of the region's brokers", ["urls"]);
  const urls: URL[] = [];
  for (const [i, item] of list.entries()) {
    const url = checkUrl(item, { schemes: ["https", "http"], refuse, at: ["urls", i] });
    if (isRefused(url)) return url;
    urls.push(url);
  }
  return urls;
}
