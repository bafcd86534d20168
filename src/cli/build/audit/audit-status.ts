/**
 * Audit status of this process, and of the others of its cluster: each process with the sink `nats` reports its own
 * every ten seconds, and those that serve operators listen.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { NatsConnection } from "@nats-io/transport-node";
import {
  createStatusBoard,
  type HeardStatus,
  publishAuditStatus,
  type Recorder,
  type RecordSigner,
  receiveAuditStatus,
  signStatus,
  statusOf,
} from "../../../audit/index.ts";
import type { Config } from "../../../config/index.ts";

export type AuditStatusParts = Readonly<{
  /** This process first. */
  list(): readonly HeardStatus[];
  stop(): Promise<void>;
}>;

const reconnectMs = 2_000;

export function startAuditStatus(
  config: Config,
  context: Readonly<{
    node: string;
    boot: string;
    recorder: Recorder;
    signer: RecordSigner;
    secrets: readonly Uint8Array[];
    /** Null: this process is alone, or has no such sink. */
    connection: (() => Promise<NatsConnection>) | null;
  }>,
): AuditStatusParts {
  const { node, boot, recorder, connection } = context;
  const cluster = config.broker.clusterName;
  const own = () => {
    const where = { node, boot, region: config.region, atMs: Date.now(), spoolBytesMax: config.audit.spoolMaxBytes };
    return statusOf(recorder.stats(), where);
  };
  const stop = new AbortController();
  const { secrets } = context;
  const clocks = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  const board = createStatusBoard({ cluster, secrets, ...clocks });
  const wait = (ms: number): Promise<void> => sleep(ms, undefined, { signal: stop.signal });

  async function listen(connect: () => Promise<NatsConnection>): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        receiveAuditStatus(await connect(), cluster, board);
        return;
      } catch {
        await wait(reconnectMs).catch(() => undefined); // NATS is away; until then there is this process alone
      }
    }
  }

  const running =
    connection === null
      ? []
      : [
          publishAuditStatus({
            connection,
            cluster,
            sleep: wait,
            signal: stop.signal,
            report: () => signStatus(own(), context.signer),
          }),
          ...(config.services.has("authenticate") ? [listen(connection)] : []),
        ];
  return {
    list: () => [{ ...own(), heardAgoMs: 0 }, ...board.list().filter((one) => one.node !== node)],
    async stop() {
      stop.abort();
      await Promise.all(running);
    },
  };
}
