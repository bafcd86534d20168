/**
 * Activity reports: tells the leader when sessions were last used on this node, and counts what became of it. What is
 * reported, and when, is decided in src/auth/idle/session-activity.ts.
 */
import { randomUUID } from "node:crypto";
import { Counter, Gauge, type Registry } from "prom-client";
import { type ReportResult, SessionActivity } from "../../../auth/index.ts";
import { activityFrom, type CommandId, type SeenSession } from "../../../events/index.ts";
import type { Databroker, Logger } from "../../../replication/index.ts";
import type { ReplicaProcess } from "../../../replication/node/index.ts";
import { systemClock } from "../../../replication/runtime/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";

const tickMs = 1_000;
const results: readonly ReportResult[] = ["done", "refused", "unavailable"];

export type ActivityParts = Readonly<{
  registry: Registry;
  replica: Pick<ReplicaProcess, "projection" | "overdueMs">;
  databroker: Pick<Databroker, "submit">;
  /** Whether the configuration in force has an idle lifetime. */
  hasIdleLifetime: () => boolean;
  logger: Logger;
}>;

export function startActivityReports(parts: ActivityParts): Readonly<{
  activity: SessionActivity;
  /** Sends what is due a last time. */
  stop(): Promise<void>;
}> {
  const { replica, logger } = parts;
  const activity = new SessionActivity({
    useOf: (sessionId) => replica.projection.uses.of(sessionId),
    isFresh: ({ monotonic, wall }) => replica.overdueMs(monotonic, wall) <= 0,
  });
  const counts = registerCounts(parts.registry, activity);
  let hasWarned = false;

  async function send(seen: readonly SeenSession[]): Promise<void> {
    const result = await submit(seen);
    counts.reports.inc({ result });
    counts.sessions.inc({ result }, seen.length);
    activity.answered(result, systemClock.monotonic());
  }

  async function submit(seen: readonly SeenSession[]): Promise<ReportResult> {
    const commandId = randomUUID() as string as CommandId;
    try {
      const result = await parts.databroker.submit({
        commandId,
        actor: "system",
        command: { type: "recordActivity", seen },
      });
      if (result.type !== "refused") return result.type;
      const facts = { code: result.code, sessions: seen.length };
      logger.warn(facts, `the leader does not record when sessions were last used: ${result.message}`);
      return "refused";
    } catch (error) {
      if (!(error instanceof BrokerUnavailableError))
        logger.error({ err: error }, "could not report when sessions were last used; trying again");
      return "unavailable";
    }
  }

  function tick(): void {
    const { level } = replica.projection;
    if (
      !hasWarned &&
      parts.hasIdleLifetime() &&
      level < activityFrom &&
      replica.overdueMs(systemClock.monotonic()) <= 0
    ) {
      hasWarned = true;
      logger.warn(
        { level },
        `session_idle_lifetime needs cluster level ${activityFrom}: until then each node knows only its own requests, so people sign in again more often; run cardea cluster finalize`,
      );
    }
    const seen = activity.next(systemClock.monotonic());
    if (seen !== null) void send(seen);
  }

  const timer = setInterval(tick, tickMs);
  timer.unref();
  return {
    activity,
    async stop() {
      clearInterval(timer);
      const seen = activity.next(Number.POSITIVE_INFINITY as ReturnType<typeof systemClock.monotonic>);
      if (seen !== null) await send(seen);
    },
  };
}

function registerCounts(registry: Registry, activity: SessionActivity) {
  const registers = [registry];
  const labelNames = ["result"] as const;
  const reports = new Counter({
    name: "cardea_session_activity_reports_total",
    registers,
    labelNames,
    help: "Reports to the leader of when sessions were last used, by result: done, refused, or unavailable (sent again)",
  });
  const sessions = new Counter({
    name: "cardea_session_activity_reported_sessions_total",
    registers,
    labelNames,
    help: "Sessions in these reports, by result",
  });
  for (const result of results) {
    reports.inc({ result }, 0);
    sessions.inc({ result }, 0);
  }
  new Gauge({
    name: "cardea_session_activity_due",
    registers,
    help: "Sessions whose last use waits to be reported",
    collect() {
      this.set(activity.due);
    },
  });
  new Counter({
    name: "cardea_session_activity_dropped_total",
    registers,
    help: "Uses of sessions that were not reported because too many were due; the sessions may end early",
    collect() {
      this.reset();
      this.inc(activity.dropped);
    },
  });
  return { reports, sessions };
}
