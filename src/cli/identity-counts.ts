/** Counts of what had to be asked about who is asking: bearer tokens that were new, and the provider's tokens of sessions. */
import { Counter, type Registry } from "prom-client";

export type IdentityCounts = Readonly<{ bearers: Counter<"result">; sessionTokens: Counter<"result"> }>;

export function identityCounts(registry: Registry): IdentityCounts {
  return {
    bearers: new Counter({
      name: "cardea_bearer_tokens_looked_at_total",
      help: "Bearer tokens that no session was known of, by what became of them",
      labelNames: ["result"],
      registers: [registry],
    }),
    sessionTokens: new Counter({
      name: "cardea_session_tokens_asked_total",
      help: "Questions to the brokers for a session's provider tokens, by what became of them",
      labelNames: ["result"],
      registers: [registry],
    }),
  };
}
