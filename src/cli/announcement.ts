/** Announcement: the log records which node runs which configuration. Nothing waits for it: without a broker the node serves all the same. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type ConfigHash, type NodeId, parseCommandId } from "../events/index.ts";
import type { Databroker, Logger } from "../replication/index.ts";

const againMs = 5_000;

/** Says it until somebody has taken it, or another one is in force. @returns says that one from now on, and null nothing */
export function announceConfigurations(
  who: Readonly<{ node: NodeId; logger: Logger; databroker: Databroker }>,
): (hash: ConfigHash | null) => void {
  let current = new AbortController();

  async function announce(configHash: ConfigHash, signal: AbortSignal): Promise<void> {
    const request = {
      commandId: parseCommandId(randomUUID()),
      actor: `service:${who.node}`,
      command: { type: "activateConfiguration", nodeId: who.node, configHash } as const,
    };
    for (let warned = false; !signal.aborted; warned = true) {
      const result = await who.databroker
        .submit(request)
        .catch((error: unknown) => ({ type: "failed", message: String(error) }) as const);
      if (result.type === "done") return;
      const facts = { result: result.type, reason: result.message };
      if (result.type === "refused") {
        who.logger.warn(facts, "the configuration's activation is not in the log");
        return;
      }
      if (!warned) who.logger.warn(facts, "the configuration's activation is not in the log yet");
      await delay(againMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  return (hash) => {
    current.abort();
    current = new AbortController();
    if (hash !== null) void announce(hash, current.signal);
  };
}
