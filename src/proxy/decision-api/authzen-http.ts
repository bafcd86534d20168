/**
 * AuthZEN over HTTP: the paths, keys, statuses and request id of OpenID Authorization API 1.0. authzen.ts does the
 * rest.
 *
 * - 200: a decision; a denial is one too.
 * - 400: the query is not valid. 401: no key. 403: the key may not make this query.
 * - 501: this server cannot list such resources. 503: this node does not know enough to decide.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Evaluation } from "./authzen.ts";
import { AuthzenError, AuthzenUnavailableError } from "./authzen-parser.ts";
import { type DecisionServices, requestIdPattern } from "./decision-service.ts";
import type { Searcher } from "./search-record.ts";

/** Request ids that are echoed unchanged. Records accept fewer (`requestIdPattern`). */
const echoedPattern = /^[\x20-\x7e]{1,256}$/;

export function registerAuthzen(app: FastifyInstance, serving: DecisionServices, scheme: "http" | "https"): void {
  const { decisions } = serving;
  const served = serving.current;
  app.addHook("onRequest", async (request, reply) => {
    const id = request.headers["x-request-id"];
    if (typeof id === "string" && echoedPattern.test(id)) reply.header("x-request-id", id);
    reply.header("cache-control", "no-store");
    if (!request.url.startsWith("/access/")) return;
    if (keyNameOf(request) !== undefined) return;
    decisions.inc({ form: "authzen", result: "unauthenticated" });
    return reply.code(401).header("www-authenticate", "Bearer").type("text/plain").send("a key is required\n");
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof AuthzenUnavailableError) return unavailable(reply, error.message);
    const status = statusOfError(error);
    if (status >= 500)
      served().deps.logger.error(
        { error: String(error) },
        "could not make a decision; answered with an internal error",
      );
    return reply
      .code(status)
      .type("text/plain")
      .send(status >= 500 ? "internal error\n" : `${error.message}\n`);
  });
  app.setNotFoundHandler((_request, reply) => reply.code(404).type("text/plain").send("not found\n"));

  app.get("/.well-known/authzen-configuration", (request) => {
    const base = `${scheme}://${request.headers.host ?? "localhost"}`;
    return {
      policy_decision_point: base,
      access_evaluation_endpoint: `${base}/access/v1/evaluation`,
      access_evaluations_endpoint: `${base}/access/v1/evaluations`,
      ...(served().listsPeople.size === 0 ? {} : { search_subject_endpoint: `${base}/access/v1/search/subject` }),
      search_action_endpoint: `${base}/access/v1/search/action`,
      search_resource_endpoint: `${base}/access/v1/search/resource`,
    };
  });

  app.post("/access/v1/evaluation", async (request, reply) =>
    answerOne(reply, await served().authzen.evaluation(request.body, idOf(request))),
  );
  app.post("/access/v1/evaluations", async (request, reply) => {
    const answer = await served().authzen.evaluations(request.body, idOf(request));
    if (!("evaluations" in answer)) return answerOne(reply, answer);
    for (const { context } of answer.evaluations) decisions.inc({ form: "authzen", result: String(context["result"]) });
    return answer;
  });
  app.post("/access/v1/search/action", (request) => served().authzen.search.actions(request.body, searcherOf(request)));
  app.post("/access/v1/search/resource", async (request, reply) => {
    const found = await served().authzen.search.resources(request.body, searcherOf(request));
    if (found !== null) return found;
    const why = "resources of this type cannot be listed: only those of the type route can\n";
    return reply.code(501).type("text/plain").send(why);
  });
  app.post("/access/v1/search/subject", async (request, reply) => {
    const { authzen, listsPeople } = served();
    const name = keyNameOf(request);
    if (name !== undefined && listsPeople.has(name)) return authzen.search.subjects(request.body, searcherOf(request));
    decisions.inc({ form: "authzen", result: "forbidden" });
    const why = "this key may not list people: decision_api.lists_people does not name it\n";
    return reply.code(403).type("text/plain").send(why);
  });

  function keyNameOf(request: FastifyRequest): string | undefined {
    return served().access.keyNameOf(request.headers.authorization);
  }

  function searcherOf(request: FastifyRequest): Searcher {
    return { name: keyNameOf(request) ?? "", requestId: idOf(request) };
  }

  function answerOne(reply: FastifyReply, answer: Evaluation): Evaluation | FastifyReply {
    const { result, reason } = answer.context;
    decisions.inc({ form: "authzen", result: String(result) });
    return result === "unavailable" ? unavailable(reply, String(reason)) : answer;
  }
}

function unavailable(reply: FastifyReply, why: string): FastifyReply {
  return reply.code(503).header("retry-after", "1").type("text/plain").send(`${why}\n`);
}

function idOf(request: FastifyRequest): string {
  const given = request.headers["x-request-id"];
  return typeof given === "string" && requestIdPattern.test(given) ? given : request.id;
}

function statusOfError(error: Error & { statusCode?: number }): number {
  if (error instanceof AuthzenError || error.statusCode === 415) return 400; // as the standard has it
  return error.statusCode ?? 500;
}
