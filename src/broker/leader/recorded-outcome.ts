/**
 * Recorded outcome: the event of the log that a command produced, and its link. Pure.
 *
 * The log's table of commands has a position alone, and positions repeat: two reads may reach two servers, one of them
 * an old primary, and another history has another event at that position. So the event itself is read, and must name
 * the command as its cause. Its link then identifies it in any history.
 */
import {
  type CommandId,
  decodeEvents,
  type Link,
  linkOf,
  type MassChangeHeld,
  type Position,
  parsePosition,
} from "../../events/index.ts";
import type { LogAnswer } from "../core/messages.ts";

/** The position of a command's last event. */
export function lastPositionOf({ first, count }: Readonly<{ first: Position; count: number }>): Position {
  return parsePosition(first + Math.max(1, count) - 1);
}

/** `held`: the command was only held for an operator. */
export type CommandRecord = Readonly<{ link: Link; held: MassChangeHeld | null }>;

/**
 * @param outcome of reading one event after the link before `position`
 * @returns its link and what became of the command; `truncated`: retention has dropped it; `other`: another command's
 * event; `unknown`: no answer
 */
export function outcomeRecordedBy(
  commandId: CommandId,
  position: Position,
  outcome: LogAnswer,
): CommandRecord | "truncated" | "other" | "unknown" {
  switch (outcome.type) {
    case "page": {
      const { entries, previous } = outcome.page;
      const [recorded] = decodeEvents(entries.slice(0, 1), previous);
      if (recorded?.position !== position || recorded.cause !== commandId) return "other";
      return { link: linkOf(recorded), held: recorded.event.type === "MassChangeHeld" ? recorded.event : null };
    }
    case "truncated":
      return "truncated";
    case "forked":
      return "other";
    default:
      return "unknown";
  }
}
