/**
 * Operator API for the transmitters of signals: their streams, which the transmitters keep. A request here is a request
 * there; 502 says that the transmitter refused it or did not answer.
 */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import { parseSubject, TransmitterError, type TransmitterOperations } from "../../../auth/index.ts";
import type { OperationName } from "../operator-operations.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import {
  nothingSchema,
  signalStreamSchema,
  signalSubjectSchema,
  signalVerifySchema,
  streamStatusSchema,
} from "./transmitter-operations.ts";

const verifyMsDefault = 10_000;

export function registerTransmitters(route: RegisterRoute, deps: OperatorApiDeps): void {
  const { signals } = deps;
  route("GET /signals/transmitters", async () => ({ transmitters: signals?.list() ?? [] }));

  /** Runs what an operator asks of one transmitter. */
  function onTransmitter<Schema extends z.ZodType>(
    operation: OperationName,
    schema: Schema,
    run: (at: TransmitterOperations, body: z.output<Schema>) => Promise<unknown>,
  ): void {
    route(operation, async (request: FastifyRequest, reply: FastifyReply, { actor }) => {
      const { transmitter: name } = request.params as { transmitter: string };
      const body = schema.safeParse(request.body ?? {});
      if (!body.success) return badRequest(reply, body.error);
      const at = signals?.find(name);
      if (at === undefined)
        return reply.code(404).send({ error: "signal_transmitters does not name this transmitter" });
      deps.log.info({ actor, transmitter: name, operation }, "operator request to a transmitter of signals");
      try {
        return await run(at, body.data);
      } catch (error) {
        if (!(error instanceof TransmitterError)) throw error;
        return reply.code(502).send({ error: error.message });
      }
    });
  }

  onTransmitter("GET /signals/transmitters/:transmitter", nothingSchema, (at) => at.show());
  onTransmitter("POST /signals/transmitters/:transmitter/stream", signalStreamSchema, async (at, { events }) => ({
    stream: await at.create(events ?? null),
  }));
  onTransmitter(
    "POST /signals/transmitters/:transmitter/stream/update",
    signalStreamSchema,
    async (at, { events }) => ({
      stream: await at.update(events ?? null),
    }),
  );
  onTransmitter("POST /signals/transmitters/:transmitter/stream/delete", nothingSchema, async (at) => ({
    streamId: await at.remove(),
  }));
  onTransmitter("POST /signals/transmitters/:transmitter/stream/status", streamStatusSchema, async (at, body) => ({
    status: await at.setStatus(body.status, body.reason ?? null),
  }));
  onTransmitter("POST /signals/transmitters/:transmitter/stream/verify", signalVerifySchema, (at, { timeoutMs }) =>
    at.verify(timeoutMs ?? verifyMsDefault),
  );
  onTransmitter("POST /signals/transmitters/:transmitter/subjects", signalSubjectSchema, async (at, body) => {
    if (parseSubject(body.subject) === undefined)
      throw new TransmitterError("not a subject identifier", { status: 400 });
    return { streamId: await at.changeSubject(body.change, body.subject) };
  });
}
