/**
 * Pending commands: commands with a waiting caller, from their arrival until their outcome is certain. Pure.
 *
 * - They outlive epochs: commands in flight when an epoch ends move to the next one, or to another leader.
 * - A command id is performed once, however often it is sent: a second caller gets the first answer. A refusal does not
 *   end the merge of a revocation: each submission performs it again, because a change of the person may permit it.
 * - A merge never gets the answer of another pending command under its id, nor the reverse: what one of them is refused
 *   says nothing of the other. It is sent again once that command has an answer.
 * - Bounded by number and bytes. A caller that waits too long gets "unavailable", which is neither success nor failure.
 */
import type { CommandId, CommandRequest, CommandResult, Incarnation, Link, MonotonicMs } from "../../events/index.ts";
import { accessOf, isTightening } from "../commands/catalog.ts";
import type { CommandWaiter, QueuedCommand } from "../core/internal-messages.ts";
import type { CommandAnswer, Leadership } from "../core/messages.ts";
import type { StepContext } from "../core/step-context.ts";
import type { BrokerState } from "../state/broker-state.ts";
import { CommandTable, hashCommandId, RecentCommands } from "../state/command-table.ts";
import { CommandQueue } from "./command-queue.ts";

type OpenCommand = {
  readonly queued: QueuedCommand;
  readonly waiters: CommandWaiter[];
  /** `unresolved`: it was in a batch whose outcome is unknown. */
  state: "queued" | "taken" | "unresolved";
  /** The number of its batches that failed. */
  attempts: number;
};

const answersMax = 20_000;
const retryAfterMs = 1_000;
/** How often the time limits of callers are checked. */
const expireEveryMs = 100;

export class PendingCommands {
  readonly #context: StepContext;
  readonly #state: BrokerState;
  readonly #queue: CommandQueue;
  readonly #open = new CommandTable<OpenCommand>(({ queued }) => queued.request.commandId);
  readonly #callers = new Map<number, Readonly<{ commandId: CommandId; waiter: CommandWaiter }>>();
  /** Answers by command id, so that a repeated id gets the same one. */
  readonly #answers = new RecentCommands<CommandResult>(answersMax, ({ commandId }) => commandId);
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

  /** @param onlyIn the command is performed under this leadership or not at all */
  submit(request: CommandRequest, waiter: CommandWaiter, onlyIn: Leadership | null = null): void {
    const { commandId } = request;
    const hash = hashCommandId(commandId);
    const answer = this.#answers.get(commandId, hash);
    if (answer !== undefined && isFinal(request, answer)) {
      this.#notify(waiter, commandId, answer);
      return;
    }
    const pending = this.#open.get(commandId, hash);
    if (pending !== undefined && !hasOneAnswer(pending.queued.request, request)) {
      this.#notify(waiter, commandId, unavailableResult(commandId, "another command under this id has no answer yet"));
      return;
    }
    if (pending !== undefined) pending.waiters.push(waiter);
    else if (!this.#admit(request, { waiter, onlyIn, hash })) {
      this.#notify(waiter, commandId, unavailableResult(commandId, "too many commands are waiting"));
      return;
    }
    if (waiter.type !== "caller") return;
    this.#callers.set(waiter.id, { commandId, waiter });
    this.#expireAt = Math.min(this.#expireAt, waiter.deadline, this.#context.now + expireEveryMs);
  }

  /** The answer of a command. */
  answerOf(commandId: CommandId): CommandResult | undefined {
    return this.#answers.get(commandId);
  }

  /** @returns false if no such command is pending: then no answer will arrive */
  join(commandId: CommandId, waiter: CommandWaiter): boolean {
    const open = this.#open.get(commandId);
    open?.waiters.push(waiter);
    return open !== undefined;
  }

  /** A caller has stopped waiting. */
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

  /** Answers the callers whose time is up. */
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
      this.#notify(waiter, commandId, unavailableResult(commandId, "the event log did not answer in time"));
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

  /** Their batch may have been written: they wait until that is known. */
  markUnresolved(commands: readonly QueuedCommand[]): void {
    for (const queued of commands) this.#mark(queued, "unresolved");
  }

  /** Another epoch is open, perhaps of a log that has lost some answered commands. The log itself knows the others. */
  forgetAnswers(): void {
    this.#answers.clear();
  }

