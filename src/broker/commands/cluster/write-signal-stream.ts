/**
 * Write signal stream: replaces what is kept for a receiver of Shared Signals. Of all processes that read one version,
 * the log accepts one write. Pure.
 */
import {
  isSignalReceiverName,
  parsePosition,
  signalStream,
  signalStreamCharsMax,
  signalStreamsFrom,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { type Fields, integerOf, MalformedCommandError, textOf } from "../fields.ts";
import { recordChanges, refuseCommand } from "../performed.ts";
import { sealSignalStream } from "../vault.ts";

const statuses = ["enabled", "paused", "disabled", "none"] as const;

export const writeSignalStream: CommandDefinition<"writeSignalStream"> = {
  schema(fields) {
    const receiver = textOf(fields, "receiver");
    const status = statuses.find((each) => each === fields["status"]);
    const { record } = fields;
    if (!isSignalReceiverName(receiver)) throw new MalformedCommandError("not the name of a receiver");
    if (status === undefined) throw new MalformedCommandError(`status is not one of ${statuses.join(", ")}`);
    if (typeof record !== "string" || record.length > signalStreamCharsMax)
      throw new MalformedCommandError(`record is not text of at most ${signalStreamCharsMax} characters`);
    return {
      type: "writeSignalStream",
      receiver,
      expected: integerOf(fields, "expected", { min: 0, max: Number.MAX_SAFE_INTEGER }),
      record,
      streamId: streamIdIn(fields),
      status,
      delivered: parsePosition(fields["delivered"]),
    };
  },
  permission: ["duty", "authenticate", "operator"],
  access: ({ receiver }) => ({ reads: [], writes: [signalStream(receiver)] }),
  perform(projection, { receiver, expected, record, streamId, status, delivered }, tools) {
    const { level } = projection;
    if (level < signalStreamsFrom) {
      const remedy = "upgrade every broker and node, then run `cardea cluster finalize`";
      const needs = `the cluster is at level ${level}, and Shared Signals need level ${signalStreamsFrom}`;
      return refuseCommand("conflict", `${needs}: ${remedy}`);
    }
    const version = tools.versionOf(signalStream(receiver));
    if (version !== expected) return refuseCommand("conflict", "the stream of the receiver has changed");
    const { vaultKey } = tools;
    const vault = sealSignalStream({ version: version + 1, record }, { receiver, vaultKey, nonce: tools.random(12) });
    return recordChanges([{ type: "SignalStreamChanged", receiver, streamId, status, delivered }], { vault: [vault] });
  },
};

function streamIdIn(fields: Fields): string | null {
  if (fields["streamId"] === null) return null;
  const streamId = textOf(fields, "streamId");
  if (!/^[A-Za-z0-9._~-]{1,64}$/.test(streamId)) throw new MalformedCommandError("streamId is not an id of a stream");
  return streamId;
}
