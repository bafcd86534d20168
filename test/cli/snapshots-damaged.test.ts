/**
 * The log begins behind a snapshot, and every snapshot on the disk is damaged: nobody is served from less than what was there, it is said
 * where and what to do, once, and with the snapshots of another data folder it goes on. Everything is real.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { cpSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startDatabroker } from "../../src/cli/databroker-parts.ts";
import { type CommandId, type NodeId, parseSessionId, parseUnixMs, parseUserId } from "../../src/events/index.ts";
import { ask } from "../integration/cluster/client.ts";
import { load } from "../integration/cluster/cluster.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";

const mainFile = new URL("../../src/main.ts", import.meta.url).pathname;
const patience = { withinMs: 90_000, everyMs: 200 };
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

test("with no whole snapshot of what the log has let go of, nothing is served, and place and remedy are named", async (t) => {
  using folder = new TemporaryFolder("snapshots-damaged");
  const [port = 0, metrics = 0] = await freePorts(2);
  const dataDir = join(folder.path, "data");
  const configFile = join(folder.path, "cardea.yaml");
  const written = {
    ...{ authenticate_service_url: `http://authenticate.localhost:${port}`, address: `127.0.0.1:${port}` },
    ...{ insecure_server: true, metrics_address: `127.0.0.1:${metrics}`, data_dir: dataDir },
    ...{ shared_secret: randomBytes(32).toString("base64"), cookie_secret: randomBytes(32).toString("base64") },
    ...{ idp_provider: "oidc", idp_provider_url: "http://idp.localhost:1", idp_client_id: "c", idp_client_secret: "s" },
    ...{ databroker_storage_type: "file", databroker_storage_connection_string: join(folder.path, "log.db") },
    broker: { snapshot_every: 100, retention: "1s" },
    routes: [
      { from: `http://app.localhost:${port}`, to: "http://127.0.0.1:1", allow_public_unauthenticated_access: true },
    ],
  };
  writeFileSync(configFile, JSON.stringify(written), { mode: 0o600 });

  const parts = await startDatabroker(load(configFile), { node: "broker-1" as NodeId, logger: quiet, duties: [] });
  const signIn = async (): Promise<void> => {
    const now = Date.now();
    const result = await parts.as("authenticate").submit({
      ...{ commandId: randomUUID() as string as CommandId, actor: "service:test" },
      command: {
        ...{
          type: "createSession",
          sessionId: parseSessionId(randomUUID()),
          userId: parseUserId("alice"),
          idpId: "idp",
        },
        ...{ issuedAt: parseUnixMs(now), expiresAt: parseUnixMs(now + 3_600_000), groupIds: [] },
        profile: {
          ...{ issuer: "http://idp.localhost:1", subject: "alice", email: "alice@example.com", emailVerified: true },
          ...{ name: "Alice", claims: {} },
        },
        tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
        maxSessionsPerUser: 100_000,
      },
    });
    assert.equal(result.type, "done");
  };
  await waitFor(
    "the log to begin behind a snapshot",
    async () => {
      for (let i = 0; i < 20; i++) await signIn();
      return ((await parts.log?.base())?.position ?? 0) > 0;
    },
    patience,
  );
  const begins = ((await parts.log?.base())?.position ?? 0) + 1;
  await parts.stop();
  const [snapshots, elsewhere] = [join(dataDir, "snapshots"), join(folder.path, "elsewhere")];
  cpSync(snapshots, elsewhere, { recursive: true });
  const chunks = join(snapshots, "chunks");
  for (const name of readdirSync(chunks)) truncateSync(join(chunks, name), 3);

  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", configFile],
    logFile: join(folder.path, "log"),
  });
  t.after(() => child.kill());
  const readiness = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined))?.text() ?? "";
  const said = new RegExp(
    `the event log begins at ${begins}, and no snapshot leads there: .*Copy the snapshots of another`,
  );
  await waitFor("it to say so", async () => said.test(await readiness()), patience);
  const status = async (): Promise<number> => (await ask({ port, host: `app.localhost:${port}` })).status;
  assert.equal(await status(), 503);
  const lines = (): string[] => child.log().split("\n");
  assert.ok(lines().some((line) => line.includes(join(chunks, "")) && /cannot be unpacked|is missing/.test(line)));

  // It looks again several times a second all the while.
  const counted = lines().filter((line) => said.test(line)).length;
  assert.equal(counted, 1, "said once");

  cpSync(elsewhere, snapshots, { recursive: true, force: true });
  await waitFor("it to go on", async () => JSON.parse((await readiness()) || "{}").ready === true, patience).catch(
    (cause) => Promise.reject(new Error(child.log().slice(-3_000), { cause })),
  );
  assert.equal(await status(), 502, "let through, to an upstream that is not there");
  assert.equal((await child.end("SIGTERM", { withinMs: 60_000 })).code, 0);
});
