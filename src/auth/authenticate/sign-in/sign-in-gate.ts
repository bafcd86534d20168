/**
 * Sign-in gate: whether a new sign-in may start. Pure, except for its dependencies.
 *
 * A sign-in ends with a session in the log, which only the leader can record. While no leader has answered this process
 * for longer than a failover takes, a person is not sent to the identity provider in vain.
 *
 * - It compares times in memory: the process renews its lease every second anyway, so no sign-in waits.
 * - The limit is Δ and `broker.takeover`. A failover within `broker.takeover` costs at most that time and two renews,
 *   so it never closes the gate, and its sign-ins complete.
 * - A process that no leader has answered yet starts no sign-in.
 */
export type SignInGate = Readonly<{
  isOpen(): boolean;
}>;

export type SignInGateDeps = Readonly<{
  /** Time (ms) since a leader answered this process. Infinity: none has answered yet. */
  leaderSilentMs: () => number;
  limitMs: () => number;
  onRefused: () => void;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

export function createSignInGate({ leaderSilentMs, limitMs, onRefused, log }: SignInGateDeps): SignInGate {
  let state: "open" | "closed" = "open";
  return {
    isOpen() {
      const silentMs = leaderSilentMs();
      const before = state;
      state = silentMs <= limitMs() ? "open" : "closed";
      if (state === "closed") onRefused();
      if (state === before) return state === "open";
      if (state === "closed")
        log.warn(
          { silentMs: Number.isFinite(silentMs) ? Math.round(silentMs) : null },
          "no leader answers this process; starting no sign-in until one does",
        );
      else log.info({}, "a leader answers again; sign-ins start again");
      return state === "open";
    },
  };
}
