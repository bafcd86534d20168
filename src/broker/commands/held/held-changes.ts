/**
 * Release, drop, allow and expire held changes. Pure.
 *
 * A released change is performed again against the head, so only what is still true of it has an effect. It happens in
 * the same batch as the end of the held change: neither is recorded without the other.
 */
import {
  allowedMsMax,
  type Command,
  decode,
  type HeldChange,
  heldStream,
  massChangeFrom,
  type Projection,
  parseCommandId,
  parseUnixMs,
  type Stream,
} from "../../../events/index.ts";
import type { Access } from "../access.ts";
import type { CommandDefinition } from "../definition.ts";
import { type Fields, integerOf, listIn, MalformedCommandError, textOf } from "../fields.ts";
import { nothing, type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";

/** How the catalog performs a stored command, whatever its type. */
export type StoredCommands = Readonly<{
  /** The command as it is performed at the head; undefined: this build cannot read it. */
  atRelease: (held: HeldChange, projection: Projection) => Command | undefined;
  access: (command: Command, projection: Projection) => Access;
  perform: (projection: Projection, command: Command, tools: Tools) => Performed;
}>;

const reasonCharsMax = 500;
const heldIdsMax = 1_000;
const sourcePattern = /^[A-Za-z0-9._~@/+=:#-]{1,200}$/;

/** Changes of one source that may take a group are performed one after the other, so that each counts those before. */
export const sourceStream = (source: string): Stream => `cluster:source:${source}`;

/** @param stored the catalog, which knows the other commands */
export function releaseHeldChange(stored: () => StoredCommands): CommandDefinition<"releaseHeldChange"> {
  return {
    schema: (fields) => ({
      type: "releaseHeldChange",
      heldId: parseCommandId(fields["heldId"]),
      version: versionIn(fields),
      reason: reasonIn(fields),
      allowUntil: fields["allowUntil"] === null ? null : parseUnixMs(fields["allowUntil"]),
    }),
    permission: ["operator"],
    access({ heldId }, projection) {
      const held = projection.massChanges.heldChange(heldId);
      const command = held && stored().atRelease(held, projection);
      const own = command === undefined ? { reads: [], writes: [] } : stored().access(command, projection);
      const source = held === undefined ? [] : [sourceStream(held.source)];
      return { reads: own.reads, writes: [...own.writes, ...source, heldStream] };
    },
    perform(projection, { heldId, version, reason, allowUntil }, tools) {
      const held = findHeld(projection, { heldId, version }, tools);
      if ("type" in held) return held;
      const allowed = allowUntil === null ? [] : [{ source: held.source, until: allowUntil, reason }];
      const refused = allowed.map(({ until }) => refuseTime(until, tools)).find((each) => each !== undefined);
      if (refused !== undefined) return refused;
      const command = stored().atRelease(held, projection);
      if (command === undefined)
        return refuseCommand("invalid", "this version of Cardea cannot read the held change; drop it");
      const performed = stored().perform(projection, command, tools);
      if (performed.type === "refused") return performed;
      const ended = { type: "HeldChangeEnded", heldId, outcome: "released", reason } as const;
      const permitted = allowed.map((each) => ({ type: "MassChangesAllowed", ...each }) as const);
      if (performed.type === "nothing") return recordChanges([ended, ...permitted]);
      const { changes } = performed;
      return { type: "changes", changes: { ...changes, events: [...changes.events, ended, ...permitted] } };
    },
  };
}

export const dropHeldChange: CommandDefinition<"dropHeldChange"> = {
  schema: (fields) => ({
    type: "dropHeldChange",
    heldId: parseCommandId(fields["heldId"]),
    version: versionIn(fields),
    reason: reasonIn(fields),
  }),
  permission: ["operator"],
  access: () => ({ reads: [], writes: [heldStream] }),
  perform(projection, { heldId, version, reason }, tools) {
    const held = findHeld(projection, { heldId, version }, tools);
    if ("type" in held) return held;
    if (held.status === "dropped") return nothing;
    return recordChanges([{ type: "HeldChangeEnded", heldId, outcome: "dropped", reason }]);
  },
};

export const allowMassChanges: CommandDefinition<"allowMassChanges"> = {
  schema(fields) {
    const source = textOf(fields, "source");
    if (!sourcePattern.test(source)) throw new MalformedCommandError("source is not the name of a source");
    return { type: "allowMassChanges", source, until: parseUnixMs(fields["until"]), reason: reasonIn(fields) };
  },
  permission: ["operator"],
  access: ({ source }) => ({ reads: [], writes: [heldStream, sourceStream(source)] }),
  perform(projection, { source, until, reason }, tools) {
    if (projection.level < massChangeFrom) return belowMassChangeLevel(projection.level);
    const isOpen = projection.massChanges.allowedUntil(source) > tools.now;
    if (until <= tools.now && !isOpen) return nothing;
    const refused = until <= tools.now ? undefined : refuseTime(until, tools);
    return refused ?? recordChanges([{ type: "MassChangesAllowed", source, until, reason }]);
  },
};

/** A duty of the leader. */
export const expireHeldChanges: CommandDefinition<"expireHeldChanges"> = {
  schema(fields) {
    const heldIds = listIn(fields, "heldIds").map(parseCommandId);
    if (heldIds.length > heldIdsMax) throw new MalformedCommandError("too many held changes");
    return { type: "expireHeldChanges", heldIds };
  },
  permission: ["duty"],
  access: () => ({ reads: [], writes: [heldStream] }),
  perform(projection, { heldIds }, { now }) {
    const expired = new Set(projection.massChanges.expired(now));
    return recordChanges(
      [...new Set(heldIds)]
        .filter((heldId) => expired.has(heldId))
        .map((heldId) => ({ type: "HeldChangeEnded", heldId, outcome: "expired", reason: "" })),
    );
  },
};

function findHeld(
  projection: Projection,
  { heldId, version }: Pick<HeldChange, "heldId" | "version">,
  { now }: Pick<Tools, "now">,
): HeldChange | Extract<Performed, { type: "refused" }> {
  if (projection.level < massChangeFrom) return belowMassChangeLevel(projection.level);
  const held = projection.massChanges.heldChange(heldId);
  if (held === undefined) return refuseCommand("not-found", "there is no such held change: it has ended");
  if (held.expiresAt <= now) return refuseCommand("not-found", "the held change has expired");
  if (held.version !== version)
    return refuseCommand("conflict", "the held change has changed since you looked at it; look again");
  return held;
}

export function belowMassChangeLevel(level: number): Extract<Performed, { type: "refused" }> {
  const remedy = "upgrade every broker and node, then run `cardea cluster finalize`";
  return refuseCommand(
    "conflict",
    `the cluster is at level ${level}, and mass changes are held from level ${massChangeFrom} on: ${remedy}`,
  );
}

function refuseTime(until: number, { now }: Pick<Tools, "now">): Performed | undefined {
  if (until > now && until <= now + allowedMsMax) return undefined;
  return refuseCommand("invalid", "mass changes are allowed until a time within the next 24 hours");
}

const versionIn = (fields: Fields): number => integerOf(fields, "version", { min: 1, max: Number.MAX_SAFE_INTEGER });

function reasonIn(fields: Fields): string {
  const reason = textOf(fields, "reason");
  if (reason.trim() === "" || reason.length > reasonCharsMax)
    throw new MalformedCommandError(`reason is missing, or longer than ${reasonCharsMax} characters`);
  return reason;
}

/** The fields of a stored command, without its people. @throws an error of the decoder */
export function fieldsOfTemplate({ template }: HeldChange): Record<string, unknown> {
  return { ...(decode(template) as object) };
}
