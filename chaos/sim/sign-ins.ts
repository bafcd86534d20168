/** Sign-ins: the command of a person who signs in at the identity provider. */
import type { Command, GroupId, ProviderTokens, SessionId, UnixMs, UserId } from "../../src/events/index.ts";
import { provisionedOf } from "./outside/provisioned-people.ts";
import { profileOf } from "./people.ts";
import { firstRefreshToken } from "./sim-provider.ts";
import type { SimOptions } from "./swarm.ts";

export const noTokens = { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null };

/** Each sign-in gets its own token family. */
const tokensOf = (sessionId: SessionId): ProviderTokens => ({
  ...noTokens,
  refreshToken: firstRefreshToken(sessionId),
});

export function signIn(
  { outside }: Pick<SimOptions, "outside">,
  of: Readonly<{
    sessionId: SessionId;
    userId: UserId;
    now: UnixMs;
    lastsMs: number;
    groupIds: readonly GroupId[] | null;
  }>,
): Extract<Command, { type: "createSession" }> {
  const { sessionId, userId, now, lastsMs, groupIds } = of;
  const provisioned = provisionedOf(userId, outside);
  return {
    ...{ type: "createSession", sessionId, userId, idpId: "idp", issuedAt: now, maxSessionsPerUser: 8 },
    expiresAt: (now + Math.round(lastsMs)) as UnixMs,
    ...{ profile: profileOf(userId, 0), tokens: tokensOf(sessionId), groupIds },
    ...(provisioned.length === 0 ? {} : { provisioned }),
  };
}
