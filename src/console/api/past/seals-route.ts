/**
 * Seals of audit records: `GET /audit/seals`, a page of events of the log with the links before them, newest first.
 * docs/audit-proofs.md
 */
import { type EvidenceLine, formatEvidence } from "../../../audit/index.ts";
import { auditStream, type Position } from "../../../events/index.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { sealsSchema } from "./seals-schemas.ts";

/** Positions of the log that one request searches. */
const searchDepth = 10_000;
/** Seals of one page, of at most 14 KB as text. In a large cluster most events of a quiet hour are seals. */
const sealsMax = 200;
/** The signature of each is verified, so other work gets its turn after so many. */
const sealsAtOnce = 25;

export type SealsPage = Readonly<{
  seals: readonly EvidenceLine[];
  /** To continue, request with this as `upTo`; null: the log has no older events. */
  next: number | null;
}>;

export function registerSeals(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /audit/seals", async (request, reply): Promise<unknown> => {
    const parsed = sealsSchema.safeParse(request.query);
    if (!parsed.success) return badRequest(reply, parsed.error);
    const upTo = (parsed.data.upTo ?? deps.replica.projection.applied.position) as Position;
    const page = await deps.databroker.history({ streams: [auditStream], upTo, depth: searchDepth });
    if (page.damagedAt !== null)
      return reply.code(503).send({ error: `the log is damaged at position ${page.damagedAt}` });
    const newest = page.found.slice(-sealsMax);
    const seals: EvidenceLine[] = [];
    for (const [at, found] of newest.toReversed().entries()) {
      if (at > 0 && at % sealsAtOnce === 0) await deps.sleep(0, new AbortController().signal);
      seals.push(formatEvidence({ ...found, receipt: null }));
    }
    const [oldest] = newest;
    const isCut = oldest !== undefined && newest.length < page.found.length;
    const searchedTo = isCut ? oldest.previous.position : page.searchedTo;
    const answer: SealsPage = { seals, next: page.at === null || searchedTo <= page.base ? null : searchedTo };
    return answer;
  });
}
