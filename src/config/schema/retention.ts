/** Schema of the `broker` keys about snapshots, retention and the archive. Pure. */
import { duration } from "../values/network-values.ts";
import { booleanValue, integer } from "../values/value-type.ts";
import { cardea } from "./keys.ts";

export const retentionKeys = {
  snapshot_every: cardea(
    integer({ min: 100, max: 100_000_000 }).prefault(50_000),
    "The leading broker takes a snapshot after this many events. Snapshots are in `snapshots` of the data folder.",
    { reload: "restart", inConfig: "value" },
  ),
  snapshot_refresh: cardea(
    duration({ min: "1s" }).prefault("5m"),
    "About how often a node, and a broker that does not lead, checks for a newer snapshot to copy.",
    { reload: "restart", inConfig: "milliseconds" },
  ),
  retention: cardea(
    duration({ min: "1s" }).prefault("720h"),
    "The minimum time for which events are kept. Older ones are dropped once two snapshots include them and no node with a lease needs them.",
    { reload: "restart", inConfig: "milliseconds" },
  ),
  archive: cardea(
    duration().prefault("2160h"),
    "For how long each broker keeps what `retention` drops, in `snapshots` of its data folder: events, compressed, and a snapshot for each day. Explanations and access reports of that time need them. 0: nothing is kept.",
    { reload: "restart", inConfig: "milliseconds" },
  ),
  archive_max_bytes: cardea(
    integer({ min: 1_048_576, max: 1_000_000_000_000_000 }).prefault(10_737_418_240),
    "The maximum size, in bytes, of that archive on one broker; the oldest days are removed first.",
    { reload: "restart", inConfig: "value" },
  ),
  legal_hold: cardea(booleanValue().prefault(false), "True: no event is dropped, whatever its age.", {
    reload: "restart",
    inConfig: "value",
  }),
};
