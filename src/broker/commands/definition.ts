/**
 * Command definition: everything that a broker knows about one type of command. Only types.
 *
 * - `schema` parses what arrived over the wire. It keeps only the fields that it knows.
 * - `permission` lists the roles that may submit the command; docs/roles.md shows the lists.
 * - `access` names the streams that performing it reads and writes.
 * - `perform` turns the command into events. It never throws because of what a caller requested.
 */
import type { Command, HeldChange, Projection, UserId } from "../../events/index.ts";
import type { Role } from "../../replication/wire/index.ts";
import type { Access } from "./access.ts";
import type { Fields } from "./fields.ts";
import type { Performed, Tools } from "./performed.ts";

/** The submitter of a command: a process in its role, or a duty of the leader within its own process. */
export type Submitter = Role | "duty";

type CommandsByType = { readonly [Type in Command["type"]]: Extract<Command, { type: Type }> };

/** The command of a type. A function that is generic in the type may pass a command to the definition of that type. */
export type CommandOf<Type extends Command["type"]> = {
  [Each in Type]: Readonly<{ type: Each }> & CommandsByType[Each];
}[Type];

/** How a command that may take groups from people waits for an operator (held/guard-mass-change.ts). */
export type HoldableChange<Change> = Readonly<{
  /**
   * What the change is about. A source has one held change about it, which a later change joins. A deletion is about
   * something else than a change of members.
   */
  subject: (command: Change) => string;
  /** Held changes about these subjects end if this command is performed. Absent: none. */
  replaces?: (command: Change) => readonly string[];
  /** It may take a group from a person: such changes of one source are performed one after the other. */
  mayTake: (command: Change) => boolean;
  /** It states everything about its subject, so it replaces what is held. Absent: it joins it. */
  isWhole?: (command: Change) => boolean;
  /** How many people the sender's whole batch would take a group from. Absent: the sender does not say. */
  announced?: (command: Change) => number;
  /** People whose access the sender is about to end. Absent: none; what it takes of groups is in its events. */
  ending?: (command: Change, projection: Projection) => readonly UserId[];
  /** The same command with other lists of people. A deletion has none. */
  withPeople: (command: Change, people: Pick<HeldChange, "added" | "removed">) => Change;
  people: (command: Change) => Pick<HeldChange, "added" | "removed">;
  /** As it is released at the head: without people who are gone, and for the newest version of its subject. */
  atRelease: (command: Change, projection: Projection) => Change;
}>;

export type CommandDefinition<Type extends Command["type"]> = Readonly<{
  /** @throws MalformedCommandError, or an error of the id parsers */
  schema: (fields: Fields) => CommandOf<Type>;
  permission: readonly Submitter[];
  /** A further condition for a role that `permission` lists. Absent: none. */
  isPermitted?: (role: Submitter, command: CommandOf<Type>) => boolean;
  /** Whether the command is submitted under the actor that it names. Absent: it names none. */
  isOwn?: (command: CommandOf<Type>, actor: string) => boolean;
  /** The command records a final denial, so it overtakes the others. Absent: it does not. */
  tightens?: true;
  access: (command: CommandOf<Type>, projection: Projection) => Access;
  /** Absent: it never takes groups from people, or from one person alone, and is never held. */
  holdable?: HoldableChange<CommandOf<Type>>;
  /** What is held of these people no longer counts once the command is performed. Absent: nothing is. */
  answers?: (command: CommandOf<Type>) => Readonly<{ subject: string; users: readonly UserId[] }>;
  /** The person whose key performing the command may need. Absent: no person. */
  person?: (command: CommandOf<Type>, projection: Projection) => UserId | undefined;
  perform: (projection: Projection, command: CommandOf<Type>, tools: Tools) => Performed;
}>;
