/**
 * A node that only decides for other proxies: a real `cardea run` with `services: authorize`, and a reload of its
 * configuration.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { credentials } from "@grpc/grpc-js";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, statementIn } from "../../src/replication/wire/index.ts";
import { asked as commandOf, createSession, quiet, random, revoke } from "../broker/support.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { EnvoyClient } from "../support/envoy-client.ts";
import { freePorts } from "../support/free-port.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 30_000 };
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

test("an authorize node answers a trusted proxy from its own projection and current configuration; receipts name it decision-only", async (t) => {
  using folder = new TemporaryFolder("decisions");
  const [decisions = 0, grpc = 0, metrics = 0, broker = 0] = await freePorts(4);
  const file = join(folder.path, "cardea.yaml");
  const key = Buffer.from("a key of a service, for a test").toString("base64");
  const write = (isPublic: boolean): void =>
    writeFileSync(
      file,
      JSON.stringify({
        services: ["authorize", "databroker"],
        authenticate_service_url: "https://authenticate.example.com",
        decision_api: {
          address: `127.0.0.1:${decisions}`,
          grpc_address: `127.0.0.1:${grpc}`,
          trusted_proxies: ["127.0.0.1"],
          keys: isPublic ? {} : { wiki: key }, // added by the second configuration
        },
        broker: { listen: `127.0.0.1:${broker}` },
        metrics_address: `127.0.0.1:${metrics}`,
        data_dir: join(folder.path, "data"),
        shared_secret: secret(3),
        cookie_secret: secret(5),
        idp_provider: "oidc",
        idp_provider_url: "http://idp.localhost:1",
        idp_client_id: "cardea",
        idp_client_secret: "secret",
        routes: [
          {
            from: "https://app.example.com",
            to: "http://127.0.0.1:1",
            [isPublic ? "allow_public_unauthenticated_access" : "allow_any_authenticated_user"]: true,
          },
        ],
      }),
      { mode: 0o600 },
    );
  write(true);
  const logFile = join(folder.path, "log");
  const args = ["--no-warnings", mainFile, "run", "-c", file];
  const child = await Child.start({ command: process.execPath, args, logFile });
  t.after(() => child.end("SIGTERM"));
  await waitFor(
    "the process to be ready",
    async () => {
      assert.ok(child.running, child.log());
      return (await fetch(`http://127.0.0.1:${metrics}/readyz`)).ok;
    },
    patience,
  );
  const started = await waitFor(
    "the log line with its listeners",
    () =>
      child
        .log()
        .split("\n")
        .find((line) => line.includes('"message":"started"')),
    patience,
  );
  const { service, address, listeners } = JSON.parse(started) as Record<string, unknown>;
  assert.deepEqual(
    { service, address, listeners },
    {
      ...{ service: "authorize,databroker", address: `127.0.0.1:${decisions}` },
      listeners: {
        broker: `127.0.0.1:${broker}`,
        metrics: `127.0.0.1:${metrics}`,
        decisions: `127.0.0.1:${decisions}`,
        decisions_grpc: `127.0.0.1:${grpc}`,
      },
    },
    "the address of the decision API, because this process runs no proxy",
  );
  const page = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
  const labels = [...page.matchAll(/^cardea_\w+\{(?:[^}]*,)?(measure|what)=/gm)];
  assert.deepEqual(labels, [], "each metric holds one measure, so it has one unit");
  assert.match(page, /^cardea_replica_grants [1-9]/m);
  const forwardAuthStatus = async (host: string): Promise<number> => {
    const answer = await fetch(`http://127.0.0.1:${decisions}/forward-auth`, {
      headers: {
        "x-forwarded-method": "GET",
        "x-forwarded-proto": "https",
        "x-forwarded-host": host,
        "x-forwarded-uri": "/report",
        "x-forwarded-for": "203.0.113.9",
      },
    });
    await answer.arrayBuffer();
    return answer.status;
  };
  assert.equal(await forwardAuthStatus("app.example.com"), 200);
  assert.equal(await forwardAuthStatus("other.example.com"), 403);
  const envoy = new EnvoyClient(grpc, credentials.createInsecure());
  t.after(() => envoy.close());
  const http = { method: "GET", path: "/report", host: "app.example.com", scheme: "https" };
  const checkStatus = async (headers: Readonly<Record<string, string>> = {}): Promise<number> => {
    const source = { address: { socketAddress: { address: "203.0.113.9", portValue: 1 } } };
    const answer = await envoy.check({ source, request: { http: { ...http, headers } } });
    return answer.deniedResponse?.status.code ?? answer.status.code;
  };
  assert.equal(await envoy.health(), 1);
  assert.equal(await checkStatus(), 0);
  const evaluationStatus = async (): Promise<number> => {
    const headers = { authorization: `Bearer ${key}` };
    return (await fetch(`http://127.0.0.1:${decisions}/access/v1/evaluation`, { method: "POST", headers })).status;
  };
  assert.equal(await evaluationStatus(), 401);
  write(false);
  await waitFor("the second configuration", async () => (await forwardAuthStatus("app.example.com")) === 401, patience);
  assert.equal(await checkStatus({ "sec-fetch-mode": "cors" }), 401);
  assert.equal(await evaluationStatus(), 400, "the key is accepted without a restart, so only the body is invalid");
  const measured = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
  assert.match(measured, /cardea_served_decisions_total\{form="forward-auth",result="permit"\} \d+/);
  const readRecords = (): readonly { result: string; host: string; path: string }[] =>
    readFileSync(join(folder.path, "data", "audit", "decisions.jsonl"), "utf8")
      .split("\n")
      .flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  await waitFor(
    "the decisions to be recorded",
    async () =>
      readRecords().some(({ result }) => result === "permit") &&
      readRecords().some(({ result }) => result === "signin"),
    patience,
  );

  // A receipt does not cover the open streams of the node's callers, and the signed receipt says so.
  const clientOf = (role: "authenticate" | "operator"): BrokerClient => {
    const client = createBrokerClient({
      ...{ urls: [new URL(`http://127.0.0.1:${broker}`)], cluster: "cardea", role, name: "test" },
      ...{ secret: Buffer.from(secret(3), "base64"), clock: systemClock, randomBytes: random, logger: quiet },
    });
    t.after(() => client.close());
    return client;
  };
  const signedIn = await clientOf("authenticate").submit(commandOf(createSession("s1", "alice")));
  assert.equal(signedIn.type, "done", JSON.stringify(signedIn));
  const operator = clientOf("operator");
  const done = await operator.submit(commandOf(revoke("s1")));
  if (done.type !== "done") return assert.fail(JSON.stringify(done));
  const receipt = await operator.receipt({ type: "link", link: done.link }, { wait: "all", timeoutMs: 30_000 });
  assert.equal(receipt.complete, true);
  const statement = statementIn(receipt.signed ?? "");
  assert.deepEqual(
    statement?.nodes.map(({ role, status }) => [role, status]),
    [["decision-only", "applied"]],
  );
  assert.equal(statement?.durability, "local", "the store is a file");
});
