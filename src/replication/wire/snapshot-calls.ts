/**
 * Snapshot calls: the HTTP requests by which a process fetches a snapshot from the brokers. A broker without a
 * snapshot, or without the requested chunk, causes the request to go to the next broker. The caller verifies what it
 * receives. Pure.
 */
import { decode, type Hash, type Position, type UserId, type WrappedKey } from "../../events/index.ts";
import type { SnapshotSupply } from "../snapshot/snapshot-supply.ts";
import { BrokerUnavailableError } from "./broker-unavailable-error.ts";
import { parseWrappedKey } from "./messages.ts";

export type SnapshotCall = Readonly<{
  method: "GET";
  path: string;
  answerMs: number;
  /** With one of these statuses the next broker is tried. The status is the answer only when all brokers return one. */
  elsewhere: readonly number[];
}>;
export type SnapshotAnswer = Readonly<{ status: number; body: Uint8Array }>;

/** Time limits, ms. A chunk is half a megabyte to a few megabytes, and a link between regions may be slow. */
const answerMs = { manifest: 5_000, chunk: 30_000, keys: 15_000 };

/** @param ask throws BrokerUnavailableError when no broker answers; a 503 is an answer */
export function snapshotSupplyOver(ask: (call: SnapshotCall) => Promise<SnapshotAnswer>): SnapshotSupply {
  async function get(path: string, ms: number, elsewhere: readonly number[]): Promise<Uint8Array | null> {
    const { status, body } = await ask({ method: "GET", path, answerMs: ms, elsewhere });
    if (elsewhere.includes(status)) return null;
    if (status === 200) return body;
    throw new BrokerUnavailableError(`a broker answered ${status} to a snapshot request`);
  }

  return {
    manifest: (newerThan: Position) => get(`/v1/snapshot?newer_than=${newerThan}`, answerMs.manifest, [204]),
    async chunk(hash: Hash) {
      return (await get(`/v1/snapshot/chunks/${hash}`, answerMs.chunk, [404])) ?? undefined;
    },
    async keysAfter(user: UserId | null) {
      const query = user === null ? "" : `?after=${encodeURIComponent(user)}`;
      const body = await get(`/v1/keys${query}`, answerMs.keys, []);
      return body === null ? [] : parseKeys(body);
    },
    manifestUpTo: (target) => {
      const query = "at" in target ? `recorded_by=${target.at}` : `up_to=${target.position}`;
      return get(`/v1/snapshot?${query}`, answerMs.manifest, [204]);
    },
    eventsAt: (position) => get(`/v1/snapshot/events/${position}`, answerMs.chunk, [404]),
  };
}

/** @throws BrokerUnavailableError */
function parseKeys(body: Uint8Array): readonly WrappedKey[] {
  try {
    const keys: unknown = decode(body);
    if (!Array.isArray(keys)) throw new TypeError("expected a list");
    return keys.map(parseWrappedKey);
  } catch (cause) {
    throw new BrokerUnavailableError("a broker's list of keys does not match its API", { cause });
  }
}
