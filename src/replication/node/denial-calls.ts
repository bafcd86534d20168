/**
 * Denial calls: carries out what the node core requests about the revocations that its region accepted by itself: reads
 * from a broker, the node's own file, and submissions to the leader.
 */
import type { Databroker } from "../databroker.ts";
import type { Logger } from "../runtime/logger.ts";
import type { EnvelopeOpener } from "../wire/broker-opener.ts";
import type { SealedRevocation } from "../wire/local-revocation.ts";
import { denialsAnswer, mergeAnswer } from "./broker-answers.ts";
import type { DenialsAnswer, MergeAnswer, NodeEffect, NodeInput } from "./messages.ts";

/** The node's own file (local-denials-file.ts). */
export type LocalDenialsFile = Readonly<{
  load(): Promise<readonly SealedRevocation[]>;
  write(sealed: readonly SealedRevocation[]): Promise<void>;
}>;

type DenialEffect = Extract<NodeEffect, { type: "readDenials" | "keepLocalDenials" | "submitRevocation" }>;
type WithoutMoment<Input> = Input extends NodeInput ? Omit<Input, "at"> : never;
type DenialInput = WithoutMoment<
  Extract<NodeInput, { type: "denialsAnswered" | "localDenialsKept" | "revocationSubmitted" }>
>;

export type DenialCalls = Readonly<{
  /** The revocations on this node's own disk. */
  load(): Promise<readonly SealedRevocation[]>;
  perform(effect: DenialEffect): void;
  /** The answer to this request no longer matters. */
  cancel(id: number): void;
}>;

/**
 * @param deps.file null: without a data folder there is nothing that a restart could read, and the next boot gets no
 * lease before it has them again
 */
export function createDenialCalls(
  deps: Readonly<{
    databroker: Databroker;
    file: LocalDenialsFile | null;
    open: EnvelopeOpener;
    logger: Logger;
    arrive: (fact: DenialInput) => void;
  }>,
): DenialCalls {
  const { databroker, file, open, logger, arrive } = deps;
  const reads = new Map<number, AbortController>();

  async function read({ id, after, waitMs }: Extract<DenialEffect, { type: "readDenials" }>): Promise<DenialsAnswer> {
    if (databroker.denials === undefined) return { type: "none" };
    const own = new AbortController();
    reads.set(id, own);
    try {
      return denialsAnswer(await databroker.denials(after, { waitMs, signal: own.signal }), open);
    } catch (error) {
      return { type: "failed", error };
    } finally {
      reads.delete(id);
    }
  }

  async function keep(sealed: readonly SealedRevocation[]): Promise<"kept" | "failed"> {
    try {
      await file?.write(sealed);
      return "kept";
    } catch (error) {
      logger.error({ err: error }, "could not save local revocations to disk; this node does not confirm them");
      return "failed";
    }
  }

  async function submit({
    commandId,
    sealed,
  }: Extract<DenialEffect, { type: "submitRevocation" }>): Promise<MergeAnswer> {
    const command = { type: "mergeRevocation", envelope: sealed.envelope } as const;
    try {
      return mergeAnswer(await databroker.submit({ commandId, actor: sealed.revocation.actor, command }));
    } catch (error) {
      logger.warn({ err: error, commandId }, "could not bring a local revocation to the log yet");
      return { type: "failed" };
    }
  }

  return {
    load: async () => (await file?.load()) ?? [],
    cancel: (id) => reads.get(id)?.abort(new Error("given up")),
    perform(effect) {
      const { id } = effect;
      switch (effect.type) {
        case "readDenials":
          void read(effect).then((answer) => arrive({ type: "denialsAnswered", id, answer }));
          return;
        case "keepLocalDenials":
          void keep(effect.sealed).then((outcome) => arrive({ type: "localDenialsKept", id, outcome }));
          return;
        case "submitRevocation":
          void submit(effect).then((answer) => arrive({ type: "revocationSubmitted", id, answer }));
      }
    },
  };
}
