/**
 * Directory duty: a duty of the leader that reads each directory at its interval, and applies what it read.
 *
 * - The start of a run is in the log before the first request. A run that another leader began, and did not end, is
 *   begun again at once: reading changes nothing in the directory, and what was applied is not applied again.
 * - Directories are read side by side, each by one run at a time. A slow one delays no other.
 * - Everything that later runs need is in the log. Losing this memory costs one reading of the changed profiles.
 */
import {
  type CommandId,
  type CommandRequest,
  type CommandResult,
  type DirectoryPersonRequest,
  type DirectoryState,
  directoriesFrom,
  directoryActor,
  directoryStateUser,
  newDirectoryState,
  type Profile,
  type Projection,
  parseDirectoryState,
  problemCharsMax,
  type Sealed,
  type UserId,
} from "../../events/index.ts";
import type { ProvisionedFor } from "../authenticate/scim/correlation.ts";
import { type Applied, type ApplyParts, applyPlan, RunEndedError } from "./apply-plan.ts";
import { DirectoryError } from "./directory-error.ts";
import { DirectoryIndex } from "./directory-index.ts";
import { checkPage, plainText } from "./page-check.ts";
import { type PersonAnswer, type PersonParts, readPerson } from "./read-person.ts";
import { decideRemovals, type RemovalDecision } from "./removal-rule.ts";
import { newRun, type RunInput, step } from "./run-machine.ts";
import { type PlanInput, planRun, type RunPlan } from "./run-plan.ts";
import type { DirectorySource } from "./source.ts";
import type { StagedRun } from "./staged-run.ts";

export type OpenDirectory = Readonly<{
  name: string;
  match: PlanInput["directory"]["match"];
  groups: PlanInput["directory"]["groups"];
  everyMs: number;
  source: DirectorySource;
}>;

