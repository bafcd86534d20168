/**
 * Directory sync: an operator asks for a run, and the duty of the leader records its start and its end. Pure.
 *
 * - The start is in the log before the first request to the directory. A run that its leader did not end is ended by
 *   the start of the next one, as incomplete.
 * - Only the run in progress can end, so a leader that was replaced changes nothing.
 * - A start names the request that the leader has seen. One that arrives between its look and the start is not lost: it
 *   waits for the next run.
 * - A run that may make every removal is allowed mass changes (held/guard-mass-change.ts) from its start to its end.
 */
import {
  allowedMsMax,
  type CardeaEvent,
  type DirectoryMode,
  type DirectoryRunSummary,
  type DirectoryState,
  deltaCharsMax,
  directoriesFrom,
  directoryActor,
  directoryClient,
  directoryModes,
  directoryResults,
  directoryStateProfile,
  directoryStateUser,
  heldStream,
  isDirectoryName,
  newDirectoryState,
  type Projection,
  parseDirectoryState,
  problemCharsMax,
  sweepStream,
  type UnixMs,
  userStream,
} from "../../../events/index.ts";
import type { Access } from "../access.ts";
import type { CommandDefinition } from "../definition.ts";
import { type Fields, fieldsOf, integerOf, MalformedCommandError, textOf } from "../fields.ts";
import { sourceStream } from "../held/held-changes.ts";
import { type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";
import { openProfile, sealerFor } from "../profile-seal.ts";
import { belowLevel } from "./write-provisioned-user.ts";

const countMax = Number.MAX_SAFE_INTEGER;
const idCharsMax = 64;

export const requestDirectorySync: CommandDefinition<"requestDirectorySync"> = {
  schema: (fields) => ({
    type: "requestDirectorySync",
    directory: parseDirectory(fields),
    requestId: parseShortId(fields, "requestId"),
    removals: parseFlag(fields, "removals"),
  }),
  permission: ["operator"],
  access: accessOfState,
  person: ({ directory }) => directoryStateUser(directory),
  perform: (projection, { directory, requestId, removals }, tools) =>
    changeState(projection, directory, tools, (state) => ({
      state: { ...state, asked: { id: requestId, removals: removals || state.asked?.removals === true } },
      events: [],
    })),
};

export const startDirectorySync: CommandDefinition<"startDirectorySync"> = {
  schema: (fields) => ({
    type: "startDirectorySync",
    directory: parseDirectory(fields),
    syncId: parseShortId(fields, "syncId"),
    mode: oneOf(fields["mode"], directoryModes, "mode"),
    answers: fields["answers"] === null ? null : parseShortId(fields, "answers"),
  }),
  permission: ["duty"],
  access: accessOfRun,
  person: ({ directory }) => directoryStateUser(directory),
  perform: (projection, { directory, syncId, mode, answers }, tools) =>
    changeState(projection, directory, tools, (state) => {
      const { run, asked } = state;
      const isAnswered = asked !== null && asked.id === answers;
      // A run that was cut passes what it was allowed to the one that replaces it.
      const removals = (isAnswered && asked.removals) || run?.removals === true;
      const source = directoryActor(directory);
      const allowedBefore = run?.allowedBefore ?? projection.massChanges.allowedUntil(source);
      const until = (tools.now + allowedMsMax) as UnixMs;
      const started = { syncId, mode, startedAt: tools.now, removals };
      return {
        state: {
          ...state,
          asked: isAnswered ? null : asked,
          run: removals ? { ...started, allowedBefore } : started,
        },
        events: [
          ...(run === null ? [] : [completed(directory, run.syncId, { complete: false })]),
          { type: "DirectorySyncStarted", directory, syncId },
          ...(removals ? [{ type: "MassChangesAllowed", source, until, reason: allowedFor } as const] : []),
        ],
      };
    }),
};

/** The reason of a permission, and of its end. */
const allowedFor = "a run of the directory that an operator lets make every removal";
const allowedNoMore = "the end of that run";

export const completeDirectorySync: CommandDefinition<"completeDirectorySync"> = {
  schema: (fields) => ({
    type: "completeDirectorySync",
    directory: parseDirectory(fields),
    syncId: parseShortId(fields, "syncId"),
    summary: parseSummary(fieldsOf(fields["summary"], "summary")),
    complete: fields["complete"] === null ? null : parseCounts(fieldsOf(fields["complete"], "complete")),
    delta: fields["delta"] === null ? null : parseDelta(fields),
  }),
  permission: ["duty"],
  access: accessOfRun,
  person: ({ directory }) => directoryStateUser(directory),
  perform: (projection, { directory, syncId, summary, complete, delta }, tools) =>
    changeState(projection, directory, tools, (state) => {
      if (state.run?.syncId !== syncId) return refuseCommand("conflict", "another run of the directory has begun");
      const { startedAt, removals, allowedBefore = 0 } = state.run;
      const source = directoryActor(directory);
      const until = Math.max(allowedBefore, tools.now) as UnixMs;
      // What an operator has said of the source since counts.
      const isOurs = removals && projection.massChanges.allowedUntil(source) === startedAt + allowedMsMax;
      return {
        state: {
          ...state,
          run: null,
          last: { ...summary, startedAt, endedAt: tools.now },
          complete:
            complete === null
              ? state.complete
              : { ...complete, at: tools.now, fullAt: fullAtOf(state, summary.mode, tools.now) },
          delta,
        },
        events: [
          completed(directory, syncId, { complete: summary.result === "complete" }),
          ...(isOurs ? [{ type: "MassChangesAllowed", source, until, reason: allowedNoMore } as const] : []),
        ],
      };
    }),
};

function fullAtOf({ complete }: DirectoryState, mode: DirectoryMode, now: number): number {
  return mode === "full" ? now : (complete?.fullAt ?? 0);
}

type Change = Readonly<{ state: DirectoryState; events: readonly CardeaEvent[] }>;

export function changeState(
  projection: Projection,
  directory: string,
  tools: Tools,
  change: (state: DirectoryState) => Change | Performed,
): Performed {
  if (projection.level < directoriesFrom) return belowLevel(projection.level, directoryClient(directory));
  const userId = directoryStateUser(directory);
  const sealer = sealerFor(userId, tools);
  const known = parseDirectoryState(openProfile(projection.user(userId)?.profile, sealer.person));
  const changed = change(known ?? newDirectoryState(directory));
  if ("type" in changed) return changed;
  const profile = sealer.seal(directoryStateProfile(changed.state));
  return recordChanges([...changed.events, { type: "UserUpserted", userId, profile }], { newKeys: sealer.newKeys });
}

function completed(
  directory: string,
  syncId: string,
  { complete }: Readonly<{ complete: boolean }>,
): Extract<CardeaEvent, { type: "DirectorySyncCompleted" }> {
  return { type: "DirectorySyncCompleted", directory, syncId, complete };
}

export function accessOfState({ directory }: Readonly<{ directory: string }>): Access {
  return { reads: [], writes: [userStream(directoryStateUser(directory)), sweepStream] };
}

/** The run may begin or end what its source is allowed. */
function accessOfRun({ directory }: Readonly<{ directory: string }>): Access {
  const { reads, writes } = accessOfState({ directory });
  return { reads, writes: [...writes, heldStream, sourceStream(directoryActor(directory))] };
}

export function parseDirectory(fields: Fields): string {
  const directory = textOf(fields, "directory");
  if (!isDirectoryName(directory)) throw new MalformedCommandError("not the name of a directory");
  return directory;
}

export function parseShortId(fields: Fields, name: string): string {
  const id = textOf(fields, name);
  if (id === "" || id.length > idCharsMax) throw new MalformedCommandError(`${name} is not a short id`);
  return id;
}

export function parseFlag(fields: Fields, name: string): boolean {
  const value = fields[name];
  if (typeof value !== "boolean") throw new MalformedCommandError(`${name} is not a boolean`);
  return value;
}

function parseDelta(fields: Fields): string {
  const delta = textOf(fields, "delta");
  if (delta.length > deltaCharsMax) throw new MalformedCommandError("delta is too long");
  return delta;
}

function parseCounts(
  fields: Fields,
): Readonly<{ people: number; groups: number; memberships: number; isNested: boolean }> {
  const count = (name: string): number => integerOf(fields, name, { min: 0, max: countMax });
  return {
    people: count("people"),
    groups: count("groups"),
    memberships: count("memberships"),
    isNested: parseFlag(fields, "isNested"),
  };
}

function parseSummary(fields: Fields): Omit<DirectoryRunSummary, "startedAt" | "endedAt"> {
  const count = (name: string): number => integerOf(fields, name, { min: 0, max: countMax });
  const problem = fields["problem"] === null ? null : textOf(fields, "problem").slice(0, problemCharsMax);
  return {
    mode: oneOf(fields["mode"], directoryModes, "mode"),
    result: oneOf(fields["result"], directoryResults, "result"),
    problem,
    added: count("added"),
    removed: count("removed"),
    ended: count("ended"),
  };
}

export function oneOf<T extends string>(value: unknown, allowed: readonly T[], name: string): T {
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw new MalformedCommandError(`${name} is not one of ${allowed.join(", ")}`);
  return found;
}
