/**
 * Provider tokens: the tokens that the identity provider issued for a session, for routes that forward them to their
 * upstream.
 *
 * The brokers' vault holds them. A node fetches those of a session once, when a route first needs them. It keeps them
 * sealed under a key of its own that it never writes down, and fetches them again after the session was refreshed.
 * They are dropped with the session, and their number and size are bounded. Pure but for its arguments.
 */
import { LRUCache } from "lru-cache";
import {
  type ActiveSession,
  CodedError,
  open,
  type PersonKey,
  type ProviderTokens,
  type SessionId,
  type Stream,
  seal,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
} from "../../events/index.ts";
import type { Change } from "../../replication/index.ts";

/** The tokens that may be forwarded. A refresh token never is, and is not kept. */
export type ForwardedTokens = Pick<ProviderTokens, "idToken" | "accessToken">;

export type ProviderTokenSource = Readonly<{
  /**
   * Immediate if they are cached for the current state of the session. Null: there are none.
   * @throws BrokerUnavailableError, or rejects with it: no broker could be reached
   */
  of(session: ActiveSession): ForwardedTokens | null | Promise<ForwardedTokens | null>;
  /** Drops the tokens of sessions that a change touches. */
  onChange(change: Change): void;
}>;

/** The tokens cannot be fetched: too many fetches are in progress. */
export class ProviderTokensBusyError extends CodedError<"ERR_PROXY_TOKENS_BUSY"> {
  override readonly code = "ERR_PROXY_TOKENS_BUSY";
  constructor() {
    super("too many sessions' tokens are being fetched at once");
  }
}

type SealedTokens = Readonly<{ refreshedAt: UnixMs; userId: UserId; sealed: Uint8Array | null }>;
const keyIdBytes = 8;
/** Size of an entry without its sealed tokens, roughly. */
const entryBytes = 512;

export function createProviderTokenSource(options: {
  /** Fetches from a broker. */
  fetch: (sessionId: SessionId) => Promise<ProviderTokens | undefined>;
  randomBytes: (bytes: number) => Uint8Array;
  keptMax?: number;
  /** For the sealed tokens. */
  keptBytesMax?: number;
  askedMax?: number;
  /** Reports the result of a fetch. */
  onAsked?: (result: "answered" | "failed" | "busy") => void;
}): ProviderTokenSource {
  const { keptMax = 10_000, keptBytesMax = 64 * 1024 * 1024, askedMax = 256 } = options;
  /** The sessions to drop with a stream: each is in its own stream's set and in its person's. */
  const sessionsByStream = new Map<Stream, Set<SessionId>>();
  const cached = new LRUCache<SessionId, SealedTokens>({
    maxSize: keptBytesMax,
    // At least an equal share bounds the number too: with `max` the whole table would be allocated now.
    sizeCalculation: ({ sealed }) => Math.max((sealed?.length ?? 0) + entryBytes, Math.ceil(keptBytesMax / keptMax)),
    dispose: ({ userId }, sessionId) => {
      const ofUser = sessionsByStream.get(userStream(userId));
      ofUser?.delete(sessionId);
      if (ofUser?.size === 0) sessionsByStream.delete(userStream(userId));
      sessionsByStream.delete(sessionStream(sessionId));
    },
  });
  const fetching = new Map<SessionId, Promise<ForwardedTokens | null>>();
  const key = options.randomBytes(32);
  const keyId = options.randomBytes(keyIdBytes);

  /** `seal` binds a value to a person; here it is bound to the session. */
  const sealKeyOf = ({ sessionId }: ActiveSession): PersonKey => ({
    userId: sessionId as string as ActiveSession["userId"],
    keyId,
    key,
  });

  function openTokens(session: ActiveSession, { sealed }: SealedTokens): ForwardedTokens | null {
    if (sealed === null) return null;
    // As it was sealed below.
    const [idToken, accessToken] = open(sealed, sealKeyOf(session)) as [string | null, string | null];
    return { idToken, accessToken };
  }

  async function fetchTokens(
    session: ActiveSession,
    mine: Readonly<{ asking?: Promise<unknown> }>,
  ): Promise<ForwardedTokens | null> {
    const { sessionId, userId, refreshedAt } = session;
    try {
      const found = await options.fetch(sessionId);
      const tokens = found === undefined ? null : { idToken: found.idToken, accessToken: found.accessToken };
      const sealed =
        tokens === null
          ? null
          : seal([tokens.idToken, tokens.accessToken], sealKeyOf(session), options.randomBytes(12));
      // Not cached if the session was touched during the fetch: the next call fetches again.
      if (fetching.get(sessionId) === mine.asking) cache(sessionId, { refreshedAt, userId, sealed });
      options.onAsked?.("answered");
      return tokens;
    } catch (error) {
      options.onAsked?.("failed");
      throw error;
    } finally {
      if (fetching.get(sessionId) === mine.asking) fetching.delete(sessionId);
    }
  }

  function cache(sessionId: SessionId, found: SealedTokens): void {
    cached.set(sessionId, found);
    if (!cached.has(sessionId)) return; // larger than the whole cache
    sessionsByStream.set(sessionStream(sessionId), new Set([sessionId]));
    const ofUser = sessionsByStream.get(userStream(found.userId)) ?? new Set();
    sessionsByStream.set(userStream(found.userId), ofUser.add(sessionId));
  }

  return {
    of(session) {
      const { sessionId } = session;
      const known = cached.get(sessionId);
      if (known?.refreshedAt === session.refreshedAt) return openTokens(session, known);
      const underway = fetching.get(sessionId);
      if (underway !== undefined) return underway;
      if (fetching.size >= askedMax) {
        options.onAsked?.("busy");
        throw new ProviderTokensBusyError();
      }
      const mine: { asking?: Promise<unknown> } = {};
      const asking = fetchTokens(session, mine);
      mine.asking = asking;
      fetching.set(sessionId, asking);
      return asking;
    },
    onChange({ touched, rebuilt }) {
      if (rebuilt) {
        cached.clear();
        fetching.clear();
        return;
      }
      if (sessionsByStream.size === 0 && fetching.size === 0) return;
      for (const stream of touched)
        for (const sessionId of sessionsByStream.get(stream) ?? []) cached.delete(sessionId);
      // Callers that wait get the result, but it is not cached.
      if (touched.size > 0) fetching.clear();
    },
  };
}