  /**
   * Commands of unclear batches. Call it only while no leader runs: then taken commands belong to a leader that has
   * ended.
   */
  unresolved(): readonly QueuedCommand[] {
    const all = [...this.#open.values()].filter(({ state }) => state !== "queued").map(({ queued }) => queued);
    return all.sort((a, b) => a.order - b.order);
  }

  /** Counts another failed batch of this command. */
  countAttempt(queued: QueuedCommand): number {
    const open = this.#open.get(queued.request.commandId);
    if (open === undefined) return 0;
    open.attempts += 1;
    return open.attempts;
  }

  answer(queued: QueuedCommand, result: CommandResult): void {
    const { commandId } = queued.request;
    const hash = hashCommandId(commandId);
    if (isFinal(queued.request, result)) this.#answers.set(result, hash);
    const open = this.#open.get(commandId, hash);
    this.#open.delete(commandId, hash);
    for (const waiter of open?.waiters ?? []) this.#notify(waiter, commandId, result);
  }

  answerUnavailable(queued: QueuedCommand, message: string): void {
    this.answer(queued, unavailableResult(queued.request.commandId, message));
  }

  /**
   * This broker does not lead: pending commands go to the leader. Answers may be of a lost suffix, so they are
   * forgotten.
   */
  redirectAll(): void {
    this.#queue.take(Number.POSITIVE_INFINITY);
    const open = [...this.#open.values()];
    this.#open.clear();
    this.#answers.clear();
    for (const { queued, waiters } of open)
      for (const waiter of waiters) this.#notify(waiter, queued.request.commandId, { type: "notLeader" });
  }

  /** @returns false: the queue is full */
  #admit(
    request: CommandRequest,
    of: Readonly<{ waiter: CommandWaiter; onlyIn: Leadership | null; hash: number }>,
  ): boolean {
    this.#order += 1;
    const queued: QueuedCommand = {
      order: this.#order,
      request,
      access: accessOf(request, this.#state.projection),
      urgent: isTightening(request.command),
      bytes: commandBytesOf(request),
      onlyIn: of.onlyIn,
    };
    if (!this.#queue.offer(queued)) return false;
    this.#open.set({ queued, waiters: [of.waiter], state: "queued", attempts: 0 }, of.hash);
    return true;
  }

  #mark(queued: QueuedCommand, state: OpenCommand["state"]): void {
    const open = this.#open.get(queued.request.commandId);
    if (open !== undefined) open.state = state;
  }

  #notify(waiter: CommandWaiter, commandId: CommandId, answer: CommandAnswer): void {
    if (waiter.type !== "caller") {
      this.#context.post({ type: "answered", waiter, commandId, answer });
      return;
    }
    this.#callers.delete(waiter.id);
    const moved = answer.type === "notLeader" && waiter.duty;
    this.#context.emit({ type: "commandAnswered", id: waiter.id, answer: moved ? epochEnded(commandId) : answer });
  }
}

/** Whether a caller of one of these commands, which have one id, may get the answer of the other. */
function hasOneAnswer({ command: one }: CommandRequest, { command: other }: CommandRequest): boolean {
  if (one.type !== "mergeRevocation" || other.type !== "mergeRevocation")
    return (one.type === "mergeRevocation") === (other.type === "mergeRevocation");
  return Buffer.compare(one.envelope, other.envelope) === 0;
}

/** Whether a repetition of the command gets this answer without being performed. */
function isFinal({ command }: CommandRequest, { type }: CommandResult): boolean {
  return type === "done" || (type === "refused" && command.type !== "mergeRevocation");
}

export function doneResult(
  commandId: CommandId,
  { link, incarnation, changed }: Readonly<{ link: Link; incarnation: Incarnation | undefined; changed: boolean }>,
): CommandResult {
  if (incarnation === undefined) return { type: "done", commandId, link, changed };
  return { type: "done", commandId, link, incarnation, changed };
}

export function unavailableResult(commandId: CommandId, message: string): CommandResult {
  return { type: "unavailable", commandId, message, retryAfterMs };
}

export function epochEnded(commandId: CommandId): CommandResult {
  return unavailableResult(commandId, "this broker no longer leads");
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

/** Callers wait this long for an unreachable store, in case it recovers. */
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
