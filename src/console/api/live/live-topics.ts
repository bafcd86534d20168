/**
 * Live topics: the sources of the live stream. An area adds its own here, and its name in live-operations.ts. Pure,
 * except for its dependencies.
 */
import type { OperatorApiDeps } from "../operator-route.ts";
import type { Counter } from "./counter.ts";
import {
  type ClusterView,
  type Health,
  healthOf,
  type NodeTile,
  tilesOf,
  unansweredHealth,
  withoutState,
} from "./health.ts";
import type { LiveSource } from "./live-hub.ts";
import type { LiveTopicName } from "./live-operations.ts";

type Parts = Pick<OperatorApiDeps, "databroker" | "replica" | "sleep"> & Readonly<{ counter: Counter }>;

const statusMs = 1_000;
/** A large cluster is drawn less often, so that a stream carries about as much. */
const nodesAtFullRate = 50;
const countsMs = 1_000;

export function liveSources(parts: Parts): Readonly<Record<LiveTopicName, LiveSource>> {
  return {
    status: { kind: "state", unconfined: true, run: (publish, signal) => void runStatus(parts, publish, signal) },
    counts: { kind: "state", unconfined: true, run: (publish, signal) => void runCounts(parts, publish, signal) },
  };
}

async function runStatus(
  { databroker, sleep }: Parts,
  publish: (data: object) => void,
  signal: AbortSignal,
): Promise<void> {
  let tiles: readonly NodeTile[] = [];
  while (!signal.aborted) {
    const status: ClusterView | null = await databroker.status().catch(() => null); // the next round asks again
    if (status === null)
      publish({ leader: null, health: unansweredHealth, nodes: withoutState(tiles) } satisfies StatusView);
    else {
      const view = statusView(status);
      tiles = view.nodes;
      publish(view);
    }
    const nodes = status?.nodes.length ?? 0;
    await sleep(statusMs * Math.max(1, nodes / nodesAtFullRate), signal).catch(() => undefined);
  }
}

export type StatusView = Readonly<{
  leader: Readonly<{ brokerId: string; epoch: number; position: number }> | null;
  health: Health;
  nodes: readonly NodeTile[];
}>;

/** What the overview draws of the state of the cluster. */
export function statusView(status: ClusterView): StatusView {
  const { leader = null } = status;
  return {
    leader: leader === null ? null : { brokerId: leader.brokerId, epoch: leader.epoch, position: leader.head.position },
    health: healthOf(status),
    nodes: tilesOf(status),
  };
}

async function runCounts(
  { counter, replica, sleep }: Parts,
  publish: (data: object) => void,
  signal: AbortSignal,
): Promise<void> {
  let seen = "";
  while (!signal.aborted) {
    const { epoch, position } = replica.applied;
    const at = `${epoch}.${position}`;
    // What ends by time alone changes a count without an event.
    const counts = await counter.read({ waitMs: at === seen ? 0 : countsMs });
    seen = at;
    publish(counts);
    await sleep(countsMs, signal).catch(() => undefined);
  }
}
