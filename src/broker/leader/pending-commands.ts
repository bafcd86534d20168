/**
 * Pending commands: the commands with a waiting caller, from their arrival until their outcome is certain.
 *
 * It outlives epochs: what was under way when one ended is carried into the next, or given to whoever leads then. One
 * command id is carried out once, however often it is sent meanwhile: the second caller gets the first one's answer. Bounded
 * by number and bytes; a caller that has waited too long is told to ask again, which is neither success nor failure. Pure.
 */
import type { CommandId, CommandRequest, CommandResult, MonotonicMs } from "../../events/index.ts";
import { accessOf, isTightening } from "../commands/catalog.ts";
import type { CommandWaiter, QueuedCommand } from "../core/internal-messages.ts";
import type { CommandAnswer, Leadership } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { growingCache } from "../state/growing-cache.ts";
import { CommandQueue } from "./command-queue.ts";

type OpenCommand = {
  readonly queued: QueuedCommand;
  readonly waiters: CommandWaiter[];
  /** `unresolved`: it was in a batch of which nobody knows whether it was written. */
  state: "queued" | "taken" | "unresolved";
  /** Batches it was in that came to nothing. */
  attempts: number;
};

const answersMax = 20_000;
const retryAfterMs = 1_000;
/** How often those who wait are looked at. */
const expireEveryMs = 100;

export class PendingCommands {
  readonly #context: StepContext;
  readonly #state: BrokerState;
  readonly #queue: CommandQueue;
  readonly #open = new Map<CommandId, OpenCommand>();
  readonly #callers = new Map<number, Readonly<{ commandId: CommandId; waiter: CommandWaiter }>>();
  /** First answers, so that a repeated id gets the same one. */
  readonly #answers = growingCache<CommandId, CommandResult>(answersMax);
  #order = 0;
  #expireAt = Number.POSITIVE_INFINITY;

