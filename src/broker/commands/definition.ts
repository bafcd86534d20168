/**
 * Command definition: everything that a broker knows about one type of command. Only types.
 *
 * - `schema` parses what arrived over the wire. It keeps only the fields that it knows.
 * - `permission` lists the roles that may submit the command; docs/roles.md shows the lists.
 * - `access` names the streams that performing it reads and writes.
 * - `perform` turns the command into events. It never throws because of what a caller requested.
 */
import type { Command, Projection, UserId } from "../../events/index.ts";
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

export type CommandDefinition<Type extends Command["type"]> = Readonly<{
  /** @throws MalformedCommandError, or an error of the id parsers */
  schema: (fields: Fields) => CommandOf<Type>;
  permission: readonly Submitter[];
  /** A further condition for a role that `permission` lists. Absent: none. */
  isPermitted?: (role: Submitter, command: CommandOf<Type>) => boolean;
  /** The command records a final denial, so it overtakes the others. Absent: it does not. */
  tightens?: true;
  access: (command: CommandOf<Type>, projection: Projection) => Access;
  /** The person whose key performing the command may need. Absent: no person. */
  person?: (command: CommandOf<Type>, projection: Projection) => UserId | undefined;
  perform: (projection: Projection, command: CommandOf<Type>, tools: Tools) => Performed;
}>;
