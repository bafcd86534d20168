/** Checks and table tests of a policy that is not in force: `POST /policy/check` and `POST /policy/test`. */
import type { FastifyReply } from "fastify";
import type { RouteConfig } from "../../../config/index.ts";
import { badRequest, type Operator, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { findBase, findRoute, type LabProblem, visibleRoutes } from "./lab-base.ts";
import { checkSchema, policyCharsMax, testSchema } from "./lab-schemas.ts";
import { type PolicyLab, PolicyLabError } from "./policy-lab.ts";

/** Two texts of characters of up to four bytes, escaped as JSON. */
export const labBodyBytesMax = 16 * policyCharsMax;

export function registerPolicyTexts(route: RegisterRoute, deps: OperatorApiDeps): void {
  route(
    "POST /policy/check",
    async (request, reply, caller) => {
      const body = checkSchema.safeParse(request.body);
      if (!body.success) return badRequest(reply, body.error);
      const around = await routeAround(deps, body.data, caller);
      if (around !== null && "error" in around) return reply.code(around.status).send({ error: around.error });
      return runLab(deps, reply, async (lab) => {
        const { ppl: _ppl, ...checked } = await lab.check({ text: body.data.text, route: around });
        return checked;
      });
    },
    { bodyBytesMax: labBodyBytesMax },
  );
  route(
    "POST /policy/test",
    async (request, reply, caller) => {
      const body = testSchema.safeParse(request.body);
      if (!body.success) return badRequest(reply, body.error);
      const { text, cases } = body.data;
      const around = await routeAround(deps, body.data, caller);
      if (around !== null && "error" in around) return reply.code(around.status).send({ error: around.error });
      // JSON is YAML.
      const table = typeof cases === "string" ? cases : JSON.stringify({ cases });
      if (table.length > policyCharsMax)
        return reply.code(400).send({ error: `a table has at most ${policyCharsMax} characters` });
      return runLab(deps, reply, (lab) => lab.test({ text, table, route: around }));
    },
    { bodyBytesMax: labBodyBytesMax },
  );
}

async function routeAround(
  deps: OperatorApiDeps,
  { route, base }: Readonly<{ route?: string | undefined; base?: string | undefined }>,
  caller: Operator,
): Promise<RouteConfig | LabProblem | null> {
  if (route === undefined) return null;
  const found = await findBase(deps, base);
  return "error" in found ? found : findRoute(found, route, visibleRoutes(deps, caller));
}

/** Calls the lab, and answers its errors. */
export async function runLab<T>(
  { policyLab }: Pick<OperatorApiDeps, "policyLab">,
  reply: FastifyReply,
  call: (lab: PolicyLab) => Promise<T>,
): Promise<T | FastifyReply> {
  if (policyLab === undefined) return reply.code(404).send({ error: "this server does not check policies" });
  try {
    return await call(policyLab);
  } catch (error) {
    if (!(error instanceof PolicyLabError)) throw error;
    if (error.why === "costly") return reply.code(400).send({ error: error.message, code: "policy-too-costly" });
    return reply.code(503).header("retry-after", "2").send({ error: error.message, code: "policy-lab-busy" });
  }
}
