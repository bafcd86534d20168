/**
 * Rotation of every secret of a real cluster under traffic, in the rolling restarts of docs/operations.md: the shared
 * secret and the people's keys wrapped under it, the cookie secret, the signing key, and the users of NATS and
 * Postgres.
 */
import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../../src/replication/wire/index.ts";
import { withClient } from "../../support/postgres-client.ts";
import { waitFor } from "../../support/wait-for.ts";
import { sendRequest } from "../cluster/client.ts";
import { type Cluster, createSession, loadConfigFile, type Session, startCluster } from "../cluster/cluster.ts";
import { issuerOf } from "../cluster/cluster-config.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { startTraffic, type Traffic } from "./traffic.ts";

const newSecret = (): string => randomBytes(32).toString("base64");
const natsUsers = { old: randomBytes(8).toString("hex"), new: randomBytes(8).toString("hex") };
const silent = { debug() {}, info() {}, warn() {}, error() {} };

let cluster: Cluster;
let alice: Session;
let traffic: Traffic;
let processes: readonly ClusterProcess[];
const next = {
  shared: newSecret(),
  cookie: newSecret(),
  signing: String(
    generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" }),
  ),
};

before(
  async () => {
    cluster = await startCluster({
      ...{ timing: "default", regions: ["north", "north"] },
      natsConfig: `
        authorization { users: [{ user: old, password: "${natsUsers.old}" }, { user: new, password: "${natsUsers.new}" }] }
        no_auth_user: old`,
    });
    processes = [...cluster.brokers, cluster.authenticate, ...cluster.proxies];
    alice = await cluster.session("alice", ["eng"]);
    traffic = startTraffic(cluster, [alice, await cluster.session("bob", ["eng"])], "eng");
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

type File = Record<string, unknown> & { nats: Record<string, unknown> };

/** Changes the configuration of every process and restarts them one by one. */
async function restartRound(change: (file: File, process: ClusterProcess) => void): Promise<void> {
  for (const process of processes) {
    const file = JSON.parse(readFileSync(process.configFile, "utf8")) as File;
    change(file, process);
    writeFileSync(process.configFile, JSON.stringify(file), { mode: 0o600 });
    await traffic.bypass(process, () => process.restart());
    await assertAssertionsVerify();
  }
}

/** Asserts that the identity assertion of each proxy verifies with the keys of every proxy. */
async function assertAssertionsVerify(session = alice): Promise<void> {
  for (const proxy of cluster.proxies) {
    const { body, permitted } = await cluster.get(proxy, "eng", session);
    assert.equal(permitted, true, `${proxy.name}: ${body.slice(0, 200)}`);
    const headers = JSON.parse(body) as Record<string, string>;
    const assertion = headers["x-pomerium-jwt-assertion"] ?? "";
    for (const other of cluster.proxies) {
      const path = "/.well-known/pomerium/jwks.json";
      const jwks = await sendRequest({ port: other.ports.address, host: cluster.host("eng"), path });
      const keys = createLocalJWKSet(JSON.parse(jwks.body) as JSONWebKeySet);
      const { payload } = await jwtVerify(assertion, keys);
      assert.equal(payload["email"], "alice@example.com", "the person's sealed e-mail can still be opened");
    }
  }
}

test("first round: every process accepts the new secrets, and none uses them yet", async () => {
  await withClient(cluster.setup.postgres, async (client) => {
    await client.query("create role second superuser login password 'second'");
  });
  await restartRound((file) => {
    file["shared_secret_previous"] = next.shared;
    file["cookie_secret_previous"] = next.cookie;
    file["signing_key_previous"] = next.signing;
  });
});

test("second round: the signing key, the cookie secret, and the users of NATS and Postgres change", async () => {
  await restartRound((file, process) => {
    file["cookie_secret_previous"] = file["cookie_secret"];
    file["cookie_secret"] = next.cookie;
    file["signing_key"] = next.signing;
    file["signing_key_previous"] = "derived";
    file.nats = { ...file.nats, user: "new", password: natsUsers.new };
    if (!cluster.brokers.includes(process)) return;
    const url = new URL(cluster.setup.postgres);
    url.username = "second";
    url.password = "second";
    file["databroker_storage_connection_string"] = url.href;
  });
  await waitFor("no connection under the first Postgres user", () =>
    withClient(cluster.setup.postgres, async (client) => {
      const { rows } = await client.query(
        "select distinct usename from pg_stat_activity where datname = current_database() and application_name like 'cardea%'",
      );
      assert.deepEqual(
        rows.map((row: { usename: string }) => row.usename),
        ["second"],
      );
      return true;
    }),
  );
});

test("third round: the shared secret changes, and the leader rewraps the keys of people and logs when none is left", async () => {
  await restartRound((file) => {
    delete file["signing_key_previous"];
    file["shared_secret_previous"] = file["shared_secret"];
    file["shared_secret"] = next.shared;
  });
  const leader = await waitFor(
    "every key to be rewrapped",
    async () => {
      for (const broker of cluster.brokers) {
        const [leads, seen] = await Promise.all(
          ["leading", "keys_seen"].map((measure) => broker.metric(`cardea_broker_${measure}`)),
        );
        if (leads === 1 && (seen ?? 0) >= 2 && (await broker.metric("cardea_broker_keys_left")) === 0) return broker;
      }
      return undefined;
    },
    { withinMs: 60_000 },
  );
  const wrapped = "rewrapped personal keys under the current secret";
  await waitFor("a broker to log the rewrapped keys", () =>
    cluster.brokers.some((broker) => broker.log().includes(wrapped)),
  );
  await waitFor(
    "the leader to log that no key is left",
    () => leader.log().lastIndexOf("no personal key") > leader.log().lastIndexOf(wrapped),
  );
  assert.equal(await leader.metric("cardea_broker_keys_unreadable"), 0);
});

test("every request of a valid session was permitted during the three rounds, without a second sign-in", async (t) => {
  const { permitted, refused, retries } = await traffic.stop();
  t.diagnostic(`${permitted} requests permitted, ${retries} attempts at a second proxy`);
  assert.deepEqual(refused, []);
  assert.ok(permitted > 100);
});

test("last round: without the old secrets people are still known, and credentials signed under them are refused", async () => {
  const { config, client } = underNewSecret();
  const newSession = await createSession("alice", ["eng"], {
    ...{ config, client, issuer: issuerOf(cluster.setup), routes: ["app", "eng", "strict"] },
  });
  await client.close();
  const old = alice;
  alice = newSession;
  traffic = startTraffic(cluster, [newSession], "eng");
  await restartRound((file) => {
    delete file["shared_secret_previous"];
    delete file["cookie_secret_previous"];
  });
  const { refused } = await traffic.stop();
  assert.deepEqual(refused, []);
  for (const proxy of cluster.proxies) assert.equal((await cluster.get(proxy, "eng", old)).permitted, false);
});

function underNewSecret() {
  const config = loadConfigFile(cluster.authenticate.configFile);
  const client = createBrokerClient({
    ...{ role: "authenticate", urls: config.broker.urls, cluster: config.broker.clusterName, name: "test" },
    ...{ secret: config.sharedSecret, clock: systemClock, randomBytes, logger: silent },
  });
  return { config, client };
}
