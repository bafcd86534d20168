/**
 * Region local: carries out the effects of the region core that concern local revocations, and turns calls of
 * operators, nodes and other brokers into its inputs. It decides nothing.
 */
import type { CommandId, CommandRequest, Link } from "../../events/index.ts";
import type {
  Databroker,
  DenialsOutcome,
  LocalReceipt,
  LocalReceiptOutcome,
  LocalResult,
  Logger,
} from "../../replication/index.ts";
import {
  BrokerUnavailableError,
  deniedStreams,
  type EnvelopeOpener,
  encodeRevocation,
  type LocalCommand,
  type LocalReceiptStatement,
  localCommands,
  openRevocation,
  type Signer,
  type StorePosition,
  sealEnvelope,
  stateLocalReceipt,
} from "../../replication/wire/index.ts";
import type {
  DenialsPage,
  LocalAnswer,
  LocalReceiptAnswer,
  LocalReceiptState,
  PeerAnswer,
  PeerQuestion,
} from "./local-messages.ts";
import { formatQuestion, openAll, parseAnswer, parseQuestion } from "./peer-wire.ts";
import type { HomeAnswer, HomeQuestion, RegionEffect, RegionFact } from "./region-messages.ts";
import type { RevocationsFile } from "./revocations-file.ts";

/** Calls to the other brokers of the region. */
export type RegionPeerCalls = Readonly<{
  /** @throws BrokerUnavailableError */
  exchange(address: string, question: object): Promise<unknown>;
}>;

export type RegionLocalParts = Readonly<{
  cluster: string;
  broker: string;
  file: RevocationsFile;
  peers: RegionPeerCalls;
  signer: Signer;
  openBroker: EnvelopeOpener;
  signReceipt: (statement: LocalReceiptStatement) => Promise<string>;
  logger: Logger;
  feed: (fact: RegionFact) => void;
  nextId: () => number;
}>;

export type LocalEffect = Extract<
  RegionEffect,
  {
    type:
      | "answerLocal"
      | "signRevocation"
      | "keepRevocations"
      | "askPeer"
      | "answerPeer"
      | "answerDenials"
      | "answerLocalReceipt";
  }
>;

type Waiters<T> = Map<number, (answer: T) => void>;

export class RegionLocal {
  readonly #parts: RegionLocalParts;
  readonly #commands: Waiters<LocalAnswer> = new Map();
  readonly #questions: Waiters<PeerAnswer | Readonly<{ failed: string }>> = new Map();
  readonly #reads: Waiters<Readonly<{ page: DenialsPage }> | Readonly<{ failed: string }>> = new Map();
  readonly #receipts: Waiters<LocalReceiptAnswer> = new Map();

  constructor(parts: RegionLocalParts) {
    this.#parts = parts;
  }

