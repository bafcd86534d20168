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
