/** A broker that serves a region: required, optional and contradictory keys. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { base, errors, parse } from "./support.ts";

const region = (broker: string, more = ""): string =>
  `${base}services: databroker\ndatabroker_storage_type: postgres\nbroker: {listen: "127.0.0.1:5443", urls: ["https://b-west:5443"], ${broker}}\n${more}`;

test("a regional broker needs no store", () => {
  const result = parse(region(`home_urls: ["https://b-1.east:5443", "https://b-2.east:5443"]`));
  assert.ok(result.ok, JSON.stringify(result));
  assert.deepEqual(result.config.broker.homeUrls.map(String), ["https://b-1.east:5443/", "https://b-2.east:5443/"]);
});

test("a broker without home_urls needs a store", () =>
  assert.ok(errors(region("beat: 200ms")).some((each) => each.includes("databroker_storage_connection_string"))));

test("home_urls must not name a broker of the same region", () =>
  assert.ok(
    errors(region(`home_urls: ["https://b-west:5443"]`)).some((each) =>
      /broker\.home_urls\[0\]: is a broker of this region too; write the brokers of the leader's region/.test(each),
    ),
  ));

test("home_urls is an error in a process without a broker", () => {
  const text = region(`home_urls: ["https://b-1.east:5443"]`).replace("services: databroker", "services: proxy");
  assert.ok(errors(text).some((each) => /broker\.home_urls: is for brokers, and this process runs none/.test(each)));
});

test("home_urls refuses plain HTTP to another machine", () =>
  assert.ok(
    errors(region(`home_urls: ["http://b-1.east:5443"]`)).some((each) =>
      /broker\.home_urls\[0\]: is plain HTTP between machines/.test(each),
    ),
  ));

test("nats.home_domain and nats.placement_cluster exclude each other", () =>
  assert.ok(
    errors(
      region(
        `home_urls: ["https://b-1.east:5443"]`,
        "nats: {servers: [tls://n:4222], home_domain: east, placement_cluster: west}\n",
      ),
    ).some((each) => /nats\.placement_cluster: /.test(each)),
  ));

const homes = `homes: [
  {region: east, urls: ["https://b-1.east:5443"], postgres: ["pg-1.east"], nats_domain: east},
  {region: us, urls: ["https://b-1.us:5443"], postgres: ["pg-1.us:5433"], postgres_names: [pg_us], nats_domain: us},
  {region: ap, urls: ["https://b-1.ap:5443"]}]`;
const at = (name: string, more = ""): string => region(homes, `region: ${name}\n${more}`);
const store = `databroker_storage_connection_string: "postgres://cardea@pg-1.east,pg-1.us:5433/cardea"\n`;

test("homes is the same list in every region: a broker knows its own region and the brokers of the others", () => {
  const result = parse(at("us", store));
  assert.ok(result.ok, JSON.stringify(result));
  const { homes: found, homeUrls } = result.config.broker;
  assert.deepEqual(
    found.map((home) => [home.region, home.postgres, home.postgresNames, home.natsDomain]),
    [
      ["east", ["pg-1.east:5432"], [], "east"],
      ["us", ["pg-1.us:5433"], ["pg_us"], "us"],
      ["ap", [], [], null],
    ],
  );
  assert.deepEqual(homeUrls.map(String), ["https://b-1.east:5443/", "https://b-1.ap:5443/"]);
});

test("a broker whose region may hold the leader needs the store; one whose region may not needs none", () => {
  assert.ok(errors(at("us")).some((each) => each.includes("databroker_storage_connection_string")));
  assert.ok(parse(at("ap")).ok);
});

for (const [why, written, problem] of [
  [
    "beside home_urls",
    region(`${homes}, home_urls: ["https://b-1.east:5443"]`, `region: ap\n`),
    /home_urls: is written beside broker\.homes/,
  ],
  [
    "with nats.home_domain",
    at("ap", "nats: {servers: [tls://n:4222], home_domain: east}\n"),
    /nats\.home_domain: is for broker\.home_urls/,
  ],
  [
    "with a region twice",
    region(homes.replace("region: us", "region: east"), "region: ap\n"),
    /broker\.homes\[1\]\.region: names a region again/,
  ],
  [
    "with a server twice",
    region(homes.replace("pg-1.us:5433", "PG-1.east:5432"), "region: ap\n"),
    /names the Postgres server pg-1\.east:5432 twice/,
  ],
  [
    "without a Postgres server",
    region(`homes: [{region: east, urls: ["https://b-1.east:5443"]}]`, "region: ap\n"),
    /names no Postgres server/,
  ],
  [
    "without urls",
    region(homes.replace(`urls: ["https://b-1.us:5443"], `, ""), "region: ap\n"),
    /broker\.homes\[1\]\.urls: urls is missing/,
  ],
  [
    "with fewer names than Postgres servers",
    region(homes.replace("[pg_us]", "[pg_us, pg_us_2]"), "region: ap\n"),
    /broker\.homes\[1\]\.postgres_names: names 2 of 1 Postgres servers/,
  ],
  [
    "with an unknown key",
    region(homes.replace("nats_domain: us", "domain: us"), "region: ap\n"),
    /broker\.homes\[1\]\.domain: domain is not a key here/,
  ],
  [
    "with plain HTTP between machines",
    region(homes.replace("https://b-1.us", "http://b-1.us"), "region: ap\n"),
    /broker\.homes\[1\]\.urls\[0\]: is plain HTTP between machines/,
  ],
  [
    "with other services in the process of a broker that changes its part",
    at("us", store).replace("services: databroker", "services: [databroker, proxy]"),
    /services: must be databroker alone/,
  ],
] as const)
  test(`homes is refused ${why}`, () =>
    assert.ok(
      errors(written).some((each) => problem.test(each)),
      errors(written).join("\n"),
    ));
