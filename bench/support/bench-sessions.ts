/** Commands for the benches of replication: a session is created, and revoked. */
import { randomUUID } from "node:crypto";
import type { CommandId, CommandRequest, GroupId, SessionId, UnixMs } from "../../src/events/index.ts";
import { userIdOf } from "../../src/events/index.ts";
import type { Databroker } from "../../src/replication/index.ts";

type Submit = Pick<Databroker, "submit">;

/** The ids of sessions that are revoked and timed begin with this, so nodes recognise them. */
const timedPrefix = "be5c0000-";
export const timedStreamPrefix = `session:${timedPrefix}`;

export function timedSessionId(): SessionId {
  return `${timedPrefix}${randomUUID().slice(timedPrefix.length)}` as SessionId;
}

/** @param n chooses one of fifty people */
export async function createSession(authenticate: Submit, sessionId: SessionId, n: number): Promise<void> {
  const subject = `person-${n % 50}`;
  const issuer = "https://idp.example";
  const now = Date.now();
  await submitDone(authenticate, "service:authenticate", {
    type: "createSession",
    sessionId,
    userId: userIdOf(issuer, subject),
    idpId: "bench",
    issuedAt: now as UnixMs,
    expiresAt: (now + 3_600_000) as UnixMs,
    profile: { issuer, subject, email: `${subject}@example.com`, emailVerified: true, name: subject, claims: {} },
    tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
    groupIds: ["eng" as GroupId],
    maxSessionsPerUser: 1_000,
  });
}

export function revokeSession(operator: Submit, sessionId: SessionId): Promise<CommandId> {
  return submitDone(operator, "operator:bench", { type: "revokeSession", sessionId, reason: "operator" });
}

/** @throws when the outcome is not `done` */
async function submitDone(databroker: Submit, actor: string, command: CommandRequest["command"]): Promise<CommandId> {
  const commandId = randomUUID() as string as CommandId;
  const result = await databroker.submit({ commandId, actor, command });
  if (result.type !== "done") throw new Error(result.message);
  return commandId;
}
