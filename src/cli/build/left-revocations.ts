/**
 * Left revocations: what a broker accepted while it served another region, and the log does not have yet. A broker of
 * the home region that finds such a file submits what is in it until each is recorded, and then removes the file.
 *
 * Until the leader has answered each of them once, this broker grants and forwards no lease. Otherwise a node that
 * never heard of one could permit again what a receipt of its region calls ended (docs/protocol.md §6.4).
 */
import { existsSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { type Broker, openRevocationsFile } from "../../broker/index.ts";
import type { NodeId } from "../../events/index.ts";
import type { Databroker, Logger } from "../../replication/index.ts";
import { BrokerUnavailableError, mergeIdsOf, type SealedRevocation } from "../../replication/wire/index.ts";
import { revocationsPath } from "./region-revocations.ts";

/** Pauses (ms) while some have no answer, and while only refused ones are left, about which an operator decides. */
const againMs = { unanswered: 250, refused: 60_000 };
const recordFirst = "this broker first records what its region revoked while it was cut off";

/**
 * @returns the broker, which grants and forwards no lease while one of them has no answer. When it stops, what is not
 * recorded stays in the file.
 */
export function recordLeftRevocations(
  broker: Broker,
  { dataDir, node, logger }: Readonly<{ dataDir: string; node: NodeId; logger: Logger }>,
): Broker {
  const path = revocationsPath(dataDir, node);
  if (!existsSync(path)) return broker;
  const { stored } = openRevocationsFile({ path, initial: { store: "", windowMs: 0, drift: 0 } });
  const over = new AbortController();
  const unrecorded = new Set(stored.entries.map(({ sealed }) => sealed));
  const unanswered = new Set(unrecorded);
  if (unrecorded.size > 0)
    logger.warn({ count: unrecorded.size }, "recording what this broker's region had revoked by itself");

  async function submitAll(): Promise<void> {
    while (unrecorded.size > 0 && !over.signal.aborted) {
      for (const sealed of unrecorded) {
        const answer = await record(broker.databroker("broker"), sealed, logger);
        if (answer !== "none") unanswered.delete(sealed);
        if (answer === "recorded") unrecorded.delete(sealed);
      }
      if (unrecorded.size === 0) break;
      const pauseMs = unanswered.size > 0 ? againMs.unanswered : againMs.refused;
      await delay(pauseMs, undefined, { signal: over.signal, ref: false }).catch(() => {});
    }
    if (unrecorded.size === 0) rmSync(path, { force: true });
  }

  const done = submitAll().catch((error: unknown) => {
    logger.error({ err: error, path }, "could not record what this broker had revoked for another region; restart it");
  });
  const recordingFirst = (databroker: Databroker): Databroker => ({
    ...databroker,
    async lease(envelope) {
      if (unanswered.size > 0) throw new BrokerUnavailableError(recordFirst);
      return databroker.lease(envelope);
    },
    async status(options) {
      const status = await databroker.status(options);
      return { ...status, broker: { ...status.broker, localUnmerged: unrecorded.size } };
    },
  });
  return {
    ...broker,
    metrics: () => ({ ...broker.metrics(), localUnmerged: unrecorded.size }),
    databroker: (role) => recordingFirst(broker.databroker(role)),
    databrokerFor: (callOrigin) => recordingFirst(broker.databrokerFor(callOrigin)),
    async stop() {
      over.abort();
      await Promise.all([broker.stop(), done]);
    },
  };
}

/** `none`: no leader has answered. */
async function record(
  databroker: Databroker,
  sealed: SealedRevocation,
  logger: Logger,
): Promise<"recorded" | "refused" | "none"> {
  const { envelope, revocation } = sealed;
  const { actor } = revocation;
  const command = { type: "mergeRevocation", envelope } as const;
  const [own, other] = mergeIdsOf(sealed);
  let reason = "";
  for (const commandId of [own, other]) {
    const result = await databroker.submit({ commandId, actor, command });
    if (result.type === "done") {
      // The id of a command that revokes sessions may mean another change. The other id revokes what is still active.
      if (commandId === other || revocation.command === "suspendUser") return "recorded";
      continue;
    }
    if (result.type === "unavailable") return "none";
    reason = result.message;
    if (result.code !== "conflict") break; // else its command id may mean another change
  }
  const fields = { commandId: own, reason };
  logger.error(fields, "the leader does not record a revocation of a cut-off region; an operator must decide");
  return "refused";
}
