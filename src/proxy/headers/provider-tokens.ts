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

export type SessionTokens = Readonly<{
  /**
   * Immediate when they are known for the session as it is now. Null: there are none.
   * @throws BrokerUnavailableError, or rejects with it: nobody could say
   */
  of(session: ActiveSession): ForwardedTokens | null | Promise<ForwardedTokens | null>;
  /** What is folded in; drops what belongs to sessions that are touched. */
  onChange(change: Change): void;
}>;

/** The tokens could not be had: too many are asked for already. */
export class TokensBusyError extends CodedError<"ERR_PROXY_TOKENS_BUSY"> {
  override readonly code = "ERR_PROXY_TOKENS_BUSY";
  constructor() {
    super("too many sessions' tokens are being asked for at once");
  }
}

type Kept = Readonly<{ refreshedAt: UnixMs; userId: UserId; sealed: Uint8Array | null }>;
const keyIdBytes = 8;
/** An entry beside its sealed tokens, roughly. */
const entryBytes = 512;

export function createSessionTokens(options: {
  /** Asks a broker. */
  fetch: (sessionId: SessionId) => Promise<ProviderTokens | undefined>;
  randomBytes: (bytes: number) => Uint8Array;
  keptMax?: number;
  /** Of the sealed tokens. */
  keptBytesMax?: number;
  askedMax?: number;
  /** What became of a question to the brokers. */
  onAsked?: (result: "answered" | "failed" | "busy") => void;
}): SessionTokens {
  const { keptMax = 10_000, keptBytesMax = 64 * 1024 * 1024, askedMax = 256 } = options;
  /** Which sessions go with what: each with its own stream, and with its person's. */
  const under = new Map<Stream, Set<SessionId>>();
  const kept = new LRUCache<SessionId, Kept>({
    max: keptMax,
    maxSize: keptBytesMax,
    sizeCalculation: ({ sealed }) => (sealed?.length ?? 0) + entryBytes,
    dispose: ({ userId }, sessionId) => {
      const ofUser = under.get(userStream(userId));
      ofUser?.delete(sessionId);
      if (ofUser?.size === 0) under.delete(userStream(userId));
      under.delete(sessionStream(sessionId));
    },
  });
  const asked = new Map<SessionId, Promise<ForwardedTokens | null>>();
  const key = options.randomBytes(32);
  const keyId = options.randomBytes(keyIdBytes);

  /** `seal` binds a value to a person; here it is bound to the session. */
  const holder = ({ sessionId }: ActiveSession): PersonKey => ({
    ...{ userId: sessionId as string as ActiveSession["userId"] },
    ...{ keyId, key },
  });

  function opened(session: ActiveSession, { sealed }: Kept): ForwardedTokens | null {
    if (sealed === null) return null;
    const [idToken, accessToken] = open(sealed, holder(session)) as [string | null, string | null]; // as it was sealed below
    return { idToken, accessToken };
  }

  async function ask(
    session: ActiveSession,
    mine: Readonly<{ asking?: Promise<unknown> }>,
  ): Promise<ForwardedTokens | null> {
    const { sessionId, userId, refreshedAt } = session;
    try {
      const found = await options.fetch(sessionId);
      const tokens = found === undefined ? null : { idToken: found.idToken, accessToken: found.accessToken };
      const sealed =
        tokens === null ? null : seal([tokens.idToken, tokens.accessToken], holder(session), options.randomBytes(12));
      // Touched while it was asked for: whoever comes next asks again.
      if (asked.get(sessionId) === mine.asking) keep(sessionId, { refreshedAt, userId, sealed });
      options.onAsked?.("answered");
      return tokens;
    } catch (error) {
      options.onAsked?.("failed");
      throw error;
    } finally {
      if (asked.get(sessionId) === mine.asking) asked.delete(sessionId);
    }
  }

  function keep(sessionId: SessionId, found: Kept): void {
    kept.set(sessionId, found);
    if (!kept.has(sessionId)) return; // larger than all that may be kept
    under.set(sessionStream(sessionId), new Set([sessionId]));
    const ofUser = under.get(userStream(found.userId)) ?? new Set();
    under.set(userStream(found.userId), ofUser.add(sessionId));
  }

  return {
    of(session) {
      const { sessionId } = session;
      const known = kept.get(sessionId);
      if (known?.refreshedAt === session.refreshedAt) return opened(session, known);
      const underway = asked.get(sessionId);
      if (underway !== undefined) return underway;
      if (asked.size >= askedMax) {
        options.onAsked?.("busy");
        throw new TokensBusyError();
      }
      const mine: { asking?: Promise<unknown> } = {};
      const asking = ask(session, mine);
      mine.asking = asking;
      asked.set(sessionId, asking);
      return asking;
    },
    onChange({ touched, rebuilt }) {
      if (rebuilt) {
        kept.clear();
        asked.clear();
        return;
      }
      if (under.size === 0 && asked.size === 0) return;
      for (const stream of touched) for (const sessionId of under.get(stream) ?? []) kept.delete(sessionId);
      // Whoever waits is given what was asked for; it is not kept.
      if (touched.size > 0) asked.clear();
    },
  };
}
