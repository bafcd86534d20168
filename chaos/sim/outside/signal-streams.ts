/** Signal streams: the receiver of the cluster's own signals creates its stream, through an authenticate node. */
import { formatRecord, newStream } from "../../../src/auth/authenticate/transmitter/stream-record.ts";
import { pushMethod } from "../../../src/auth/shared-signals/index.ts";
import { type Command, type Link, parseCommandId } from "../../../src/events/index.ts";
import { type OutsideParts, wallOf } from "./outside-parts.ts";
import { receiverName } from "./provisioned-people.ts";

const fromMs = 4_000;
const againMs = 500;
const delivery = {
  method: pushMethod,
  endpoint_url: "https://watcher.example/signals",
  authorization_header: null,
} as const;

export function createStream(parts: OutsideParts): void {
  const { actors, random, client, submit } = parts;
  const attempt = (): void => {
    const at: Link | undefined = random.pick(actors.nodes).copy()?.projection.applied;
    const again = (): void => void actors.world.after(againMs, attempt);
    if (at === undefined) {
      again();
      return;
    }
    const of = { streamId: random.uuid(), createdAt: wallOf(actors), delivery, requested: null, description: null, at };
    const stream = newStream(of);
    const command: Command = {
      type: "writeSignalStream",
      ...{ receiver: receiverName, expected: 0, streamId: stream.streamId, delivered: at.position },
      record: formatRecord({ salt: random.uuid(), stream }),
      status: "enabled",
    };
    const commandId = parseCommandId(random.uuid());
    submit({ commandId, actor: `service:signals/${receiverName}`, command }, client(random.next()), (result) => {
      // Below the level, or the log has lost it: an empty one may be created again.
      if (result.type === "refused" && !/has changed/.test(result.message)) again();
    });
  };
  actors.world.at(fromMs, attempt);
}
