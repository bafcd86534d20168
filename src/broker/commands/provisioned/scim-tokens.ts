/** Create and revoke SCIM token: an operator gives a SCIM client a credential, or takes it away. Pure. */
import {
  isScimTokenId,
  type Projection,
  parseHash,
  parseScimToken,
  parseUnixMs,
  type ScimToken,
  scimAccount,
  scimScopes,
  serviceAccountStream,
  sweepStream,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { type Fields, listIn, MalformedCommandError, textOf } from "../fields.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";
import { parseClient } from "./write-provisioned-user.ts";

/** Tokens that are not revoked, of all clients. */
const tokensMax = 200;
/** Revoked tokens stay in the projection, so they count too. */
const everMax = 20_000;

export const createScimToken: CommandDefinition<"createScimToken"> = {
  schema(fields) {
    const named = listIn(fields, "scopes");
    const scopes = scimScopes.filter((scope) => named.includes(scope));
    if (scopes.length === 0 || scopes.length !== named.length)
      throw new MalformedCommandError(`scopes are one or more of ${scimScopes.join(", ")}`);
    return {
      type: "createScimToken",
      client: parseClient(fields),
      tokenId: tokenIdIn(fields, "tokenId"),
      secretHash: parseHash(fields["secretHash"]),
      scopes,
      expiresAt: fields["expiresAt"] === null ? null : parseUnixMs(fields["expiresAt"]),
      replaces: fields["replaces"] === null ? null : tokenIdIn(fields, "replaces"),
    };
  },
  permission: ["operator"],
  // One at a time, because a token's id must be new.
  access: () => ({ reads: [], writes: [sweepStream] }),
  perform(projection, command, { now }) {
    const { client, tokenId, scopes, expiresAt, replaces } = command;
    const tokens = tokensIn(projection);
    const live = tokens.filter(({ account }) => !account.revoked);
    if (tokens.some((token) => token.tokenId === tokenId)) return refuseCommand("conflict", "the token exists");
    if (expiresAt !== null && expiresAt <= now) return refuseCommand("invalid", "the token would have expired already");
    if (live.length >= tokensMax || tokens.length >= everMax)
      return refuseCommand("conflict", `there are ${live.length} SCIM tokens; revoke some first`);
    const replaced = replaces === null ? null : live.find((token) => token.tokenId === replaces);
    if (replaced === undefined || (replaced !== null && replaced.client !== client))
      return refuseCommand("not-found", "the client has no such token that is not revoked");
    return recordChanges([
      { type: "ServiceAccountCreated", ...scimAccount(command), expiresAt, description: scopes.join(" ") },
      ...(replaced === null ? [] : [revocationOf(replaced)]),
    ]);
  },
};

export const revokeScimToken: CommandDefinition<"revokeScimToken"> = {
  schema: (fields) => ({ type: "revokeScimToken", tokenId: tokenIdIn(fields, "tokenId") }),
  permission: ["operator"],
  tightens: true,
  access: ({ tokenId }, projection) => ({
    reads: [],
    writes: tokensIn(projection)
      .filter((token) => token.tokenId === tokenId)
      .map(({ account }) => serviceAccountStream(account.serviceAccountId)),
  }),
  perform(projection, { tokenId }) {
    const token = tokensIn(projection).find((each) => each.tokenId === tokenId);
    if (token === undefined) return refuseCommand("not-found", "there is no such SCIM token");
    return token.account.revoked ? nothing : recordChanges([revocationOf(token)]);
  },
};

function tokenIdIn(fields: Fields, name: string): string {
  const tokenId = textOf(fields, name);
  if (!isScimTokenId(tokenId)) throw new MalformedCommandError(`${name} is not the id of a SCIM token`);
  return tokenId;
}

function tokensIn(projection: Projection): readonly ScimToken[] {
  return [...projection.serviceAccounts()].map(parseScimToken).filter((token) => token !== undefined);
}

function revocationOf({ account }: ScimToken) {
  const { serviceAccountId, userId } = account;
  return { type: "ServiceAccountRevoked", serviceAccountId, userId, reason: "operator" } as const;
}
