/**
 * End access request: the person withdraws a request that waits, or the access that it gave ends before its time. Pure.
 *
 * What has ended already changes nothing, so a repetition is harmless.
 */
import { isOpenRequest, parseCommandId } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { nothing, recordChanges, refuseCommand } from "../performed.ts";
import {
  accessEnd,
  accessOfDecision,
  belowRequestLevel,
  isOwnDecider,
  parseDecider,
  refuseDecider,
  unknownRequest,
} from "./request-parts.ts";

export const endAccessRequest: CommandDefinition<"endAccessRequest"> = {
  schema: (fields) => ({
    type: "endAccessRequest",
    requestId: parseCommandId(fields["requestId"]),
    by: parseDecider(fields["by"]),
  }),
  permission: ["authenticate", "operator"],
  isPermitted: (role, { by }) => by.type !== "operator" || role === "operator",
  isOwn: ({ by }, actor) => isOwnDecider(by, actor),
  access: (command, projection) => accessOfDecision(command, projection),
  perform(projection, { requestId, by }, tools) {
    const below = belowRequestLevel(projection);
    if (below !== undefined) return below;
    const request = projection.accessRequests.get(requestId);
    if (request === undefined) return unknownRequest;
    const refused = refuseDecider(projection, { by, request }, tools);
    if (refused !== undefined) return refused;
    if (!isOpenRequest(request)) return nothing;
    const { userId, status } = request;
    if (status === "pending" && by.type !== "requester")
      return refuseCommand("conflict", "the request waits for a decision: deny it");
    const outcome = status === "pending" ? "withdrawn" : "ended";
    return recordChanges([
      ...accessEnd(projection, request),
      { type: "AccessRequestEnded", requestId, userId, outcome },
    ]);
  },
};
