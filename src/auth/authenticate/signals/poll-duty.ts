/**
 * Poll duty: a duty of the leader that fetches the events of the transmitters that are polled (RFC 8936).
 *
 * A token is acknowledged after the log has it. Should this process stop being the leader in between, the next leader
 * gets the token again, and the log recognizes its commands.
 */
import type { CommandRequest, CommandResult } from "../../../events/index.ts";
import { formatPollRequest, parsePollResponse, pollMethod, setError } from "../../shared-signals/index.ts";
import { unverifiedClaims } from "../credentials/token-text.ts";
import {
  noPolls,
  type PolledOutcome,
  type PollState,
  pollAnswered,
  pollFailed,
  pollHandled,
  pollRequestOf,
} from "./poll-rules.ts";
import { type ReceiverDeps, receiveSet, type SignalTransmitter } from "./signal-receiver.ts";
import { requireStream } from "./stream-management.ts";
import { TransmitterError } from "./transmitter-client.ts";

export type PollContext = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  leads: () => boolean;
  clock: Readonly<{ monotonic: () => number }>;
  signal: AbortSignal;
}>;

export type PollDeps = Omit<ReceiverDeps, "submit"> &
  Readonly<{
    transmitters: readonly SignalTransmitter[];
    /** Resolves after `ms`, or earlier if the signal aborts. */
    sleep: (ms: number, signal: AbortSignal) => Promise<void>;
    onPolled: (transmitter: string, result: "answered" | "failed") => void;
    runMsMax?: number;
  }>;

/** A run ends after this long, so that a changed configuration takes effect. */
const runMsMaxDefault = 30_000;
/** Transmitters hold a request that waits for events for at most about half a minute. */
const pollMsMax = 40_000;
const endpointMs = 600_000;
/** In a row: the log or the keys are out of reach, so the rest waits. One alone must not stop the others. */
const unavailableMax = 3;

/** Makes the function of one run. What is not yet acknowledged stays from run to run. */
export function createPollDuty(deps: PollDeps): (context: PollContext) => Promise<void> {
  const polled = deps.transmitters
    .filter(({ config }) => config.delivery === "poll")
    .map((each) => new PolledStream(deps, each));
  return async (context) => {
    const until = context.clock.monotonic() + (deps.runMsMax ?? runMsMaxDefault);
    await Promise.all(polled.map((stream) => stream.run(context, until)));
  };
}

class PolledStream {
  readonly #deps: PollDeps;
  readonly #transmitter: SignalTransmitter;
  #state: PollState = noPolls;
  #endpoint: Readonly<{ url: string; until: number }> | undefined;

  constructor(deps: PollDeps, transmitter: SignalTransmitter) {
    this.#deps = deps;
    this.#transmitter = transmitter;
  }

  async run(context: PollContext, until: number): Promise<void> {
    const { clock, signal } = context;
    while (!signal.aborted && context.leads()) {
      const now = clock.monotonic();
      if (now >= until) return;
      if (this.#state.notBefore > now) {
        await this.#deps.sleep(Math.min(this.#state.notBefore, until) - now, signal);
        continue;
      }
      await this.#poll(context);
    }
  }

  async #poll(context: PollContext): Promise<void> {
    const { clock, signal } = context;
    const { config, client } = this.#transmitter;
    const startedAt = clock.monotonic();
    const sent = pollRequestOf(this.#state);
    try {
      const url = await this.#endpointUrl(startedAt);
      const answer = await client.request("POST", url, { body: formatPollRequest(sent), timeoutMs: pollMsMax, signal });
      if (answer.status === 404 || answer.status === 410) this.#endpoint = undefined;
      const response = answer.status === 200 ? parsePollResponse(answer.body) : undefined;
      if (response === undefined)
        throw new TransmitterError("the answer to a poll is not one of RFC 8936, or is too large", {
          status: answer.status,
        });
      this.#state = pollAnswered(this.#state);
      this.#deps.onPolled(config.name, "answered");
      const outcomes = await this.#receiveAll(context, response.sets);
      this.#state = pollHandled(this.#state, outcomes, { sent, now: clock.monotonic(), startedAt });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof TransmitterError)) throw error;
      this.#state = pollFailed(this.#state, clock.monotonic());
      this.#deps.onPolled(config.name, "failed");
      const { message, status } = error;
      this.#deps.log.warn({ transmitter: config.name, status, message }, "could not poll a transmitter; trying again");
    }
  }

  async #receiveAll(context: PollContext, sets: ReadonlyMap<string, string>): Promise<readonly PolledOutcome[]> {
    const deps: ReceiverDeps = { ...this.#deps, submit: context.submit };
    const outcomes: PolledOutcome[] = [];
    let inRow = 0;
    for (const [jti, token] of sets) {
      if (context.signal.aborted || !context.leads()) return outcomes;
      if (unverifiedClaims(token)?.jti !== jti) {
        outcomes.push({ jti, type: "refused", error: setError("invalid_request", "jti is not that of the token") });
        continue;
      }
      const received = await receiveSet(deps, this.#transmitter, token);
      if (received.type === "refused") outcomes.push({ jti, type: "refused", error: received.error });
      else outcomes.push({ jti, type: received.type });
      inRow = received.type === "unavailable" ? inRow + 1 : 0;
      if (inRow >= unavailableMax) return outcomes;
    }
    return outcomes;
  }

  async #endpointUrl(now: number): Promise<string> {
    const { pollUrl } = this.#transmitter.config;
    if (pollUrl !== null) return pollUrl.href;
    if (this.#endpoint !== undefined && now < this.#endpoint.until) return this.#endpoint.url;
    const { delivery } = await requireStream(this.#transmitter);
    if (delivery.method !== pollMethod || delivery.endpoint_url === null)
      throw new TransmitterError("the stream has no address for polling", { status: null });
    this.#endpoint = { url: delivery.endpoint_url, until: now + endpointMs };
    return delivery.endpoint_url;
  }
}
