/**
 * Signal receiver: what becomes of a security event token, on either way of delivery.
 *
 * A token is accepted once its commands are in the log, and never before. A repeated token is the same commands, so it
 * is accepted again and does nothing. What cannot be recorded now is neither accepted nor refused.
 */
import type { SignalTransmitterConfig } from "../../../config/index.ts";
import type { CommandRequest, CommandResult, Link, UserId } from "../../../events/index.ts";
import { type SetError, type SignalEventName, setError } from "../../shared-signals/index.ts";
import { verifySet } from "./set-verifier.ts";
import { type PlannedCommand, planSignal, type TransmitterRules } from "./signal-plan.ts";
import type { TransmitterClient } from "./transmitter-client.ts";
import { isVerificationState } from "./verification-state.ts";

/** A configured transmitter, with everything that its tokens need. */
export type SignalTransmitter = Readonly<{
  config: SignalTransmitterConfig;
  rules: TransmitterRules;
  client: TransmitterClient;
}>;

export type ReceivedSet = Readonly<
  /** `link`: of the newest command; null: the records are erased, so nothing was recorded. */
  | { type: "accepted"; jti: string; link: Link | null; records: readonly UserId[] }
  | { type: "refused"; error: SetError }
  /** Not recorded; the transmitter must send it again. */
  | { type: "unavailable"; message: string }
>;

/** `event`: the short name, or `unknown`. `result`: what became of the token, or the code of its refusal. */
export type CountSignal = (counted: Readonly<{ transmitter: string; event: string; result: string }>) => void;

export type ReceiverDeps = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  nowMs: () => number;
  /** Keys of verification states. */
  stateKeys: readonly Uint8Array[];
  onReceived: CountSignal;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

export const signalActor = (transmitter: string): string => `service:signals/${transmitter}`;

export async function receiveSet(
  deps: ReceiverDeps,
  transmitter: SignalTransmitter,
  token: string,
): Promise<ReceivedSet> {
  const { config, rules, client } = transmitter;
  const nowMs = deps.nowMs();
  const verified = await verifySet(token, config, { client, nowMs });
  if (verified.type === "unavailable") return unavailable(deps, config.name, verified.message);
  if (verified.type === "error") return refused(deps, config.name, verified.error);
  const { event, criticalMembers } = verified;
  const { state } = event.payload;
  if (event.name === "verification" && state !== undefined && state !== null) {
    const keys = { keys: deps.stateKeys, transmitter: config.name };
    if (!isVerificationState(keys, state, nowMs))
      return refused(deps, config.name, setError("invalid_state", "state is not that of a request, or is too old"));
  }
  const planned = planSignal(event, rules, criticalMembers);
  if (planned === undefined)
    return refused(deps, config.name, setError("invalid_request", "the subject has too many identifiers"));
  return submitPlan(deps, transmitter, { jti: event.jti, name: event.name, planned });
}

async function submitPlan(
  deps: ReceiverDeps,
  { config: { name } }: SignalTransmitter,
  signal: Readonly<{ jti: string; name: SignalEventName | null; planned: readonly PlannedCommand[] }>,
): Promise<ReceivedSet> {
  const { jti, planned } = signal;
  let newest: Link | null = null;
  for (const { commandId, command } of planned) {
    const result = await deps.submit({ commandId, actor: signalActor(name), command });
    if (result.type !== "done") {
      if (result.type === "unavailable") return unavailable(deps, name, result.message);
      if (result.code !== "erased") return unavailable(deps, name, result.message);
      deps.log.warn(
        { transmitter: name, commandId },
        "the record of a signal's subject is erased; the signal does nothing",
      );
      continue;
    }
    if (newest === null || result.link.position > newest.position) newest = result.link;
    const { event, action, recordId } = command;
    const facts = { transmitter: name, event, action, recordId, commandId, position: result.link.position };
    deps.log.info(facts, "signal received");
  }
  // Names of unknown events come from outside, and must not become labels of metrics.
  deps.onReceived({ transmitter: name, event: signal.name ?? "unknown", result: "accepted" });
  return { type: "accepted", jti, link: newest, records: planned.map(({ command }) => command.recordId) };
}

function unavailable(deps: ReceiverDeps, transmitter: string, message: string): ReceivedSet {
  deps.onReceived({ transmitter, event: "unknown", result: "unavailable" });
  deps.log.warn({ transmitter, message }, "a signal cannot be recorded now; the transmitter must send it again");
  return { type: "unavailable", message };
}

function refused(deps: ReceiverDeps, transmitter: string, error: SetError): ReceivedSet {
  deps.onReceived({ transmitter, event: "unknown", result: error.err });
  deps.log.warn({ transmitter, err: error.err, description: error.description }, "a signal is refused");
  return { type: "refused", error };
}
