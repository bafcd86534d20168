/**
 * Call guard: authenticates each call and signs each answer.
 *
 * - The caller is identified before a byte of the body is read, and the body is compared with the token before it is
 *   parsed.
 * - A call is accepted once (replay-guard.ts).
 * - Every answer to an authenticated call is sealed with the broker's key, refusals too. Refused calls are counted.
 *
 * What this prevents and what it does not: docs/adr/0011.
 */
import type { FastifyInstance, FastifyRequest } from "fastify";
import { parseBootId } from "../../events/index.ts";
import type { Clock } from "../../replication/index.ts";
import {
  answererOf,
  answerHeader,
  BrokerUnavailableError,
  bodyDigest,
  callText,
  homeHeader,
  sealAnswer,
} from "../../replication/wire/index.ts";
import { type CallOrigin, forwardedHeader, forwardedValues } from "./leader-router.ts";
import { createReplayGuard } from "./replay-guard.ts";
import { type CallProof, createTokenVerifier, toleranceSeconds, UnauthenticatedError } from "./service-token.ts";

export type CallGuard = Readonly<{
  /** @throws UnauthenticatedError */
  originOf: (request: FastifyRequest) => CallOrigin;
  /** Call it with the raw body, before it is parsed. @throws UnauthenticatedError */
  checkBody: (request: FastifyRequest, body: Uint8Array) => void;
  refused: () => number;
  /** Refused calls that had arrived before. */
  replayed: () => number;
}>;

/** Enough for thousands of nodes during the life of a proof. */
const callsMax = 500_000;

type AdmittedCall = Readonly<{ callOrigin: CallOrigin; proof: CallProof }>;

export function guardCalls(
  app: FastifyInstance,
  of: Readonly<{
    cluster: string;
    brokerId: string;
    secret: Uint8Array;
    previousSecret: Uint8Array | null;
    clock: Clock;
    random: (bytes: number) => Uint8Array;
  }>,
): CallGuard {
  const { cluster, clock } = of;
  const secrets = [of.secret, ...(of.previousSecret === null ? [] : [of.previousSecret])];
  const verify = createTokenVerifier({ cluster, secrets, clock });
  const boot = parseBootId(Buffer.from(of.random(16)).toString("hex"));
  const answerer = answererOf({ cluster, name: of.brokerId, boot, secret: of.secret, seed: of.random(32) });
  const admitted = new WeakMap<FastifyRequest, AdmittedCall>();
  const checked = new WeakSet<FastifyRequest>();
  const nowS = (): number => clock.wall() / 1_000;
  const replayGuard = createReplayGuard({ since: nowS() - toleranceSeconds, toleranceS: toleranceSeconds, callsMax });
  let refused = 0;
  let replayed = 0;

  function identify(authorization: string | undefined): ReturnType<typeof verify> {
    try {
      return verify(authorization);
    } catch (error) {
      refused += 1;
      throw error;
    }
  }

  app.addHook("onRequest", async (request) => {
    if (!request.url.startsWith("/v1/")) return;
    const { role, name, ...proof } = identify(request.headers.authorization);
    if (proof.call !== callText({ method: request.method, path: request.url })) {
      refused += 1;
      throw new UnauthenticatedError({ reason: "another-call" });
    }
    const { callId: id, issuedAt, until } = proof;
    const admission = replayGuard.admit({ id, issuedAt, until }, nowS());
    if (admission === "full") throw new BrokerUnavailableError("too many calls within a minute");
    if (admission === "replayed") {
      refused += 1;
      replayed += 1;
      throw new UnauthenticatedError({ reason: "replayed" });
    }
    const isRegional = request.headers[forwardedHeader] === forwardedValues.regional;
    const callOrigin = { origin: "remote", hop: hopOf(request), isRegional, caller: { role, name } } as const;
    admitted.set(request, { callOrigin, proof });
  });

  function checkBody(request: FastifyRequest, body: Uint8Array | undefined): void {
    checked.add(request);
    const expectedDigest = admitted.get(request)?.proof.body;
    if (expectedDigest === undefined || expectedDigest === bodyDigest(body)) return;
    refused += 1;
    admitted.delete(request);
    throw new UnauthenticatedError({ reason: "another-call" });
  }

  app.addHook("preValidation", async (request) => {
    if (!checked.has(request)) checkBody(request, undefined);
  });

  app.addHook("onSend", async (request, reply, payload) => {
    const callId = admitted.get(request)?.proof.callId;
    const body = bodyOf(payload);
    if (callId !== undefined && body !== undefined)
      reply.header(answerHeader, sealAnswer(answerer, { callId, status: reply.statusCode, body }));
    return payload;
  });

  return {
    originOf(request) {
      const callOrigin = admitted.get(request)?.callOrigin;
      if (callOrigin === undefined) throw new UnauthenticatedError();
      return callOrigin;
    },
    checkBody,
    refused: () => refused,
    replayed: () => replayed,
  };
}

function hopOf({ headers }: FastifyRequest): CallOrigin["hop"] {
  if (headers[forwardedHeader] !== undefined) return "forwarded";
  return headers[homeHeader] === undefined ? "direct" : "regional";
}

/** Undefined for a stream: its hash is not known yet, and its reader verifies the content. */
function bodyOf(payload: unknown): Uint8Array | undefined {
  if (payload === null || payload === undefined) return new Uint8Array();
  if (typeof payload === "string") return Buffer.from(payload);
  return payload instanceof Uint8Array ? payload : undefined;
}
