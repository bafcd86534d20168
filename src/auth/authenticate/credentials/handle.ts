/**
 * Session handle: the small signed token in the cookie that names a session.
 *
 * - It grants nothing by itself: the session must be in the projection.
 * - It names the link that the session needs, so a node that lags detects it (read-your-writes).
 * - Pomerium's shape (docs/pomerium-behaviour.md §1.3): HS256, no `exp`; the position is `databroker_record_version`,
 *   the epoch `databroker_server_version`. Issuer and audience are checked.
 * - `databroker_server_incarnation` tells the epoch from another of its number. Handles of older versions lack it.
 */
import { jwtVerify, SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import {
  type NeededLink,
  parseEpoch,
  parseHash,
  parseIncarnationTag,
  parsePosition,
  parseSessionId,
  parseUserId,
  type SessionId,
  type UserId,
} from "../../../events/index.ts";
import { hmacKey } from "../../../replication/wire/index.ts";

export type SessionHandle = Readonly<{
  sessionId: SessionId;
  userId: UserId;
  idpId: string;
  /** Link that the projection must reach before the session is checked; null: none. */
  needs: NeededLink | null;
  /** Hosts it may be used on. */
  audience: readonly string[];
}>;

/**
 * Audience entry that makes a handle valid on every TCP and UDP route, not only on the host that made it.
 *
 * Only a programmatic sign-in that returns to the person's own machine gets it, so a browser's cookie opens no tunnel
 * of another host. It contains colons, so it is no host name.
 */
export const tunnelAudience = "urn:cardea:tunnels";

export type HandleCodec = Readonly<{
  issue(handle: SessionHandle): Promise<string>;
  /** Synchronous if the token was verified before, so the request path does not wait. */
  verify(token: string): SessionHandle | "invalid" | Promise<SessionHandle | "invalid">;
}>;

/** Longer tokens are invalid. */
const tokenCharsMax = 2_048;
/** Bound of the cache of verified handles with their tokens. */
const cacheBytesDefault = 32 * 1024 * 1024;
/** Estimated size of a handle and its cache entry, without the token. */
const entryBytes = 1_024;
/**
 * A JWS in compact form, in base64url without unused bits (RFC 7515 §2, RFC 4648 §3.5). Decoders ignore those bits, so
 * one handle would have several spellings, and each of them an entry in the cache.
 */
const segment = "(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?";
const canonicalJws = new RegExp(`^${segment}\\.${segment}\\.${segment}$`);

export function createHandleCodec(options: {
  issuer: string;
  /** The current key first; older ones during a rotation. */
  keys: readonly Uint8Array[];
  nowS: () => number;
  /** Bound of the cache of verified handles. */
  cacheBytesMax?: number;
}): HandleCodec {
  const keys = options.keys.map(hmacKey);
  const [signingKey] = keys;
  if (signingKey === undefined) throw new TypeError("a handle codec needs a key");
  /** Valid tokens only: invalid ones cannot fill the cache or evict entries. */
  const verified = new LRUCache<string, SessionHandle>({
    maxSize: options.cacheBytesMax ?? cacheBytesDefault,
    sizeCalculation: (_handle, token) => token.length + entryBytes,
  });

  async function verifySignature(token: string): Promise<SessionHandle | "invalid"> {
    for (const key of keys) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: ["HS256"],
          issuer: options.issuer,
          typ: "JWT",
          currentDate: new Date(options.nowS() * 1_000),
        });
        const handle = parseClaims(payload);
        verified.set(token, handle);
        return handle;
      } catch {
        // signed with another key, or not a token
      }
    }
    return "invalid";
  }

  return {
    async issue(handle) {
      const needs = handle.needs;
      if (handle.audience.length === 0) throw new TypeError("a session handle needs an audience");
      return new SignJWT({
        idp_id: handle.idpId,
        ...(needs === null
          ? {}
          : {
              databroker_server_version: needs.epoch,
              databroker_record_version: needs.position,
              databroker_record_hash: needs.hash,
              ...(needs.incarnation === undefined ? {} : { databroker_server_incarnation: needs.incarnation }),
            }),
      })
        .setProtectedHeader({ alg: "HS256", typ: "JWT" })
        .setJti(handle.sessionId)
        .setSubject(handle.userId)
        .setIssuer(options.issuer)
        .setAudience([...handle.audience])
        .setIssuedAt(options.nowS())
        .sign(signingKey);
    },
    verify(token) {
      if (token.length > tokenCharsMax) return "invalid";
      return verified.get(token) ?? (canonicalJws.test(token) ? verifySignature(token) : "invalid");
    },
  };
}

function parseClaims(payload: Readonly<Record<string, unknown>>): SessionHandle {
  const aud = payload["aud"];
  const idpId = payload["idp_id"];
  const incarnation = payload["databroker_server_incarnation"];
  return {
    sessionId: parseSessionId(payload["jti"]),
    userId: parseUserId(payload["sub"]),
    idpId: typeof idpId === "string" ? idpId : "",
    needs:
      payload["databroker_record_version"] === undefined
        ? null
        : {
            epoch: parseEpoch(payload["databroker_server_version"]),
            position: parsePosition(payload["databroker_record_version"]),
            hash: parseHash(payload["databroker_record_hash"]),
            ...(incarnation === undefined ? {} : { incarnation: parseIncarnationTag(incarnation) }),
          },
    audience: Array.isArray(aud) ? aud.filter((a) => typeof a === "string") : typeof aud === "string" ? [aud] : [],
  };
}

/** Whether a handle is valid on every TCP and UDP route. */
export function handleFitsTunnels(handle: SessionHandle): boolean {
  return handle.audience.includes(tunnelAudience);
}

/** Whether a handle is valid on a host: a stolen cookie of one route opens no other. A cookie domain widens it. */
export function handleFits(handle: SessionHandle, hostname: string, cookieDomain: string | null): boolean {
  if (handle.audience.includes(hostname)) return true;
  if (cookieDomain === null) return false;
  const domain = cookieDomain.replace(/^\./, "");
  const covered = (host: string): boolean => host === domain || host.endsWith(`.${domain}`);
  return covered(hostname) && handle.audience.some(covered);
}
