/** `cardea snapshot`: list, verify, and restore of a lost log from a snapshot. */
import assert from "node:assert/strict";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { startDatabroker } from "../../../src/cli/build/databroker-parts.ts";
import { loadConfig } from "../../../src/config/index.ts";
import {
  type CommandId,
  type CommandRequest,
  type ConfigHash,
  configTextOf,
  type NodeId,
  packConfigBody,
  parseSessionId,
  parseUnixMs,
  parseUserId,
} from "../../../src/events/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

const logger = { debug() {}, info() {}, warn() {}, error() {} };
const folder = new TemporaryFolder("cli-snapshot");
const configFile = join(folder.path, "cardea.yaml");
const secret = randomBytes(32).toString("base64");

function writeConfig(path: string, parts: Readonly<{ dataDir: string; store: string; secret?: string }>): void {
  writeFileSync(
    path,
    JSON.stringify({
      services: "all",
      shared_secret: parts.secret ?? secret,
      cookie_secret: secret,
      authenticate_service_url: "https://authenticate.example.com",
      insecure_server: true,
      idp_provider: "oidc",
      idp_provider_url: "https://idp.example.com",
      idp_client_id: "cardea",
      idp_client_secret: "a secret",
      data_dir: parts.dataDir,
      databroker_storage_type: "file",
      databroker_storage_connection_string: parts.store,
      broker: { snapshot_every: 100 },
      routes: [{ from: "https://app.example.com", to: "http://127.0.0.1:1", allow_any_authenticated_user: true }],
    }),
    { mode: 0o600 },
  );
}

const dataDir = join(folder.path, "data");
const snapshots = join(dataDir, "snapshots");
const erasedId = parseUserId("erased-person");
const configText = '{"region":"of the lost log"}';
const configHash = createHash("sha256").update(configText).digest("hex") as ConfigHash;

/** Creates a log of some hundred events with two snapshots, taken by a real broker that is then stopped. */
before(async () => {
  writeConfig(configFile, { dataDir, store: join(folder.path, "log.db") });
  const loaded = loadConfig(configFile, { env: {} });
  assert.ok(loaded.ok, JSON.stringify(loaded.ok ? "" : loaded.problems));
  const parts = await startDatabroker(loaded.config, { node: "broker-1" as NodeId, logger, duties: [] });
  const places = () => parts.snapshotService?.places() ?? [];
  for (const round of [1, 2]) {
    for (let n = 0; n < 120; n++)
      await submit(parts, "authenticate", sessionOf(n === 0 ? "erased-person" : `person-${n % 10}`));
    if (round === 1) await submit(parts, "operator", { type: "eraseUser", userId: erasedId });
    if (round === 1) {
      const [nodeId, body] = ["proxy-1" as NodeId, packConfigBody(configText)];
      await submit(parts, "authenticate", { type: "activateConfiguration", nodeId, configHash, body });
    }
    await waitFor(`snapshot ${round}`, () => places().length >= round, { withinMs: 20_000 });
  }
  await parts.stop();
});

async function submit(
  parts: Awaited<ReturnType<typeof startDatabroker>>,
  role: "authenticate" | "operator",
  command: CommandRequest["command"],
): Promise<void> {
  const actor = role === "operator" ? "operator:test" : "service:test";
  const result = await parts.forRole(role).submit({ commandId: randomUUID() as string as CommandId, actor, command });
  assert.notEqual(result.type, "unavailable");
}

function sessionOf(user: string): CommandRequest["command"] {
  const now = Date.now();
  return {
    type: "createSession",
    sessionId: parseSessionId(randomUUID()),
    userId: parseUserId(user),
    idpId: "idp",
    issuedAt: parseUnixMs(now),
    expiresAt: parseUnixMs(now + 3_600_000),
    profile: {
      ...{ issuer: "https://idp.example.com", subject: user, email: `${user}@example.com`, emailVerified: true },
      ...{ name: user, claims: {} },
    },
    tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
    groupIds: [],
    maxSessionsPerUser: 100,
  };
}

test("the snapshots on disk are listed and intact, and replaying the log gives the same state", async () => {
  const listed = await run(["snapshot", "list", "--disk", "-c", configFile, "--json"]);
  assert.equal(listed.code, 0, listed.err);
  assert.equal(JSON.parse(listed.out).snapshots.length, 2);
  const verified = await run(["snapshot", "verify", "-c", configFile, "--against-log"]);
  assert.equal(verified.code, 0, verified.err + verified.out);
  assert.match(verified.out, /^position \d+ \([0-9a-f]{12}\): whole\nposition/);
});