export type DirectoryDutyDeps = Readonly<{
  /** Those of the configuration in force. */
  directories: () => readonly OpenDirectory[];
  provisionedFor: ProvisionedFor;
  uuid: () => string;
  /** @throws when the signal aborts */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Lets other work of the process go first. */
  pause: () => Promise<void>;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

export type DirectoryContext = Readonly<{
  submit: (request: CommandRequest) => Promise<CommandResult>;
  leads: () => boolean;
  projection: Projection;
  profiles: (userIds: readonly UserId[]) => Promise<ReadonlyMap<UserId, Profile>>;
  clock: Readonly<{ wall: () => number }>;
  signal: AbortSignal;
}>;

const lookEveryMs = 1_000;
/** A delta could miss something; a full run corrects it. */
const fullEveryMs = 24 * 3_600_000;
const firstRetryMs = 30_000;
/** A file that was replaced is read after this pause: it may be replaced once more. */
const settleMs = 500;
/** A directory that has not said what it has of one person by then counts as silent. */
const personMsMax = 30_000;
/** Requests about people are answered beside a run until so many people have newer answers. */
const newerMax = 10_000;

/** What one process keeps about a directory between its runs. */
type Memory = {
  sealed: Sealed | null;
  state: DirectoryState;
  /** Failures in a row of this process. */
  failures: number;
  retryAt: number;
  /** Null: the source has noticed no change. */
  changedAt: number | null;
  /** People with a newer answer of the directory than the run in progress: requests about one person. */
  newer: Set<UserId>;
  stopWatching: (() => void) | undefined;
  source: DirectorySource;
};

export type DirectoryDuty = Readonly<{
  run: (context: DirectoryContext) => Promise<void>;
  /** Ends the watches. Runs end with their context. */
  close: () => void;
}>;

export function createDirectoryDuty(deps: DirectoryDutyDeps): DirectoryDuty {
  const index = new DirectoryIndex(deps.provisionedFor);
  const memories = new Map<string, Memory>();
  let refreshing: Promise<void> = Promise.resolve();
  let isBelowLevel = false;

  function memoryOf(directory: OpenDirectory, now: () => number): Memory {
    const known = memories.get(directory.name);
    if (known?.source === directory.source) return known;
    known?.stopWatching?.();
    const memory = newMemory(directory);
    memory.stopWatching = directory.source.watch?.(() => {
      memory.changedAt ??= now();
    });
    memories.set(directory.name, memory);
    return memory;
  }

  /** One refresh at a time: runs of several directories share the index. */
  function refreshIndex({ projection, profiles }: DirectoryContext): Promise<void> {
    const refresh = (): Promise<void> => index.refresh({ projection, profiles, pause: deps.pause });
    refreshing = refreshing.then(refresh, refresh);
    return refreshing;
  }

  async function readState(memory: Memory, name: string, context: DirectoryContext): Promise<void> {
    const userId = directoryStateUser(name);
    const sealed = context.projection.user(userId)?.profile ?? null;
    if (sealed === memory.sealed) return;
    const opened = sealed === null ? undefined : (await context.profiles([userId])).get(userId);
    memory.state = parseDirectoryState(opened) ?? newDirectoryState(name);
    memory.sealed = sealed;
  }

  async function runOne(directory: OpenDirectory, memory: Memory, context: DirectoryContext): Promise<void> {
    memory.changedAt = null;
    memory.newer = new Set();
    const { state, newer } = memory;
    const outcome = await performRun(directory, state, { context, deps, index, refreshIndex, newer });
    if (outcome === "failed") {
      memory.failures += 1;
      const pauseMs = firstRetryMs * 2 ** Math.min(memory.failures - 1, 10);
      memory.retryAt = context.clock.wall() + Math.min(pauseMs, directory.everyMs);
    } else memory.failures = 0;
  }

  return {
    async run(context) {
      if (context.projection.level < directoriesFrom) {
        if (!isBelowLevel && deps.directories().length > 0)
          deps.log.warn(
            { level: context.projection.level },
            `directories are not read below level ${directoriesFrom}; run cardea cluster finalize`,
          );
        isBelowLevel = true;
        return;
      }
      const active = new Map<string, Promise<void>>();
      /** Requests about one person, one at a time for each directory, also during a run. */
      const asking = new Map<string, Promise<void>>();
      const startAnswer = (directory: OpenDirectory, memory: Memory, of: DirectoryContext): void => {
        const request = memory.state.people.find(({ answer }) => answer === null);
        // A run of hours ends before its list of newer answers grows without end; the request waits for that.
        const isFull = memory.newer.size >= newerMax;
        if (request === undefined || asking.has(directory.name) || (isFull && active.has(directory.name))) return;
        if (isFull) memory.newer.clear();
        const parts = { context: of, deps, index, refreshIndex, newer: memory.newer };
        const ended = answerPerson(directory, { request, memory }, parts)
          .catch((err: unknown) => {
            if (!of.signal.aborted) deps.log.warn({ err, directory: directory.name }, "a directory could not be asked");
          })
          .finally(() => asking.delete(directory.name));
        asking.set(directory.name, ended);
      };
      do {
        for (const directory of context.signal.aborted ? [] : deps.directories()) {
          const { name } = directory;
          const memory = memoryOf(directory, context.clock.wall);
          await readState(memory, name, context);
          startAnswer(directory, memory, context);
          if (active.has(name) || !isDue(memory, directory, context.clock.wall())) continue;
          const ended = runOne(directory, memory, context)
            .catch((err: unknown) => {
              memory.retryAt = context.clock.wall() + firstRetryMs;
              if (!context.signal.aborted) deps.log.warn({ err, directory: name }, "a run of a directory was cut");
            })
            .finally(() => active.delete(name));
          active.set(name, ended);
        }
        const looked = deps.sleep(lookEveryMs, context.signal).catch(() => undefined);
        if (active.size + asking.size > 0) await Promise.race([looked, ...active.values(), ...asking.values()]);
      } while (active.size + asking.size > 0 && !context.signal.aborted);
      await Promise.all([...active.values(), ...asking.values()]);
    },
    close() {
      for (const { stopWatching } of memories.values()) stopWatching?.();
      memories.clear();
    },
  };
}

/** An answer in any case: a request without one would be repeated every second. @throws RunEndedError */
async function readOrExplain(person: PersonParts, { context, deps }: RunParts): Promise<PersonAnswer> {
  try {
    return await readPerson(person);
  } catch (err) {
    if (err instanceof RunEndedError || context.signal.aborted) throw err;
    deps.log.warn({ err, directory: person.directory.name }, "a directory could not be asked about a person");
    const said = "it could not be asked; the log of the leader says why";
    return { result: "failed", said, changed: false, position: null };
  }
}

function newMemory(directory: OpenDirectory): Memory {
  return {
    sealed: null,
    state: newDirectoryState(directory.name),
    failures: 0,
    retryAt: 0,
    changedAt: null,
    newer: new Set(),
    stopWatching: undefined,
    source: directory.source,
  };
}

function isDue({ state, retryAt, failures, changedAt }: Memory, { everyMs }: OpenDirectory, now: number): boolean {
  if (state.asked !== null) return true;
  if (now < retryAt) return false;
  if (state.run !== null || state.last === null || failures > 0) return true;
  if (changedAt !== null && now >= changedAt + settleMs) return true;
  return now >= state.last.endedAt + everyMs || state.last.endedAt > now + everyMs;
}

type RunParts = Readonly<{
  context: DirectoryContext;
  deps: DirectoryDutyDeps;
  index: DirectoryIndex;
  refreshIndex: (context: DirectoryContext) => Promise<void>;
  newer: Set<UserId>;
}>;

/** @throws RunEndedError when the epoch has ended, or the log accepts nothing */
async function answerPerson(
  directory: OpenDirectory,
  { request, memory }: Readonly<{ request: DirectoryPersonRequest; memory: Memory }>,
  parts: RunParts,
): Promise<void> {
  const { context, deps, index } = parts;
  const { name } = directory;
  await parts.refreshIndex(context);
  const ended = new AbortController();
  const isLate = new AbortController();
  void deps.sleep(personMsMax, AbortSignal.any([context.signal, ended.signal])).then(
    () => isLate.abort(),
    () => undefined,
  );
  try {
    const answer = await readOrExplain(
      {
        directory,
        userId: request.userId,
        profile: (await context.profiles([request.userId])).get(request.userId),
        provisionedFor: deps.provisionedFor,
        index,
        projection: context.projection,
        isNested: memory.state.complete?.isNested,
        apply: applyPartsOf(name, parts),
        onPlanned: (users) => {
          for (const userId of users) memory.newer.add(userId);
        },
        signal: AbortSignal.any([context.signal, isLate.signal]),
      },
      parts,
    );
    await record(parts, name, { type: "completeDirectoryPerson", directory: name, requestId: request.id, answer });
    deps.log.info({ directory: name, ...answer }, "a directory was asked about a person");
  } finally {
    ended.abort();
  }
}

/** @throws RunEndedError when the epoch has ended, or the log accepts nothing */
async function performRun(
  directory: OpenDirectory,
  state: DirectoryState,
  parts: RunParts,
): Promise<"done" | "failed"> {
  const { context, deps } = parts;
  const { name } = directory;
  // As the log will have it: a run that was cut passes on what it was allowed.
  const areAllowed = state.asked?.removals === true || state.run?.removals === true;
  const isFullDue = state.asked !== null || context.clock.wall() >= (state.complete?.fullAt ?? 0) + fullEveryMs;
  const since = isFullDue ? null : state.delta;
  const syncId = deps.uuid();
  const mode = since === null ? "full" : "delta";
  const answers = state.asked?.id ?? null;
  await record(parts, name, { type: "startDirectorySync", directory: name, syncId, mode, answers });
  const read = await readPages(directory, since, parts);
  if (read.type === "fail") {
    const problem = plainText(read.message).slice(0, problemCharsMax);
    deps.log.warn({ directory: name, problem }, "a directory could not be read; nothing is removed");
    const summary = { mode, result: "failed", problem, added: 0, removed: 0, ended: 0 } as const;
    const kept = state.delta;
    await record(parts, name, { type: "completeDirectorySync", ...ending(name, syncId), summary, delta: kept });
    return "failed";
  }
  await applyRead({ directory, state, syncId, areAllowed, ...read }, parts);
  return "done";
}

const ending = (directory: string, syncId: string) => ({ directory, syncId, complete: null });

type Read = Readonly<{ staged: StagedRun; delta: string | null }>;

async function readPages(
  { source }: OpenDirectory,
  since: string | null,
  { context, deps }: RunParts,
): Promise<Readonly<{ type: "fail"; message: string }> | (Readonly<{ type: "apply" }> & Read)> {
  const { signal } = context;
  let run = newRun(since);
  let input: RunInput = { type: "begin" };
  for (;;) {
    if (signal.aborted) throw new RunEndedError("this process no longer leads");
    const [next, effect] = stepOrFail(run, input);
    run = next;
    if (effect.type === "fail" || effect.type === "apply") return effect;
    if (effect.type === "wait") {
      await deps.sleep(effect.ms, signal);
      input = { type: "waited" };
      continue;
    }
    try {
      const page = await source.read({ since: effect.since, cursor: effect.cursor, signal });
      input = { type: "page", page: checkPage(page, effect.since === null ? "full" : "delta") };
    } catch (error) {
      if (signal.aborted) throw new RunEndedError("this process no longer leads", { cause: error });
      if (!(error instanceof DirectoryError)) throw error;
      const { kind, message, retryAfterMs } = error;
      input = { type: "readFailed", kind, message, retryAfterMs };
    }
    await deps.pause();
  }
}

/** A page beyond a bound of the whole run is a failure of the directory. */
function stepOrFail(run: Parameters<typeof step>[0], input: RunInput): ReturnType<typeof step> {
  try {
    return step(run, input);
  } catch (error) {
    if (!(error instanceof DirectoryError)) throw error;
    return [run, { type: "fail", message: error.message }];
  }
}

async function applyRead(
  read: Read & Readonly<{ directory: OpenDirectory; state: DirectoryState; syncId: string; areAllowed: boolean }>,
  parts: RunParts,
): Promise<void> {
  const { directory, staged, state, syncId } = read;
  const { context, deps, index } = parts;
  const { name } = directory;
  await parts.refreshIndex(context);
  const plan = await buildPlan({ directory, staged, index, projection: context.projection }, deps);
  const decision = decideRemovals(plan, { problems: staged.problems, areAllowed: read.areAllowed });
  const applied = await applyPlan(plan, decision, { ...applyPartsOf(name, parts), except: parts.newer });
  const { mode } = staged;
  const { refused, held, ...counts } = applied;
  const result = resultOf(decision.result, applied);
  const isComplete = result === "complete";
  const problem = decision.problem ?? heldText(applied) ?? skippedText(plan);
  const summary = { mode, result, problem: problem?.slice(0, problemCharsMax) ?? null, ...counts };
  // A delta counts from a state that was applied whole. Groups inside groups need a full run each time.
  // What a person was asked about meanwhile may have changed again before the delta, so that is repeated.
  const isExact = isComplete && parts.newer.size === 0;
  const delta =
    isExact && !staged.isNested ? read.delta : staged.isNested && isComplete ? null : keptDelta(state, mode);
  const complete = isComplete ? countsOf(plan, state, { mode, isNested: staged.isNested, ...counts }) : null;
  await record(parts, name, { type: "completeDirectorySync", directory: name, syncId, summary, complete, delta });
  const facts = { directory: name, mode, result, ...plan.counts, ...counts, refused, held };
  if (problem === null) deps.log.info(facts, "a directory was read");
  else deps.log.warn({ ...facts, problem }, "a directory was read, but not everything was applied");
}

/** An incomplete delta is repeated; after an incomplete full run the next one is full. */
function keptDelta(state: DirectoryState, mode: StagedRun["mode"]): string | null {
  return mode === "delta" ? state.delta : null;
}

function countsOf(
  { counts }: RunPlan,
  { complete }: DirectoryState,
  run: Readonly<{ mode: StagedRun["mode"]; isNested: boolean; added: number; removed: number }>,
): Readonly<{ people: number; groups: number; memberships: number; isNested: boolean }> {
  const { mode, isNested, added, removed } = run;
  if (mode === "full" || complete === null) {
    const { people, groups, memberships } = counts;
    return { people, groups, memberships, isNested };
  }
  const { people, groups } = complete;
  // A delta does not repeat which groups are inside others.
  return {
    people,
    groups,
    memberships: Math.max(0, complete.memberships + added - removed),
    isNested: complete.isNested ?? true,
  };
}

function resultOf(decided: RemovalDecision["result"], { refused, held }: Applied): RemovalDecision["result"] {
  if (decided !== "complete") return decided;
  return held > 0 ? "withheld" : refused > 0 ? "partial" : "complete";
}

function heldText({ held }: Applied): string | null {
  return held === 0 ? null : `${held} mass changes wait for an operator, or were dropped by one: cardea held list`;
}

function skippedText({ skipped }: RunPlan): string | null {
  if (skipped.length === 0) return null;
  return `groups were left out, because their names are too long or taken: ${skipped.join(", ")}`;
}

async function buildPlan(input: PlanInput, { pause }: Pick<DirectoryDutyDeps, "pause">): Promise<RunPlan> {
  const steps = planRun(input);
  for (;;) {
    const { value, done } = steps.next();
    if (done === true) return value;
    await pause();
  }
}

function applyPartsOf(directory: string, { context, deps, index }: RunParts): ApplyParts {
  return {
    directory,
    index,
    projection: context.projection,
    submit: context.submit,
    leads: context.leads,
    uuid: deps.uuid,
    now: context.clock.wall,
    sleep: (ms) => deps.sleep(ms, context.signal),
    pause: deps.pause,
    signal: context.signal,
    log: deps.log,
  };
}

/** @throws RunEndedError */
async function record(
  { context, deps }: RunParts,
  directory: string,
  command: CommandRequest["command"],
): Promise<void> {
  const commandId = deps.uuid() as CommandId;
  const result = await context.submit({ commandId, actor: directoryActor(directory), command });
  if (result.type !== "done") throw new RunEndedError(`the log did not accept ${command.type}: ${result.message}`);
}
