/** Recheck of a process: a share of the other nodes' decisions, decided again beside the requests. */
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Counter, type Registry } from "prom-client";
import { createRecheck, pastConfigurationOf, type Recheck, readStoredConfiguration } from "../../../audit/index.ts";
import type { Config } from "../../../config/index.ts";
import type { NodeId } from "../../../events/index.ts";
import { createRecordedRequestReader } from "../../../proxy/index.ts";
import type { Databroker, Logger } from "../../../replication/index.ts";
import type { ReplicaProcess } from "../../../replication/node/index.ts";
import { systemClock } from "../../../replication/runtime/index.ts";
import type { LoadedConfig } from "../load.ts";

const everyMs = 200;
const chanceOf = 2 ** 32;

/** Null: this process follows no audit stream, or the configuration wants no checks. */
export function startRecheck(
  config: Config,
  parts: Readonly<{
    node: NodeId;
    replica: ReplicaProcess;
    /** In the operator's role, which may read configurations. */
    databroker: Pick<Databroker, "history" | "configuration">;
    /** The configuration in force. */
    loaded: () => LoadedConfig;
    registry: Registry;
    logger: Logger;
    stops: (() => Promise<unknown>)[];
  }>,
): Recheck | null {
  const { recheckOneIn: oneIn, recheckPerSecond: perSecond, nats } = config.audit;
  if (oneIn === 0 || !nats || config.nats === null || !config.services.has("authenticate")) return null;
  const { databroker, logger, replica } = parts;
  const ending = new AbortController();
  let failing = false;
  const recheck = createRecheck({
    node: parts.node,
    rules: { oneIn, perSecond },
    random: () => randomInt(chanceOf) / chanceOf,
    monotonicMs: systemClock.monotonic,
    replica,
    linkAt: async (position) => (await databroker.history({ streams: [], upTo: position, depth: 1 })).at,
    async configuration(configHash) {
      const { config: own, policies } = parts.loaded();
      if (own.hash === configHash) return pastConfigurationOf(own, policies);
      const stored = await databroker.configuration(configHash);
      return stored === undefined ? undefined : readStoredConfiguration(stored);
    },
    readerOf: createRecordedRequestReader,
    onDifferent: (found) =>
      logger.error(
        found,
        "another node decided differently than its facts and its configuration say; explain the record with cardea audit explain",
      ),
    onFailure(error) {
      if (!failing && !ending.signal.aborted)
        logger.warn({ err: error }, "a recorded decision could not be checked; checking the next ones");
      failing = true;
    },
  });
  registerRecheckMetrics(parts.registry, recheck);
  void (async () => {
    for (;;) {
      await delay(everyMs, undefined, { signal: ending.signal, ref: false });
      await recheck.run();
    }
  })().catch((error: unknown) => {
    if (!ending.signal.aborted) logger.error({ err: error }, "recorded decisions are no longer checked");
  });
  // A check that waits for a broker must not hold up the end of the process.
  parts.stops.push(async () => ending.abort());
  return recheck;
}

function registerRecheckMetrics(registry: Registry, recheck: Recheck): void {
  const checked: Counter<"result"> = new Counter({
    name: "cardea_audit_rechecks_total",
    help: "Decisions of other nodes that this process decided again, by whether the answer was the same",
    labelNames: ["result"],
    registers: [registry],
    collect() {
      const { same, different } = recheck.counts();
      checked.reset();
      checked.inc({ result: "same" }, same);
      checked.inc({ result: "different" }, different);
    },
  });
  const skipped: Counter<"reason"> = new Counter({
    name: "cardea_audit_rechecks_skipped_total",
    help: "Chosen decisions that could not be decided again for certain, by reason",
    labelNames: ["reason"],
    registers: [registry],
    collect() {
      skipped.reset();
      for (const [reason, count] of Object.entries(recheck.counts().skipped)) skipped.inc({ reason }, count);
    },
  });
}
