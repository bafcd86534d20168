/**
 * Lease refusals between builds that are one version apart: brokers of the new build send a code beside the sentence,
 * and nodes of older builds read the sentence alone. Pure.
 */
import {
  formatLeaseRefusal,
  type LeaseRefusal,
  type LeaseRefusalBody,
  parseLeaseRefusal,
} from "../../src/replication/index.ts";
import { builds } from "./builds.ts";

/** What a broker of this build sends. */
export function sentRefusal(build: string, refusal: LeaseRefusal): LeaseRefusalBody {
  const { reason, code } = formatLeaseRefusal(refusal);
  return build === builds.new ? { reason, code } : { reason };
}

/** What a node or a regional broker of this build reads. */
export function receivedRefusal(build: string, { reason, code }: LeaseRefusalBody): LeaseRefusal {
  const refusal = parseLeaseRefusal(build === builds.new ? { reason, code } : { reason });
  if (refusal === undefined) throw new Error("a refusal without a sentence");
  return refusal;
}