test("a lost log is restored from a snapshot with the saved keys, except those of erased users", async () => {
  const keys = join(folder.path, "keys");
  assert.equal((await run(["snapshot", "keys", "-c", configFile, "-o", keys])).code, 0);
  assert.equal(
    (await run(["snapshot", "keys", "-c", configFile, "-o", keys])).code,
    3,
    "an existing file is not overwritten",
  );
  const again = join(folder.path, "again.yaml");
  writeConfig(again, { dataDir, store: join(folder.path, "again.db") });
  const restored = await run(["snapshot", "restore", "-c", again, "--keys", keys, "--json"]);
  assert.equal(restored.code, 0, restored.err);
  const report = JSON.parse(restored.out);
  assert.match((await run(["log", "verify", "-c", again])).out, /0 events verified.*the log begins after/);
  const verified = await run(["snapshot", "verify", "-c", again, "--against-log"]);
  assert.equal(verified.code, 3, "nothing is left to compare with, so the result is neither right nor wrong");
  assert.match(
    verified.out,
    /^(position \d+ \([0-9a-f]{12}\): whole; not compared with the log: the log begins.*\n){2}$/,
  );
  assert.match(verified.err, /no snapshot could be compared/);
  assert.equal((await run(["snapshot", "verify", "-c", again])).code, 0, "the snapshots are intact");
  const twice = await run(["snapshot", "restore", "-c", again, "--keys", keys]);
  assert.equal(twice.code, 3);
  assert.match(twice.err, /cannot restore the log/);
  // The first broker starts a new epoch and continues from the snapshot.
  const loaded = loadConfig(again, { env: {} });
  assert.ok(loaded.ok);
  const parts = await startDatabroker(loaded.config, { node: "broker-1" as NodeId, logger, duties: [] });
  try {
    const status = await waitFor("a leader", async () => {
      const { leader } = await parts.forRole("operator").status();
      return leader ?? undefined;
    });
    const [epoch, position] = String(report.link).split(".").map(Number);
    assert.equal(status.epoch, (epoch ?? 0) + 1);
    assert.equal(status.head.position, (position ?? 0) + 1);
    const storedKeys = await parts.log?.keys([erasedId, parseUserId("person-1")]);
    assert.deepEqual(
      storedKeys?.map(({ userId }) => userId),
      ["person-1"],
    );
    const storedConfig = await parts.forRole("operator").configuration(configHash);
    assert.equal(
      storedConfig && configTextOf(storedConfig.body),
      configText,
      "the configuration behind earlier decisions can still be read",
    );
    await submit(parts, "authenticate", sessionOf("person-1"));
  } finally {
    await parts.stop();
  }
});

test("a restore with unclear or invalid input is refused before anything is written", async () => {
  const store = join(folder.path, "untouched.db");
  const other = join(folder.path, "other.yaml");
  writeConfig(other, { dataDir, store });
  const unsure = await run(["snapshot", "restore", "-c", other]);
  assert.equal(unsure.code, 2);
  assert.match(unsure.err, /either --keys FILE or --without-keys/);
  const noKeys = join(folder.path, "no-keys");
  writeFileSync(noKeys, "something else");
  const wrong = await run(["snapshot", "restore", "-c", other, "--keys", noKeys]);
  assert.equal(wrong.code, 3);
  const unknown = await run(["snapshot", "restore", "-c", other, "--without-keys", "--id", "ffff"]);
  assert.match(unknown.err, /there is no whole snapshot ffff/);
  writeConfig(other, { dataDir, store, secret: randomBytes(32).toString("base64") });
  const foreign = await run(["snapshot", "restore", "-c", other, "--without-keys"]);
  assert.equal(foreign.code, 3);
  assert.ok(!existsSync(store));
  const bad = await run(["snapshot", "list", "--disk", "-c", other]);
  assert.equal(bad.code, 1, "not signed with this secret");
  assert.match(bad.err, /refused/);
});

test("a truncated chunk is detected, and a restore uses the previous snapshot", async () => {
  const manifests = readdirSync(join(snapshots, "manifests")).sort();
  const chunks = readdirSync(join(snapshots, "chunks"));
  const saved = new Map(chunks.map((name) => [name, readFileSync(join(snapshots, "chunks", name))]));
  const older = await run(["snapshot", "verify", "-c", configFile, "--json"]);
  assert.equal(older.code, 0);
  // The largest chunk holds users and sessions of one snapshot only; the chunk of groups may be shared.
  const [cut = ""] = chunks.toSorted((a, b) => (saved.get(b)?.length ?? 0) - (saved.get(a)?.length ?? 0));
  truncateSync(join(snapshots, "chunks", cut), 10);
  const verdicts = JSON.parse((await run(["snapshot", "verify", "-c", configFile, "--json"])).out);
  assert.deepEqual(verdicts.filter(({ problem }: { problem: unknown }) => problem === null).length, 1);
  assert.match(JSON.stringify(verdicts), new RegExp(cut));
  const compared = await run(["snapshot", "verify", "-c", configFile, "--against-log", "--json"]);
  assert.equal(compared.code, 1);
  assert.deepEqual(
    JSON.parse(compared.out).map(({ problem }: { problem: unknown }) => problem),
    verdicts.map(({ problem }: { problem: unknown }) => problem),
    "the intact snapshot is reported as intact",
  );
  assert.ok(existsSync(join(snapshots, "chunks", cut)), "verification changes nothing");
  const target = join(folder.path, "third.yaml");
  writeConfig(target, { dataDir, store: join(folder.path, "third.db") });
  const restored = await run(["snapshot", "restore", "-c", target, "--without-keys", "--json"]);
  assert.equal(restored.code, 0, restored.err);
  for (const [name, bytes] of saved) writeFileSync(join(snapshots, "chunks", name), bytes);
  truncateSync(join(snapshots, "manifests", manifests[0] ?? ""), 5);
  const listing = await run(["snapshot", "list", "--disk", "-c", configFile]);
  assert.equal(listing.code, 1);
  assert.match(listing.err, /manifest|refused/);
  rmSync(snapshots, { recursive: true });
  assert.equal((await run(["snapshot", "verify", "-c", configFile])).code, 1);
  assert.equal((await run(["snapshot", "verify"])).code, 2);
});
