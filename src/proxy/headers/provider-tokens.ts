/**
 * Session tokens: what the identity provider gave for a session, for routes that forward it to their upstream.
 *
 * They live in the brokers' vault. A node asks for those of a session once, when a route first needs them, keeps them sealed under a key
 * of its own that it never writes down, and asks anew when the session was refreshed. What is kept goes with the session, and there
 * is never more of it than a bound. Pure but for what it is given.
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

/** What of the tokens is forwarded; a refresh token never is, and is not kept. */
export type ForwardedTokens = Pick<ProviderTokens, "idToken" | "accessToken">;

export type ProviderTokenSource = Readonly<{
  /**
   * Immediate when they are known for the session as it is now. Null: there are none.
   * @throws BrokerUnavailableError, or rejects with it: nobody could say
   */
  of(session: ActiveSession): ForwardedTokens | null | Promise<ForwardedTokens | null>;
  /** What is folded in; drops what belongs to sessions that are touched. */
  onChange(change: Change): void;
}>;

/** The tokens could not be had: too many are asked for already. */
export class ProviderTokensBusyError extends CodedError<"ERR_PROXY_TOKENS_BUSY"> {
  override readonly code = "ERR_PROXY_TOKENS_BUSY";
  constructor() {
    super("too many sessions' tokens are being asked for at once");
  }
}

type SealedTokens = Readonly<{ refreshedAt: UnixMs; userId: UserId; sealed: Uint8Array | null }>;
const keyIdBytes = 8;
/** An entry beside its sealed tokens, roughly. */
const entryBytes = 512;

export function createProviderTokenSource(options: {
  /** Asks a broker. */
  fetch: (sessionId: SessionId) => Promise<ProviderTokens | undefined>;
  randomBytes: (bytes: number) => Uint8Array;
  keptMax?: number;
  /** Of the sealed tokens. */
  keptBytesMax?: number;
  askedMax?: number;
  /** What became of a question to the brokers. */
  onAsked?: (result: "answered" | "failed" | "busy") => void;
}): ProviderTokenSource {
  const { keptMax = 10_000, keptBytesMax = 64 * 1024 * 1024, askedMax = 256 } = options;
  /** Which sessions go with what: each with its own stream, and with its person's. */
  const sessionsByStream = new Map<Stream, Set<SessionId>>();
  const cached = new LRUCache<SessionId, SealedTokens>({
    max: keptMax,
    maxSize: keptBytesMax,
    sizeCalculation: ({ sealed }) => (sealed?.length ?? 0) + entryBytes,
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
    ...{ userId: sessionId as string as ActiveSession["userId"] },
    ...{ keyId, key },
  });

  function openTokens(session: ActiveSession, { sealed }: SealedTokens): ForwardedTokens | null {
    if (sealed === null) return null;
    const [idToken, accessToken] = open(sealed, sealKeyOf(session)) as [string | null, string | null]; // as it was sealed below
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
      // Touched while it was asked for: whoever comes next asks again.
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
    if (!cached.has(sessionId)) return; // larger than all that may be kept
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
      // Whoever waits is given what was asked for; it is not kept.
      if (touched.size > 0) fetching.clear();
    },
  };
}
