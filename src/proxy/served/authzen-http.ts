/** AuthZEN over HTTP: paths, keys, statuses and the request id of OpenID Authorization API 1.0; authzen.ts knows the rest. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { AuthzenError } from "./authzen.ts";
import { requestIdPattern, type Serving } from "./served.ts";

export function registerAuthzen(app: FastifyInstance, serving: Serving, scheme: "http" | "https"): void {
  const { answered } = serving;
  const served = serving.current;
  app.addHook("onRequest", async (request, reply) => {
    const id = request.headers["x-request-id"];
    if (typeof id === "string" && requestIdPattern.test(id)) reply.header("x-request-id", id);
    reply.header("cache-control", "no-store");
    if (!request.url.startsWith("/access/")) return;
    if (served().mayAsk.keyHolder(request.headers.authorization) !== undefined) return;
    answered.inc({ form: "authzen", result: "unauthenticated" });
    return reply.code(401).header("www-authenticate", "Bearer").type("text/plain").send("a key is required\n");
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const status = error instanceof AuthzenError ? 400 : (error.statusCode ?? 500);
    if (status >= 500) served().ports.logger.error({ error: String(error) }, "a decision could not be made");
    return reply
      .code(status)
      .type("text/plain")
      .send(status >= 500 ? "internal error\n" : `${error.message}\n`);
  });
  app.setNotFoundHandler((_request, reply) => reply.code(404).type("text/plain").send("nothing is here\n"));

  app.get("/.well-known/authzen-configuration", (request) => {
    const base = `${scheme}://${request.headers.host ?? "localhost"}`;
    return {
      policy_decision_point: base,
      access_evaluation_endpoint: `${base}/access/v1/evaluation`,
      access_evaluations_endpoint: `${base}/access/v1/evaluations`,
      search_action_endpoint: `${base}/access/v1/search/action`,
      search_resource_endpoint: `${base}/access/v1/search/resource`,
    };
  });

  const idOf = (request: FastifyRequest, reply: FastifyReply): string =>
    String(reply.getHeader("x-request-id") ?? request.id);
  app.post("/access/v1/evaluation", async (request, reply) => {
    const answer = await served().authzen.evaluation(request.body, idOf(request, reply));
    answered.inc({ form: "authzen", result: String(answer.context["result"]) });
    if (answer.context["result"] === "unavailable")
      return reply
        .code(503)
        .header("retry-after", "1")
        .type("text/plain")
        .send(`${String(answer.context["reason"])}\n`);
    return answer;
  });
  app.post("/access/v1/evaluations", async (request, reply) => {
    const answer = await served().authzen.evaluations(request.body, idOf(request, reply));
    for (const { context } of "evaluations" in answer ? answer.evaluations : [answer])
      answered.inc({ form: "authzen", result: String(context["result"]) });
    return answer;
  });
  app.post("/access/v1/search/action", (request) => served().authzen.searchActions(request.body));
  app.post("/access/v1/search/resource", (request) => served().authzen.searchResources(request.body));
}
