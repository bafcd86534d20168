/**
 * Identity counts: metrics of bearer tokens, of requests for providers' tokens, of code exchanges, of refused sign-ins,
 * and of identities that exceed the bound of their headers.
 */
import { Counter, type Registry } from "prom-client";
import { identityTooLarge, type OversizeIdentity } from "../../auth/index.ts";
import type { Clock, Logger } from "../../replication/index.ts";

export type IdentityCounts = Readonly<{
  bearers: Counter<"result">;
  sessionTokens: Counter<"result">;
  codeExchanges: Counter<"result">;
  signInsRefused: Counter;
  logouts: Counter<"channel" | "result">;
  onOversize: (oversize: OversizeIdentity) => void;
}>;

/** At most one warning per outcome in this time; the counter counts all. */
const warnEveryMs = 60_000;

export function identityCounts(
  registry: Registry,
  { logger, now }: Readonly<{ logger: Pick<Logger, "warn">; now: Clock["monotonic"] }>,
): IdentityCounts {
  const oversize = new Counter({
    name: "cardea_identity_headers_oversize_total",
    help: "Assertions whose identity headers exceed max_identity_headers_bytes, by outcome",
    labelNames: ["outcome"],
    registers: [registry],
  });
  const warnedAt = { reduced: -Infinity, refused: -Infinity };
  return {
    bearers: new Counter({
      name: "cardea_bearer_tokens_looked_at_total",
      help: "Bearer tokens without a known session, by result",
      labelNames: ["result"],
      registers: [registry],
    }),
    sessionTokens: new Counter({
      name: "cardea_session_tokens_asked_total",
      help: "Requests to the brokers for a session's provider tokens, by result",
      labelNames: ["result"],
      registers: [registry],
    }),
    codeExchanges: new Counter({
      name: "cardea_code_exchanges_total",
      help: "Callbacks with a code from the identity provider, by result",
      labelNames: ["result"],
      registers: [registry],
    }),
    signInsRefused: new Counter({
      name: "cardea_sign_ins_refused_total",
      help: "Sign-ins that were not started, because no leader could record a session",
      registers: [registry],
    }),
    logouts: new Counter({
      name: "cardea_provider_logouts_total",
      help: "Logouts that identity providers reported, by channel (back, front) and result",
      labelNames: ["channel", "result"],
      registers: [registry],
    }),
    onOversize(found) {
      const { outcome } = found;
      oversize.inc({ outcome });
      if (now() - warnedAt[outcome] < warnEveryMs) return;
      warnedAt[outcome] = now();
      if (outcome === "reduced")
        logger.warn(found, "identity headers exceed their bound; the assertion names only the policy's groups");
      else
        logger.warn(
          { ...found, code: identityTooLarge.code },
          "identity headers exceed their bound; the request is refused",
        );
    },
  };
}
