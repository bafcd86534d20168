/** Operator API for the tokens of SCIM clients. The server gets the hash of a token's secret, never the secret. */
import { isScimTokenId, parseHash, parseScimToken, parseUnixMs, type ScimToken } from "../events/index.ts";
import { submitChange } from "./operator-changes.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute, tryParse } from "./operator-route.ts";
import { scimTokenSchema } from "./operator-schemas.ts";

export type ScimTokenView = Readonly<{
  id: string;
  client: string;
  scopes: readonly string[];
  status: "active" | "expired" | "revoked";
  expiresAt: string | null;
}>;

export function registerScimTokens(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /scim/tokens", async () => {
    const tokens = [...deps.replica.projection.serviceAccounts()]
      .map(parseScimToken)
      .filter((token) => token !== undefined)
      .map((token) => describeToken(token, deps.now()))
      .sort((a, b) => (a.client + a.id < b.client + b.id ? -1 : 1));
    return { tokens, applied: deps.replica.applied };
  });

  route("POST /scim/tokens", async (request, reply, { actor }) => {
    const body = scimTokenSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const { client, tokenId, secretHash, scopes, expiresAt, replaces, ...wait } = body.data;
    const until = expiresAt === undefined ? null : tryParse(parseUnixMs, Date.parse(expiresAt));
    if (until === undefined) return reply.code(400).send({ error: "expiresAt is not a time" });
    const command = {
      type: "createScimToken",
      client,
      tokenId,
      secretHash: parseHash(secretHash),
      scopes,
      expiresAt: until,
      replaces: replaces ?? null,
    } as const;
    return submitChange(deps, request, reply, actor, command, wait);
  });

  route("POST /scim/tokens/:token/revoke", async (request, reply, { actor }) => {
    const tokenId = (request.params as { token: string }).token;
    if (!isScimTokenId(tokenId)) return reply.code(400).send({ error: "not the id of a SCIM token" });
    return submitChange(deps, request, reply, actor, { type: "revokeScimToken", tokenId });
  });
}

function describeToken({ tokenId, client, scopes, account }: ScimToken, now: number): ScimTokenView {
  const { expiresAt, revoked } = account;
  return {
    id: tokenId,
    client,
    scopes: [...scopes],
    status: revoked ? "revoked" : expiresAt !== null && expiresAt <= now ? "expired" : "active",
    expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString(),
  };
}
