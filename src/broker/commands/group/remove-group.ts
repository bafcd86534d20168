/** Remove group: the group and all its memberships. Pure. */
import { deletionSubject, groupStream, parseGroupId } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { recordChanges, refuseCommand } from "../performed.ts";

export const removeGroup: CommandDefinition<"removeGroup"> = {
  schema: (fields) => ({ type: "removeGroup", groupId: parseGroupId(fields["groupId"]) }),
  permission: ["operator"],
  access: ({ groupId }) => ({ reads: [], writes: [groupStream(groupId)] }),
  holdable: {
    subject: ({ groupId }) => deletionSubject(groupStream(groupId)),
    replaces: ({ groupId }) => [groupStream(groupId)],
    mayTake: () => true,
    isWhole: () => true,
    people: () => ({ added: [], removed: [] }),
    withPeople: (command) => command,
    atRelease: (command) => command,
  },
  perform(projection, { groupId }) {
    if (projection.group(groupId) === undefined) return refuseCommand("not-found", "there is no such group");
    return recordChanges([{ type: "GroupRemoved", groupId }]);
  },
};
