/**
 * Back-channel logout: the identity provider posts a logout token, and the sessions that it names end (OpenID Connect
 * Back-Channel Logout 1.0).
 *
 * - A request is checked in this order: size and form, issuer and audience, signature, content (logout-token.ts).
 * - 200 means that the log has it. 400: the token is wrong. 503: it could not be verified or recorded now; send again.
 * - A repeated token is the same command, so it ends nothing that began since. Nor does one whose command the log has
 *   forgotten: sessions that began after its time stay.
 *
 * Why so: docs/adr/0045-a-logout-is-remembered.md.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  type CommandRequest,
  logoutCommandId,
  logoutsFrom,
  providerSessionId,
  userIdOf,
} from "../../../events/index.ts";
import type { AuthDeps } from "../context.ts";
import { hasAudience, unverifiedClaims } from "../credentials/token-text.ts";
import { type LogoutToken, logoutTokenCharsMax } from "../provider/logout-token.ts";
import type { ProviderClient } from "../provider/provider-client.ts";
import { ProviderError } from "../provider/provider-error.ts";
import { submitWithRetry } from "./begin-session.ts";
import { backchannelLogoutPath } from "./common-endpoints.ts";

const bodyBytesMax = 2 * logoutTokenCharsMax;
const inProgressMax = 256;

/** A refusal; `retryAfterS` with 503 alone. */
type Refusal = Readonly<{ status: 400 | 503; why: string; retryAfterS?: number }>;

export function registerBackchannelLogout(app: FastifyInstance, deps: AuthDeps): void {
  let inProgress = 0;
  app.post(backchannelLogoutPath, { bodyLimit: bodyBytesMax }, async (request, reply) => {
    reply.header("cache-control", "no-store");
    if (inProgress >= inProgressMax) return sendRefusal(deps, reply, { status: 503, why: "too many requests at once" });
    inProgress += 1;
    try {
      return await receive(deps, request, reply);
    } finally {
      inProgress -= 1;
    }
  });
}

async function receive(deps: AuthDeps, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const token = tokenIn(request);
  if (token === undefined)
    return sendRefusal(deps, reply, { status: 400, why: "send one logout_token, in a form, of at most 16 KB" });
  const client = clientOf(deps, token);
  if (client === undefined)
    return sendRefusal(deps, reply, { status: 400, why: "the token is of no provider and client that are configured" });
  let verified: LogoutToken;
  try {
    verified = await client.verify(token);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    const why = error.message;
    return sendRefusal(
      deps,
      reply,
      error.kind === "untrue" ? { status: 400, why } : { status: 503, why, retryAfterS: 30 },
    );
  }
  const { level } = deps.replica.projection;
  if (level < logoutsFrom) {
    const why = `the cluster is at level ${level}, and logouts need level ${logoutsFrom}: run cardea cluster finalize`;
    return sendRefusal(deps, reply, { status: 503, why, retryAfterS: 60 });
  }
  const result = await submitWithRetry(deps, commandOf(verified));
  if (result.type === "unavailable") {
    const retryAfterS = Math.max(1, Math.ceil(result.retryAfterMs / 1_000));
    return sendRefusal(deps, reply, { status: 503, why: "the logout could not be recorded", retryAfterS });
  }
  if (result.type === "refused") return sendRefusal(deps, reply, { status: 503, why: result.message, retryAfterS: 60 });
  deps.onLogout?.("back", "recorded");
  const about = verified.sid === null ? "person" : "session";
  deps.log.info({ about, position: result.link.position }, "the identity provider reported a logout");
  return reply.code(200).header("cardea-position", String(result.link.position)).send();
}

/** The field `logout_token`, if it is sent once and in a form. */
function tokenIn({ body, headers }: FastifyRequest): string | undefined {
  const isForm = /^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(headers["content-type"] ?? "");
  if (!isForm || typeof body !== "object" || body === null || !("logout_token" in body)) return undefined;
  const { logout_token: token } = body;
  return typeof token === "string" && token.length <= logoutTokenCharsMax ? token : undefined;
}

type Logouts = NonNullable<ProviderClient["logouts"]>;

/** The client that the token says it is for, before anything is verified. */
function clientOf(deps: AuthDeps, token: string): Logouts | undefined {
  const said = unverifiedClaims(token);
  if (said === undefined) return undefined;
  return logoutsOfIssuer(deps, said.iss).find(({ clientId }) => hasAudience(said, [clientId]));
}

/** The clients at an issuer, which may have a slash at its end or not. */
export function logoutsOfIssuer({ settings, providerOf }: AuthDeps, issuer: unknown): readonly Logouts[] {
  if (typeof issuer !== "string") return [];
  const bare = (text: string): string => text.replace(/\/$/, "");
  return [...settings.idpIds]
    .map((idpId) => providerOf(idpId)?.logouts)
    .filter((logouts) => logouts !== undefined && logouts !== null)
    .filter((logouts) => bare(logouts.issuer.href) === bare(issuer));
}

function commandOf({ issuer, jti, issuedAt, subject, sid }: LogoutToken): CommandRequest {
  return {
    commandId: logoutCommandId(issuer, jti, { sid: sid ?? "", sub: subject ?? "" }),
    actor: "service:authenticate",
    command: {
      type: "recordLogout",
      providerSession: sid === null ? null : providerSessionId(issuer, sid),
      userId: subject === null ? null : userIdOf(issuer, subject),
      remembered: true,
      issuedAt,
    },
  };
}

function sendRefusal(deps: AuthDeps, reply: FastifyReply, { status, why, retryAfterS = 1 }: Refusal): FastifyReply {
  deps.onLogout?.("back", status === 400 ? "refused" : "unavailable");
  deps.log.warn({ why }, `a logout from an identity provider was not recorded; answering ${status}`);
  if (status === 503) reply.header("retry-after", String(retryAfterS));
  const error = status === 400 ? "invalid_request" : "temporarily_unavailable";
  return reply.code(status).type("application/json").send({ error, error_description: why });
}
