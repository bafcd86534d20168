/**
 * Operator tokens: credentials of the command line and of automation for the operator API.
 *
 * Short-lived JWTs (HS256 by jose) under a key derived from the cluster's secret for this purpose alone. Anyone who can
 * read the secret can mint one (break-glass). Every use is logged with the token's name and id.
 */
import { type JWTPayload, jwtVerify, SignJWT } from "jose";
import { routeGroupPattern } from "../../config/index.ts";
import { parseUnixMs, type UnixMs } from "../../events/index.ts";
import { deriveKey } from "../../replication/wire/index.ts";
import { isOperatorRole, type OperatorRole } from "./roles/operator-roles.ts";

export type OperatorToken = Readonly<{
  name: string;
  tokenId: string;
  expiresAt: UnixMs;
  role: OperatorRole;
  /** Null: all routes. */
  routeGroups: readonly string[] | null;
}>;

const audience = (cluster: string): string => `cardea-operator:${cluster}`;
/**
 * The audience of tokens with less than all rights. A server that does not know roles refuses them; it would take such
 * a token for an administrator's.
 */
const limitedAudience = (cluster: string): string => `cardea-operator-role:${cluster}`;
const keyOf = (secret: Uint8Array): Uint8Array => deriveKey(secret, "operator token");
/** The log records names as actors. */
const namePattern = /^[\w.@-]{1,100}$/;
const idPattern = /^[\w-]{1,64}$/;
const tokenCharsMax = 2_048;
const groupsMax = 20;

export async function mintOperatorToken(options: {
  secret: Uint8Array;
  cluster: string;
  /** Letters, digits and `_.@-`. */
  name: string;
  tokenId: string;
  nowS: number;
  /** Lifetime in seconds. */
  ttlS: number;
  /** Absent: administrator. */
  role?: OperatorRole;
  /** The groups of routes to which the role is limited; absent: all routes. */
  routeGroups?: readonly string[];
}): Promise<string> {
  if (!namePattern.test(options.name) || !idPattern.test(options.tokenId))
    throw new TypeError("a token's name and id may contain only letters, digits and a few punctuation marks");
  const { role = "administrator", routeGroups, cluster } = options;
  if (routeGroups !== undefined && !isGroupList(routeGroups))
    throw new TypeError(`a token names 1 to ${groupsMax} groups of routes`);
  const isLimited = role !== "administrator" || routeGroups !== undefined;
  const limits = routeGroups === undefined ? { role } : { role, route_groups: routeGroups };
  return new SignJWT(isLimited ? limits : {})
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer(options.name)
    .setAudience(isLimited ? limitedAudience(cluster) : audience(cluster))
    .setJti(options.tokenId)
    .setIssuedAt(options.nowS)
    .setExpirationTime(options.nowS + options.ttlS)
    .sign(keyOf(options.secret));
}

/** @param secrets the current one first, older ones during a rotation */
export async function verifyOperatorToken(
  token: string,
  options: { secrets: readonly Uint8Array[]; cluster: string; nowS: number },
): Promise<OperatorToken | undefined> {
  if (token.length > tokenCharsMax) return undefined;
  for (const secret of options.secrets) {
    try {
      const { payload } = await jwtVerify(token, keyOf(secret), {
        algorithms: ["HS256"],
        audience: [audience(options.cluster), limitedAudience(options.cluster)],
        currentDate: new Date(options.nowS * 1_000),
        requiredClaims: ["exp", "jti", "iss"],
      });
      const { iss: name = "", jti: tokenId = "", exp = 0 } = payload;
      if (!namePattern.test(name) || !idPattern.test(tokenId)) return undefined;
      const rights = rightsIn(payload, payload.aud === audience(options.cluster));
      return rights && { name, tokenId, expiresAt: parseUnixMs(Math.floor(exp * 1_000)), ...rights };
    } catch {
      // another secret, another purpose, or expired
    }
  }
  return undefined;
}

/** A token without a role is an administrator's, but only under the audience of those. */
function rightsIn(
  { role, route_groups: routeGroups }: JWTPayload,
  isFull: boolean,
): Pick<OperatorToken, "role" | "routeGroups"> | undefined {
  if (isFull && role === undefined && routeGroups === undefined) return { role: "administrator", routeGroups: null };
  if (!isOperatorRole(role)) return undefined;
  if (routeGroups === undefined) return { role, routeGroups: null };
  return isGroupList(routeGroups) ? { role, routeGroups } : undefined;
}

function isGroupList(value: unknown): value is readonly string[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= groupsMax &&
    value.every((name) => typeof name === "string" && routeGroupPattern.test(name))
  );
}
