/**
 * Lease refusals between builds one version apart.
 *
 * Brokers of the new build send a code next to the sentence. Nodes of older builds read only the sentence. Pure.
 */
import type { LeaseRefusal } from "../../src/replication/lease/index.ts";
import { formatLeaseRefusal, type LeaseRefusalBody, parseLeaseRefusal } from "../../src/replication/wire/index.ts";
import { builds } from "./builds.ts";

/** The refusal body that a broker of this build sends. */
export function sentRefusal(build: string, refusal: LeaseRefusal): LeaseRefusalBody {
  const { reason, code } = formatLeaseRefusal(refusal);
  return build === builds.new ? { reason, code } : { reason };
}

/** The refusal that a node or a regional broker of this build parses. */
export function receivedRefusal(build: string, { reason, code }: LeaseRefusalBody): LeaseRefusal {
  const refusal = parseLeaseRefusal(build === builds.new ? { reason, code } : { reason });
  if (refusal === undefined) throw new Error("a refusal without a sentence");
  return refusal;
}
