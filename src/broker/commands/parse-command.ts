/**
 * Command parser: turns what arrived over the wire as `unknown` into a command, or refuses it whole. Pure.
 */
import { type Command, type CommandRequest, isPlainText, parseCommandId } from "../../events/index.ts";
import { parseFields } from "./catalog.ts";
import { type Fields, fieldsOf, MalformedCommandError } from "./fields.ts";

export { MalformedCommandError } from "./fields.ts";

/** @throws MalformedCommandError */
export function parseCommandRequest(value: unknown): CommandRequest {
  try {
    const request = fieldsOf(value, "request");
    return {
      commandId: parseCommandId(request["commandId"]),
      actor: parseActor(request["actor"]),
      command: parseCommand(fieldsOf(request["command"], "command")),
    };
  } catch (cause) {
    if (cause instanceof MalformedCommandError) throw cause;
    throw new MalformedCommandError(cause instanceof Error ? cause.message : "not a command", { cause });
  }
}

function parseCommand(fields: Fields): Command {
  const command = parseFields(fields);
  if (command === undefined) throw new MalformedCommandError("unknown command type");
  return command;
}

const actorPattern = /^(system|(user|operator|service):[^\s]{1,200})$/;

function parseActor(value: unknown): string {
  if (typeof value === "string" && actorPattern.test(value) && isPlainText(value)) return value;
  throw new MalformedCommandError("the actor is not `user:…`, `operator:…`, `service:…` or `system`");
}
