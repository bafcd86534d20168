/**
 * Announcement: the log records which node runs which configuration, and what that says is kept once for each hash. Nothing waits for
 * it: without a broker the node serves all the same.
 *
 * The body, without its secrets, is offered only where it is missing, so a thousand nodes with one configuration send it about once.
 * That is looked at again every now and then for as long as the configuration is in force: a broker of an older version does not keep
 * it, and a backup that was restored may be older than it.
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
import { type Databroker, type Logger, upTo } from "../../replication/index.ts";

const replaced = "replaced";
const stopping = "stopping";
const retryMs = 5_000;
/** Nodes that were given a configuration at once look for its body one after the other. */
const spreadMs = 1_000;
/**
 * Until the body is looked for again, and up to half as much more: where a broker holds it, and where no broker could tell. A refused
 * activation is submitted again after `unknown`.
 */
const recheckMsDefault = { known: 600_000, unknown: 30_000 };

export type AnnouncementDeps = Readonly<{
  node: NodeId;
  logger: Logger;
  databroker: Pick<Databroker, "submit" | "holdsConfiguration">;
  recheckMs?: typeof recheckMsDefault;
}>;

/** Says it until somebody has taken it, or another one is in force. @returns says that one from now on, and null nothing */
export function announceConfigurations(deps: AnnouncementDeps): (config: Config | null) => void {
  const { node: nodeId, logger } = deps;
  const pauseMs = deps.recheckMs ?? recheckMsDefault;
  let current = new AbortController();
  /** One after the other: the log must not hear of one that is over behind the one that is in force. */
  let last: Promise<void> = Promise.resolve();

  async function announce(config: Config, signal: AbortSignal): Promise<void> {
    if (signal.reason === stopping) return;
    const activation = { type: "activateConfiguration", nodeId, configHash: config.hash } as const;
    if (!(await submitUntilRecorded(activation, signal))) return;
    await pause(upTo(spreadMs, randomBytes), signal);
    let offered = false;
    // Once also of one that is over already: decisions were made by it.
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
          if (outcome === "done") continue; // was it kept?
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
   * A refusal may pass: the leader takes what a regional broker forwards only while that broker holds a lease.
   * @returns false: the configuration is not in force any more
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
