/** A Cardea process to measure: its configuration, and a session made by command, without a browser. */
import { randomBytes, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createHandleCodec } from "../../src/auth/index.ts";
import { authKeys } from "../../src/cli/auth-keys.ts";
import { idpsOf } from "../../src/cli/auth-parts.ts";
import { type Config, loadConfig } from "../../src/config/index.ts";
import { type CommandId, type GroupId, type SessionId, type UnixMs, userIdOf } from "../../src/events/index.ts";
import { createBrokerClient, systemClock } from "../../src/replication/index.ts";

export type Written = Readonly<{ path: string; config: Config }>;

export function writeCardeaConfig(
  folder: string,
  ports: Readonly<{ port: number; brokerPort: number; metricsPort: number; upstreamPort: number }>,
): Written {
  const path = join(folder, "cardea.yaml");
  const text = `services: all
address: 127.0.0.1:${ports.port}
insecure_server: true
data_dir: ${folder}/data
databroker_storage_type: memory
authenticate_service_url: http://authenticate.localhost:${ports.port}
idp_provider: oidc
idp_provider_url: http://idp.localhost:${ports.port}
idp_client_id: bench
idp_client_secret: bench
shared_secret: ${randomBytes(32).toString("base64")}
cookie_secret: ${randomBytes(32).toString("base64")}
groups_from_claim: groups
pass_identity_headers: true
metrics_address: 127.0.0.1:${ports.metricsPort}
log_level: warn
broker: {listen: "127.0.0.1:${ports.brokerPort}"}
audit: {sinks: [{file: ${folder}/audit.jsonl}]}
routes:
  - from: http://app.localhost:${ports.port}
    to: http://127.0.0.1:${ports.upstreamPort}
    policy: {allow: {and: [{groups: {has: eng}}]}}
`;
  writeFileSync(path, text, { mode: 0o600 });
  const loaded = loadConfig(path, { env: {} });
  if (!loaded.ok) throw new Error(loaded.problems.map((p) => `${p.line}: ${p.key}: ${p.problem}`).join("\n"));
  return { path, config: loaded.config };
}

/** @returns the cookie of a new session, `name=value` */
export async function startSigned({ config }: Written): Promise<string> {
  const { listen } = config.broker;
  if (listen === null) throw new Error("the bench's broker listens nowhere");
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const client = createBrokerClient({
    urls: [new URL(`http://${listen.host}:${listen.port}`)],
    cluster: config.broker.clusterName,
    role: "authenticate",
    name: "bench",
    secret: config.sharedSecret,
    clock: systemClock,
    randomBytes,
    logger: quiet,
  });
  const profile = {
    issuer: "https://idp.example",
    subject: "bench",
    email: "bench@example.com",
    emailVerified: true,
    name: "Bench",
    claims: { groups: ["eng"] },
  };
  const sessionId = randomUUID() as string as SessionId;
  const userId = userIdOf(profile.issuer, profile.subject);
  const now = Date.now();
  const idpId = idpsOf(config).id;
  const request = {
    commandId: randomUUID() as string as CommandId,
    actor: "service:authenticate",
    command: {
      type: "createSession",
      sessionId,
      userId,
      idpId,
      issuedAt: now as UnixMs,
      expiresAt: (now + 3_600_000) as UnixMs,
      profile,
      tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
      groupIds: ["eng" as GroupId],
      maxSessionsPerUser: 100,
    },
  } as const;
  let result = await client.submit(request);
  for (let asked = 1; result.type === "unavailable" && asked < 10; asked++) {
    await delay(result.retryAfterMs);
    result = await client.submit(request);
  }
  await client.close();
  if (result.type !== "done") throw new Error(`no session: ${result.message}`);
  const handles = createHandleCodec({
    issuer: config.authenticateServiceUrl.hostname,
    keys: authKeys(config).handles,
    nowS: () => Math.floor(Date.now() / 1_000),
  });
  return `${config.cookie.name}=${await handles.issue({ sessionId, userId, idpId, needs: result.link, audience: ["app.localhost"] })}`;
}
