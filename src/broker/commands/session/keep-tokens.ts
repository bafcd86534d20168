/** Keep tokens: ends an intent to refresh; the vault keeps the tokens. Pure. */
import { parseEpoch, parseSessionId } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { parseTokenFields, tokenVersionOf } from "../fields.ts";
import { replaceTokens, tokenAccess } from "./session-parts.ts";

export const keepTokens: CommandDefinition<"keepTokens"> = {
  schema: (fields) => ({
    type: "keepTokens",
    sessionId: parseSessionId(fields["sessionId"]),
    tokens: parseTokenFields(fields["tokens"]),
    tokenVersion: tokenVersionOf(fields),
    obtainedIn: fields["obtainedIn"] === null ? null : parseEpoch(fields["obtainedIn"]),
  }),
  permission: ["duty", "broker"], // a broker: for an answer that arrives after its epoch has ended
  access: tokenAccess,
  perform(projection, command, tools) {
    const { tokens, obtainedIn } = command;
    return replaceTokens(projection, command, { tools, entry: { tokens, obtainedIn, presentation: null } });
  },
};