  constructor(context: StepContext, state: BrokerState, bounds: Readonly<{ commandsMax?: number; bytesMax?: number }>) {
    this.#context = context;
    this.#state = state;
    this.#queue = new CommandQueue({
      commandsMax: bounds.commandsMax ?? 10_000,
      bytesMax: bounds.bytesMax ?? 64 * 1024 * 1024,
    });
  }

  /** Commands waiting for a batch. */
  get waiting(): number {
    return this.#queue.size;
  }
  /** Commands without an outcome. */
  get open(): number {
    return this.#open.size;
  }

  /** @param onlyIn the command is carried out under this leadership or not at all */
  submit(request: CommandRequest, waiter: CommandWaiter, onlyIn: Leadership | null = null): void {
    const { commandId } = request;
    const answer = this.#answers.get(commandId);
    if (answer !== undefined) return this.#notify(waiter, commandId, answer);
    const open = this.#open.get(commandId) ?? this.#admit(request, onlyIn);
    if (open === undefined)
      return this.#notify(waiter, commandId, unavailable(commandId, "too many commands are waiting"));
    open.waiters.push(waiter);
    if (waiter.type !== "caller") return;
    this.#callers.set(waiter.id, { commandId, waiter });
    this.#expireAt = Math.min(this.#expireAt, waiter.deadline, this.#context.now + expireEveryMs);
  }

  /** The answer that a command was given. */
  answerOf(commandId: CommandId): CommandResult | undefined {
    return this.#answers.get(commandId);
  }

  /** @returns false when nobody waits for such a command: then there will be no answer */
  join(commandId: CommandId, waiter: CommandWaiter): boolean {
    const open = this.#open.get(commandId);
    open?.waiters.push(waiter);
    return open !== undefined;
  }

  /** A caller does not wait any more. */
  giveUp(id: number): void {
    const caller = this.#callers.get(id);
    if (caller === undefined) return;
    this.#callers.delete(id);
    const open = this.#open.get(caller.commandId);
    if (open === undefined) return;
    const index = open.waiters.indexOf(caller.waiter);
    if (index >= 0) open.waiters.splice(index, 1);
    if (open.waiters.length > 0 || open.state !== "queued") return;
    if (this.#queue.remove(open.queued)) this.#open.delete(caller.commandId);
  }

  get dueAt(): number {
    return this.#callers.size === 0 ? Number.POSITIVE_INFINITY : this.#expireAt;
  }

  /** Tells those whose time is up. */
  expire(store: "reachable" | "unreachable"): void {
    const { now } = this.#context;
    if (this.#callers.size === 0 || now < this.#expireAt) return;
    this.#expireAt = now + expireEveryMs;
    for (const [id, { commandId, waiter }] of this.#callers) {
      if (waiter.type !== "caller") continue;
      if (now < waiter.deadline && (store === "reachable" || now < waiter.deadlineIfUnreachable)) {
        this.#expireAt = Math.min(this.#expireAt, waiter.deadline);
        continue;
      }
      this.giveUp(id);
      this.#notify(waiter, commandId, unavailable(commandId, "the event log did not answer in time"));
    }
  }

  take(max: number): readonly QueuedCommand[] {
    const commands = this.#queue.take(max);
    for (const queued of commands) this.#mark(queued, "taken");
    return commands;
  }

  requeue(commands: readonly QueuedCommand[]): void {
    const open = commands.filter((queued) => this.#open.get(queued.request.commandId)?.queued === queued);
    for (const queued of open) this.#mark(queued, "queued");
    this.#queue.requeue(open);
  }

  /** Their batch may or may not have been written: they wait until that is known. */
  markUnresolved(commands: readonly QueuedCommand[]): void {
    for (const queued of commands) this.#mark(queued, "unresolved");
  }

  /** Another epoch is open, perhaps of a log that has lost some of what was answered: the log itself remembers the rest. */
  forgetAnswers(): void {
    this.#answers.clear();
  }

  /** To be asked while nobody leads: then those that were taken belong to a leader that failed over them. */
  unresolved(): readonly QueuedCommand[] {
    return [...this.#open.values()].filter(({ state }) => state !== "queued").map(({ queued }) => queued);
  }

  /** One more batch of this command came to nothing. */
  countAttempt(queued: QueuedCommand): number {
    const open = this.#open.get(queued.request.commandId);
    if (open === undefined) return 0;
    open.attempts += 1;
    return open.attempts;
  }

  answer(queued: QueuedCommand, result: CommandResult): void {
    const { commandId } = queued.request;
    if (result.type !== "unavailable") this.#answers.set(commandId, result);
    const open = this.#open.get(commandId);
    this.#open.delete(commandId);
    for (const waiter of open?.waiters ?? []) this.#notify(waiter, commandId, result);
  }

  answerUnavailable(queued: QueuedCommand, message: string): void {
    this.answer(queued, unavailable(queued.request.commandId, message));
  }

  /** We do not lead: everything without an outcome goes to whoever does. First answers may be of a lost suffix: forgotten. */
  redirectAll(): void {
    this.#queue.take(Number.POSITIVE_INFINITY);
    const open = [...this.#open];
    this.#open.clear();
    this.#answers.clear();
    for (const [commandId, { waiters }] of open)
      for (const waiter of waiters) this.#notify(waiter, commandId, { type: "notLeader" });
  }

  #admit(request: CommandRequest, onlyIn: Leadership | null): OpenCommand | undefined {
    this.#order += 1;
    const queued: QueuedCommand = {
      order: this.#order,
      request,
      access: accessOf(request.command, this.#state.projection),
      urgent: isTightening(request.command),
      bytes: commandBytesOf(request),
      onlyIn,
    };
    if (!this.#queue.offer(queued)) return undefined;
    const open: OpenCommand = { queued, waiters: [], state: "queued", attempts: 0 };
    this.#open.set(request.commandId, open);
    return open;
  }

  #mark(queued: QueuedCommand, state: OpenCommand["state"]): void {
    const open = this.#open.get(queued.request.commandId);
    if (open !== undefined) open.state = state;
  }

  #notify(waiter: CommandWaiter, commandId: CommandId, answer: CommandAnswer): void {
    if (waiter.type !== "caller") return this.#context.post({ type: "answered", waiter, commandId, answer });
    this.#callers.delete(waiter.id);
    const moved = answer.type === "notLeader" && waiter.duty;
    this.#context.emit({ type: "commandAnswered", id: waiter.id, answer: moved ? epochEnded(commandId) : answer });
  }
}

export function unavailable(commandId: CommandId, message: string): CommandResult {
  return { type: "unavailable", commandId, message, retryAfterMs };
}

export function epochEnded(commandId: CommandId): CommandResult {
  return unavailable(commandId, "this broker does not lead any more");
}

/** @param waitMs how long the caller waits */
export function callerAt(
  now: MonotonicMs,
  of: Readonly<{ id: number; waitMs: number; duty: boolean }>,
): Extract<CommandWaiter, { type: "caller" }> {
  return {
    type: "caller",
    id: of.id,
    deadline: now + of.waitMs,
    deadlineIfUnreachable: now + unreachableGraceMs,
    duty: of.duty,
  };
}

/** For a trouble of the store that may pass. */
const unreachableGraceMs = 1_000;

const numberBytes = 9;
const nameBytes = 16;

/** About how many bytes a command takes while it waits: enough for a bound, and much faster than encoding it. */
function commandBytesOf(value: unknown): number {
  if (typeof value === "string") return value.length + 4;
  if (typeof value !== "object" || value === null) return numberBytes;
  if (ArrayBuffer.isView(value)) return value.byteLength + 4;
  let bytes = 4;
  if (Array.isArray(value)) {
    for (const item of value) bytes += commandBytesOf(item);
    return bytes;
  }
  for (const name in value) bytes += nameBytes + commandBytesOf((value as Readonly<Record<string, unknown>>)[name]);
  return bytes;
}
