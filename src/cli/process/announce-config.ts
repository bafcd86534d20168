/**
 * Configuration announcer: records in the log which configuration this node runs, and stores its text once per hash.
 *
 * - Nothing waits for it: without a broker the node serves all the same.
 * - It offers the text, without secrets, only if the store lacks it, so a thousand nodes send it about once.
 * - It checks again from time to time: an older broker does not store texts, and a restored backup may be older.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type Config, canonicalConfig } from "../../config/index.ts";
import {
  type ActivateConfiguration,
  type ConfigBody,
  ConfigBodyTooLongError,
  type NodeId,
  packConfigBody,
  parseCommandId,
} from "../../events/index.ts";
import type { Databroker, Logger } from "../../replication/index.ts";
import { upTo } from "../../replication/runtime/index.ts";

const replaced = "replaced";
const stopping = "stopping";
const retryMs = 5_000;
/** Spreads the checks of nodes that get a configuration at the same time. */
const spreadMs = 1_000;
/**
 * Time until the next check, plus up to half as much again: if a broker has the text (`known`), or no broker could tell
 * (`unknown`). A refused activation is also submitted again after `unknown`.
 */
const recheckMsDefault = { known: 600_000, unknown: 30_000 };

export type AnnouncementDeps = Readonly<{
  node: NodeId;
  logger: Logger;
  databroker: Pick<Databroker, "submit" | "holdsConfiguration">;
  recheckMs?: typeof recheckMsDefault;
}>;

/** @returns announces a configuration until it is recorded or replaced; null stops */
export function announceConfigurations(deps: AnnouncementDeps): (config: Config | null) => void {
  const { node: nodeId, logger } = deps;
  const pauseMs = deps.recheckMs ?? recheckMsDefault;
  let current = new AbortController();
  /** Announces one after the other, so that the log never records a replaced configuration after its successor. */
  let last: Promise<void> = Promise.resolve();

  async function announce(config: Config, signal: AbortSignal): Promise<void> {
    if (signal.reason === stopping) return;
    const activation = { type: "activateConfiguration", nodeId, configHash: config.hash } as const;
    if (!(await submitUntilRecorded(activation, signal))) return;
    await pause(upTo(spreadMs, randomBytes), signal);
    let offered = false;
    // Checks once even after it was replaced: nodes have decided by it.
    for (let checks = 0; !signal.aborted || (checks === 0 && signal.reason === replaced); checks++) {
      const stored = await deps.databroker.holdsConfiguration(config.hash).catch(() => undefined);
      if (stored === false) {
        if (offered) {
          const remedy = 'see docs/operations.md, "What a configuration said"';
          logger.warn(
            { configHash: config.hash },
            `the brokers did not store the text of the configuration; ${remedy}`,
          );
        } else {
          const body = bodyOf(config);
          if (body === null) return;
          const outcome = await submit({ ...activation, body }, signal);
          if (outcome === "given up") return;
          offered = true;
          if (outcome === "done") continue; // checks that it was stored
        }
      }
      const ms = stored === undefined ? pauseMs.unknown : pauseMs.known;
      await pause(ms + upTo(ms / 2, randomBytes), signal);
      offered = false;
    }
  }

  function bodyOf(config: Config): ConfigBody | null {
    try {
      return packConfigBody(canonicalConfig(config));
    } catch (error) {
      if (!(error instanceof ConfigBodyTooLongError)) throw error;
      const { code, message } = error;
      logger.warn({ code, configHash: config.hash }, `cannot store the text of the configuration: ${message}`);
      return null;
    }
  }

  /**
   * Repeats after a refusal: the leader accepts commands of a regional broker only while that broker holds a lease.
   * @returns false: the configuration is no longer in force
   */
  async function submitUntilRecorded(activation: ActivateConfiguration, signal: AbortSignal): Promise<boolean> {
    for (;;) {
      const outcome = await submit(activation, signal);
      if (outcome !== "refused") return outcome === "done";
      await pause(pauseMs.unknown + upTo(pauseMs.unknown / 2, randomBytes), signal);
      if (signal.aborted) return false;
    }
  }

  async function submit(command: ActivateConfiguration, signal: AbortSignal): Promise<"done" | "refused" | "given up"> {
    const request = { commandId: parseCommandId(randomUUID()), actor: `service:${nodeId}`, command };
    for (let warned = false; ; warned = true) {
      const result = await deps.databroker
        .submit(request)
        .catch((error: unknown) => ({ type: "failed", message: String(error) }) as const);
      if (result.type === "done") return "done";
      const facts = { result: result.type, reason: result.message };
      if (result.type === "refused") {
        logger.warn(facts, "the brokers refused to record the active configuration; trying again later");
        return "refused";
      }
      if (!warned) logger.warn(facts, "cannot record the active configuration in the log yet; trying again");
      await pause(retryMs, signal);
      if (signal.aborted) return "given up";
    }
  }

  return (config) => {
    current.abort(config === null ? stopping : replaced);
    current = new AbortController();
    if (config === null) return;
    const { signal } = current;
    last = last.then(() => announce(config, signal));
  };
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal, ref: false }).catch(() => undefined);
}
