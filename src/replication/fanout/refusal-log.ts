/** Refusal log: one line for the first refused NATS message, then at most one a minute with the counts so far. */
import type { Logger } from "../runtime/logger.ts";

const everyMs = 60_000;

/** @returns a function to call after each refusal */
export function createRefusalLog(
  of: Readonly<{ logger: Logger; subject: string; refused: () => Readonly<Record<string, number>> }>,
): (monotonicMs: number) => void {
  let loggedAtMs = Number.NEGATIVE_INFINITY;
  return (monotonicMs) => {
    if (monotonicMs - loggedAtMs < everyMs) return;
    loggedAtMs = monotonicMs;
    const { subject } = of;
    of.logger.warn(
      { subject, refused: of.refused() },
      "messages on NATS were refused: not from a member of the cluster",
    );
  };
}
