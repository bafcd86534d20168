/**
 * Explanation of a decision: `POST /explain` with the id of a decision that this node still holds, or with a stored
 * record.
 *
 * It shows ids, kinds, times and actors of events, never personal data.
 */
import { type Explained, explainDecision, recordIdOf } from "../audit/index.ts";
import type { DecisionRecord } from "../auth/index.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "./operator-route.ts";
import { explainSchema } from "./operator-schemas.ts";

const explainMs = 20_000;
const recordBytesMax = 256 * 1024;
/** `others`: ids of other decisions about the same request. */
export type ExplainAnswer = Explained & Readonly<{ others: readonly string[] }>;

export function registerExplain(route: RegisterRoute, deps: OperatorApiDeps): void {
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
      const explained = await explainDecision(given, (what) => deps.databroker.history(what), {
        mayContinue: () => deps.now() < until,
      });
      const answer: ExplainAnswer = { ...explained, others: others.map(recordIdOf) };
      return answer;
    },
    { bodyBytesMax: recordBytesMax },
  );
}
