/** Network: the process that holds the links between a cluster's processes (links.ts), as faults use it. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startHelper } from "./helper-process.ts";
import type { Rule } from "./link-rules.ts";
import type { LinksOptions } from "./links.ts";

export type Network = Readonly<{
  ready: Promise<number>;
  /** Resolves once the rules are in force. They stay until `heal` with the same id. */
  breakLinks(id: string, rules: readonly Rule[]): Promise<void>;
  heal(id: string): Promise<void>;
  stop(): Promise<void>;
}>;

/** The network's process does nothing else, so a late answer means that it has ended. */
const answersWithinMs = 10_000;

export function startNetwork(options: LinksOptions, folder: string): Network {
  const helper = startHelper({
    name: "network",
    script: "cluster/links.ts",
    options,
    logFile: join(folder, "links.log"),
  });
  const waiting = new Map<string, () => void>();
  helper.onMessage((message) => {
    if (message.type === "links-set") waiting.get(message.id)?.();
  });

  async function untilSet(id: string, send: () => void): Promise<void> {
    const isSet = new Promise<"set">((resolve) => waiting.set(id, () => resolve("set")));
    send();
    const outcome = await Promise.race([isSet, delay(answersWithinMs, "late" as const, { ref: false })]);
    waiting.delete(id);
    if (outcome === "late") throw new Error("the network does not answer; see links.log");
  }

  return {
    ready: helper.ready,
    breakLinks: (id, rules) => untilSet(id, () => helper.send({ type: "break-links", id, rules })),
    heal: (id) => untilSet(id, () => helper.send({ type: "heal-links", id })),
    stop: () => helper.stop(2_000),
  };
}