  /** A command that only tightens, and that home cannot answer. */
  async submit({
    commandId,
    actor,
    command,
  }: CommandRequest & Readonly<{ command: LocalCommand }>): Promise<LocalResult> {
    const answer = await this.#ask(this.#commands, (id) => ({
      type: "localAsked",
      id,
      request: { commandId, actor, command },
    }));
    switch (answer.type) {
      case "local": {
        const { region, broker, seq, basis, acceptedAt } = answer.revocation;
        const ids = deniedStreams(answer.revocation).length;
        this.#parts.logger.warn({ commandId, actor, seq, ids }, "accepted a revocation in this region only");
        return { type: "local", commandId, region, broker, seq, basis, ids, at: acceptedAt };
      }
      case "refused":
        return { ...answer, commandId };
      case "unavailable":
        return { ...answer, commandId };
    }
  }

  /** A question of another broker of the region. @throws MalformedMessageError, BrokerUnavailableError */
  async exchange(value: unknown): Promise<PeerAnswer> {
    const question = parseQuestion(value, this.#parts.openBroker);
    const answer = await this.#ask(this.#questions, (id) => ({ type: "peerAsked", id, question }));
    if ("failed" in answer) throw new BrokerUnavailableError(`this broker ${answer.failed}`);
    return answer;
  }

  /** @throws BrokerUnavailableError */
  async denials(
    after: StorePosition | null,
    { waitMs, signal }: Readonly<{ waitMs: number; signal?: AbortSignal }>,
  ): Promise<DenialsOutcome> {
    const answer = await this.#ask(this.#reads, (id) => {
      signal?.addEventListener("abort", () => this.#parts.feed({ type: "denialsGivenUp", id }), { once: true });
      const { store, seq } = after ?? { store: null, seq: 0 };
      return { type: "denialsAsked", id, store, after: seq, waitMs: signal?.aborted === true ? 0 : waitMs };
    });
    if ("failed" in answer) throw new BrokerUnavailableError(`this broker ${answer.failed}`);
    const { store, upTo, entries, more } = answer.page;
    return { type: "page", store, upTo, envelopes: entries.map(({ sealed }) => sealed.envelope), more };
  }

  async receipt(commandId: CommandId, timeoutMs: number): Promise<LocalReceiptOutcome> {
    const answer = await this.#ask(this.#receipts, (id) => ({ type: "localReceiptAsked", id, commandId, timeoutMs }));
    return answer.type === "receipt" ? { type: "receipt", receipt: await this.#signed(answer.receipt) } : answer;
  }

  /** A node has submitted a revocation from its disk. @returns whether its envelope is authentic */
  brought(envelope: Uint8Array): boolean {
    const sealed = openRevocation(envelope, this.#parts.openBroker);
    if (typeof sealed === "string") return false;
    this.#parts.feed({ type: "revocationBrought", sealed });
    return true;
  }

  perform(effect: LocalEffect): void {
    switch (effect.type) {
      case "answerLocal":
        answer(this.#commands, effect.id, effect.answer);
        return;
      case "answerPeer":
        answer(this.#questions, effect.id, effect.answer);
        return;
      case "answerDenials":
        answer(this.#reads, effect.id, effect.answer);
        return;
      case "answerLocalReceipt":
        answer(this.#receipts, effect.id, effect.answer);
        return;
      case "signRevocation": {
        const envelope = sealEnvelope(this.#parts.signer, "local-revocation", encodeRevocation(effect.revocation));
        this.#parts.feed({ type: "revocationSigned", id: effect.id, envelope });
        return;
      }
      case "keepRevocations":
        this.#keep(effect);
        return;
      case "askPeer":
        void this.#askPeer(effect.id, effect.address, effect.question);
    }
  }

  #keep({ stored, keys }: Extract<LocalEffect, { type: "keepRevocations" }>): void {
    const { feed, file, logger } = this.#parts;
    try {
      file.write(stored);
    } catch (error) {
      logger.error({ err: error }, "the revocations of this region cannot be written; accepting none");
      feed({ type: "revocationsNotKept", reason: error instanceof Error ? error.message : String(error) });
      return;
    }
    feed({ type: "revocationsKept", keys, windowMs: stored.windowMs, drift: stored.drift });
  }

  async #askPeer(id: number, address: string, question: PeerQuestion): Promise<void> {
    const { feed, peers, openBroker, logger } = this.#parts;
    try {
      const received = parseAnswer(await peers.exchange(address, formatQuestion(question)));
      feed({ type: "peerAnswered", id, answer: received, lacking: openAll(received.lacking, openBroker) });
    } catch (error) {
      logger.debug({ err: error, address }, "another broker of this region did not answer");
      feed({ type: "peerAnswered", id, answer: { failed: "cannot be reached" }, lacking: [] });
    }
  }

  async #signed(state: LocalReceiptState): Promise<LocalReceipt> {
    const { cluster, broker: answeredBy, signReceipt } = this.#parts;
    const { revocation, stored: _, ...rest } = state;
    const { region, commandId, broker, seq, basis, acceptedAt } = revocation;
    const completeInMs = Math.max(0, ...state.nodes.map(({ fencedInMs }) => fencedInMs));
    const receipt = {
      ...rest,
      scope: "region",
      region,
      commandId,
      broker,
      seq,
      basis,
      acceptedAt,
      completeInMs,
    } as const;
    return { ...receipt, signed: await signReceipt(stateLocalReceipt(receipt, { cluster, answeredBy, revocation })) };
  }

  #ask<T>(waiters: Waiters<T>, factOf: (id: number) => RegionFact): Promise<T> {
    const id = this.#parts.nextId();
    return new Promise((resolve) => {
      waiters.set(id, resolve);
      this.#parts.feed(factOf(id));
    });
  }
}

/** Submits a revocation to the leader. */
export async function submitMerge(
  home: Databroker,
  { commandId, actor, envelope }: Extract<HomeQuestion, { op: "merge" }>,
): Promise<HomeAnswer> {
  const result = await home.submit({ commandId, actor, command: { type: "mergeRevocation", envelope } });
  switch (result.type) {
    case "done":
      return { type: "merged", link: result.link satisfies Link };
    case "refused":
      return {
        type: "mergeRefused",
        code: result.code === "conflict" ? "other-change" : "refused",
        message: result.message,
      };
    default:
      return { type: "unavailable", error: new BrokerUnavailableError("the leader has not recorded it yet") };
  }
}

/** Whether a region may accept this command by itself. */
export function isLocalCommand(
  request: CommandRequest,
): request is CommandRequest & Readonly<{ command: LocalCommand }> {
  return localCommands.some((type) => type === request.command.type);
}

function answer<T>(waiters: Waiters<T>, id: number, given: T): void {
  const resolve = waiters.get(id);
  waiters.delete(id);
  resolve?.(given);
}
