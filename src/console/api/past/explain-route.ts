/**
 * Explanation of a decision: `POST /explain` with the id of a decision that this node still holds, or with a stored
 * record.
 *
 * - It shows ids, kinds, times and actors of events, never personal data.
 * - It decides the request again, from the facts at the link of the record and the configuration that the record names.
 *   A different answer is a contradiction, like an event that the log does not have.
 */
import {
  type Explained,
  explainDecision,
  LogUnreachableError,
  type Rederivation,
  recordIdOf,
  rederiveDecision,
} from "../../../audit/index.ts";
import type { DecisionRecord } from "../../../auth/index.ts";
import { formatLink, MalformedConfigBodyError, sameLink } from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { explainSchema } from "../operator-schemas.ts";
import type { PastLog } from "./past-log.ts";

const explainMs = 20_000;
/** Reading the log up to the decision may take long. */
const rederiveMs = 90_000;
const recordBytesMax = 256 * 1024;

/** The decision, made again. `open`: why it could not be made again. */
export type Reproduction = Rederivation | Readonly<{ type: "open"; why: string }>;
export type ReproductionSource = Readonly<{
  /** The snapshot that the reading began with; 0: the first event. */
  snapshot: number;
  /** The person was erased since: what the policy reads of the profile is unknown. */
  erased: boolean;
}>;

/** `others`: ids of other decisions about the same request. */
export type ExplainAnswer = Explained &
  Readonly<{ others: readonly string[]; again: Reproduction; source: ReproductionSource | null }>;

export function registerExplain(route: RegisterRoute, deps: OperatorApiDeps, past: PastLog): void {
  route(
    "POST /explain",
    async (request, reply): Promise<unknown> => {
      const parsedBody = explainSchema.safeParse(request.body);
      if (!parsedBody.success) return badRequest(reply, parsedBody.error);
      const named = "id" in parsedBody.data ? deps.feed.findById(parsedBody.data.id) : [];
      const [newest, ...others] = named;
      const given = "record" in parsedBody.data ? (parsedBody.data.record as unknown as DecisionRecord) : newest;
      if (given === undefined)
        return reply.code(404).send({ error: "no such decision is among the newest ones that this server holds" });
      const until = deps.now() + explainMs;
      const explained = await explainDecision(given, past.history, {
        mayContinue: () => deps.now() < until,
      });
      const ending = new AbortController();
      reply.raw.once("close", () => ending.abort());
      const made =
        explained.broken.length > 0
          ? { again: open("the record contradicts the log"), source: null }
          : await decideAgain(given, { deps, past, ending });
      const answer: ExplainAnswer = { ...explained, others: others.map(recordIdOf), ...made };
      return answer;
    },
    { bodyBytesMax: recordBytesMax },
  );
}

/** The checks of other nodes' decisions, and the newest differences. */
export function registerRechecks(route: RegisterRoute, { rechecks }: Pick<OperatorApiDeps, "rechecks">): void {
  const nothing = { same: 0, different: 0, waiting: 0, skipped: {}, newest: [] };
  route("GET /rechecks", async () => ({ checking: rechecks !== undefined, ...(rechecks?.() ?? nothing) }));
}

type Made = Readonly<{ again: Reproduction; source: ReproductionSource | null }>;

async function decideAgain(
  record: DecisionRecord,
  { deps, past, ending }: Readonly<{ deps: OperatorApiDeps; past: PastLog; ending: AbortController }>,
): Promise<Made> {
  const failed = (why: string): Made => ({ again: open(why), source: null });
  const { recordReaderOf } = deps;
  if (recordReaderOf === undefined) return failed("this server does not read recorded requests");
  if (record.occasion === "closed") return failed("the end of a stream decides nothing");
  const lacks = missingIn(record);
  if (lacks !== undefined) return failed(`the record has no \`${lacks}\`, so it is not whole`);
  const endsAt = deps.now() + rederiveMs;
  const onProgress = (): void => {
    if (deps.now() >= endsAt) ending.abort(new LogUnreachableError("reading the log took longer than 90 seconds"));
  };
  const job = async (): Promise<Made> => {
    const configuration = await past.configuration(record.configHash);
    if (configuration === undefined)
      return failed(`the text of configuration ${record.configHash} is not stored (docs/operations.md)`);
    const { applied } = record;
    const { projection, link, began } = await past.stateAt(
      { position: applied.position },
      { onProgress, signal: ending.signal },
    );
    if (!sameLink(link, applied))
      return failed(
        link.position < applied.position
          ? `the log ends at ${formatLink(link)}, before the decision`
          : `the decision was made at ${formatLink(applied)}, and the log has ${formatLink(link)} there: its history was lost in a failover or a restore`,
      );
    const open: OperatorApiDeps["replica"]["open"] = (sealed, userId) => deps.replica.open(sealed, userId);
    const readRecord = recordReaderOf([...configuration.routes.values()].map(({ route }) => route));
    const again = rederiveDecision(record, { facts: { projection, open }, configuration, readRecord });
    const erased = record.userId !== null && deps.replica.projection.user(record.userId)?.status === "erased";
    return { again, source: { snapshot: began.position, erased } };
  };
  try {
    return await (past.alone(job) ?? failed("another report of the past runs on this server; ask again"));
  } catch (error) {
    if (error instanceof LogUnreachableError || error instanceof BrokerUnavailableError) return failed(error.message);
    if (error instanceof MalformedConfigBodyError) return failed(error.message);
    deps.log.info({ err: error, record: recordIdOf(record as never) }, "a decision could not be made again");
    return failed("internal error; the log of this server has it");
  }
}

/** A field of the request or of its answer that a record from a file does not have. */
function missingIn(record: DecisionRecord): string | undefined {
  const { routeId, reasons, status } = record;
  const text = (["occasion", "method", "host", "path", "ip"] as const).find((name) => typeof record[name] !== "string");
  if (text !== undefined) return text;
  if (routeId !== null && typeof routeId !== "string") return "routeId";
  if (typeof status !== "number") return "status";
  return Array.isArray(reasons) ? undefined : "reasons";
}

function open(why: string): Reproduction {
  return { type: "open", why };
}
