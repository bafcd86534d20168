/**
 * Home lookup: whether the home region is out of reach, asked of the broker when a node may not confirm a session.
 *
 * Callers without a credential can cause the question. So at most one is in flight, and its answer is used for a while.
 */
import type { Databroker, HomeOutOfReach } from "../../replication/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";

const answerMs = 1_000;

/** @returns null: the home region answers, or the broker does not say */
export function createHomeLookup(
  deps: Readonly<{ databroker: Pick<Databroker, "status">; monotonic: () => number }>,
): () => Promise<HomeOutOfReach | null> {
  let askedAt = Number.NEGATIVE_INFINITY;
  let answer: Promise<HomeOutOfReach | null> = Promise.resolve(null);

  async function ask(): Promise<HomeOutOfReach | null> {
    try {
      return (await deps.databroker.status({ nodes: "omitted" })).home ?? null;
    } catch (error) {
      if (error instanceof BrokerUnavailableError) return null;
      throw error;
    }
  }

  return () => {
    if (deps.monotonic() >= askedAt + answerMs) {
      askedAt = deps.monotonic();
      answer = ask();
    }
    return answer;
  };
}

/** The answer to an administrator whose session this node may not confirm meanwhile. */
export function describeHome({ leasesUntil }: HomeOutOfReach): string {
  const until = leasesUntil === null ? "its leases by age have ended" : `leases by age until ${iso(leasesUntil)}`;
  return (
    `the home region is out of reach (${until}), so this region confirms no administrator's session; ` +
    "use an operator token, or the operator API of the home region"
  );
}

function iso(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}
