/**
 * Recorded outcome: the event of the log that a command produced, and its link. Pure.
 *
 * The log's table of commands names a position alone, and positions repeat: two reads may come from two servers, one of them an old
 * primary, and what stands there in one history may be somebody else's in another. So the event itself is read, and must name the
 * command as its cause: its link is then the command's in whatever history it is looked for.
 */
import { type CommandId, decodeEvents, type Link, linkOf, type Position, parsePosition } from "../../events/index.ts";
import type { LogAnswer } from "../core/messages.ts";

/** Where the last event of a command stands. */
export function lastPositionOf({ first, count }: Readonly<{ first: Position; count: number }>): Position {
  return parsePosition(first + Math.max(1, count) - 1);
}

/**
 * @param outcome of reading one event behind the link before `position`
 * @returns its link; `gone`: retention has let go of it; `other`: what stands there is not the command's; `unknown`: no answer
 */
export function linkRecordedBy(
  commandId: CommandId,
  position: Position,
  outcome: LogAnswer,
): Link | "truncated" | "other" | "unknown" {
  switch (outcome.type) {
    case "page": {
      const { entries, previous } = outcome.page;
      const [recorded] = decodeEvents(entries.slice(0, 1), previous);
      return recorded?.position === position && recorded.cause === commandId ? linkOf(recorded) : "other";
    }
    case "truncated":
      return "truncated";
    case "forked":
      return "other";
    default:
      return "unknown";
  }
}
