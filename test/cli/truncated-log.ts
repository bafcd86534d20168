/** A log in a file whose beginning was truncated, so that it can be restored only from snapshots. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DatabrokerParts } from "../../src/cli/build/broker-parts.ts";
import { startDatabroker } from "../../src/cli/build/databroker-parts.ts";
import {
  type CommandId,
  type NodeId,
  parseSessionId,
  parseUnixMs,
  parseUserId,
  type SessionId,
} from "../../src/events/index.ts";
import type { Logger } from "../../src/replication/index.ts";
import { loadConfigFile } from "../integration/cluster/cluster.ts";
import { waitFor } from "../support/wait-for.ts";

export const patience = { withinMs: 90_000, everyMs: 200 };
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Writes the configuration of a broker that snapshots often and retains nothing before the last two snapshots. The
 * ports matter only to a test that runs the whole process.
 */
export function writeTruncating(
  folder: string,
  keys: Readonly<Record<string, unknown>>,
  { port, metrics }: Readonly<{ port: number; metrics: number }> = { port: 1, metrics: 2 },
): string {
  const file = join(folder, "cardea.yaml");
  const written = {
    ...{ authenticate_service_url: `http://authenticate.localhost:${port}`, address: `127.0.0.1:${port}` },
    ...{ insecure_server: true, metrics_address: `127.0.0.1:${metrics}`, data_dir: join(folder, "data") },
    ...{ idp_provider: "oidc", idp_provider_url: "http://idp.localhost:1", idp_client_id: "c", idp_client_secret: "s" },
    ...{ databroker_storage_type: "file", databroker_storage_connection_string: join(folder, "log.db") },
    broker: { snapshot_every: 100, retention: "1s" },
    routes: [
      { from: `http://app.localhost:${port}`, to: "http://127.0.0.1:1", allow_public_unauthenticated_access: true },
    ],
    ...keys,
  };
  writeFileSync(file, JSON.stringify(written), { mode: 0o600 });
  return file;
}

export function startBrokerOf(configFile: string, logger = quiet): Promise<DatabrokerParts> {
  return startDatabroker(loadConfigFile(configFile), { node: "broker-1" as NodeId, logger, duties: [] });
}

export async function signIn(parts: DatabrokerParts): Promise<SessionId> {
  const now = Date.now();
  const sessionId = parseSessionId(randomUUID());
  const result = await parts.forRole("authenticate").submit({
    ...{ commandId: randomUUID() as string as CommandId, actor: "service:test" },
    command: {
      ...{ type: "createSession", sessionId, userId: parseUserId("alice"), idpId: "idp", groupIds: [] },
      ...{ issuedAt: parseUnixMs(now), expiresAt: parseUnixMs(now + 3_600_000), maxSessionsPerUser: 100_000 },
      profile: {
        ...{ issuer: "http://idp.localhost:1", subject: "alice", email: "alice@example.com", emailVerified: true },
        ...{ name: "Alice", claims: {} },
      },
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
    },
  });
  assert.equal(result.type, "done");
  return sessionId;
}

/** @returns the position at which the log begins afterwards */
export async function untilTruncated(parts: DatabrokerParts): Promise<number> {
  const base = async (): Promise<number> => (await parts.log?.base())?.position ?? 0;
  await waitFor(
    "the log to begin after a snapshot",
    async () => {
      for (let i = 0; i < 20; i++) await signIn(parts);
      return (await base()) > 0;
    },
    patience,
  );
  return (await base()) + 1;
}
