/**
 * Start refresh: an intent to present a refresh token. Of all brokers that read one vault entry, the log accepts one
 * intent: the entry's version is that of the session's stream, and the intent raises it. Pure.
 */
import { parseEpoch, parseSessionId, parseUnixMs } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { parseTokenFields, tokenVersionOf } from "../fields.ts";
import { replaceTokens, tokenAccess } from "./session-parts.ts";

export const startRefresh: CommandDefinition<"startRefresh"> = {
  schema: (fields) => ({
    type: "startRefresh",
    sessionId: parseSessionId(fields["sessionId"]),
    tokens: parseTokenFields(fields["tokens"]),
    tokenVersion: tokenVersionOf(fields),
    obtainedIn: fields["obtainedIn"] === null ? null : parseEpoch(fields["obtainedIn"]),
    deadline: parseUnixMs(fields["deadline"]),
  }),
  permission: ["duty"],
  access: tokenAccess,
  perform(projection, command, tools) {
    const { tokens, obtainedIn, tokenVersion, deadline } = command;
    const presentation = { tokenVersion, epoch: tools.epoch, deadline };
    return replaceTokens(projection, command, { tools, entry: { tokens, obtainedIn, presentation } });
  },
};
