/** Activate configuration: the configuration that a node runs. Pure. */
import { configurationStream, parseConfigBody, parseConfigHash, parseNodeId } from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { recordChanges } from "../performed.ts";

export const activateConfiguration: CommandDefinition<"activateConfiguration"> = {
  schema(fields) {
    const nodeId = parseNodeId(fields["nodeId"]);
    const configHash = parseConfigHash(fields["configHash"]);
    const { body } = fields; // an older build sends none
    return {
      type: "activateConfiguration",
      nodeId,
      configHash,
      ...(body === undefined ? {} : { body: parseConfigBody(body, configHash) }),
    };
  },
  permission: ["proxy", "authorize", "authenticate"],
  access: ({ nodeId }) => ({ reads: [], writes: [configurationStream(nodeId)] }),
  /**
   * Records it again if it brings a body that the store may not have: a body is stored with the event that names it.
   */
  perform(_projection, command, tools) {
    const { nodeId, configHash } = command;
    const body = tools.hasBody(configHash) ? undefined : command.body;
    if (body === undefined && tools.configOf(nodeId) === configHash) return recordChanges([]);
    const configurations = body === undefined ? [] : [{ configHash, body, recordedAt: tools.now }];
    return recordChanges([{ type: "ConfigurationActivated", nodeId, configHash }], { configurations });
  },
};
