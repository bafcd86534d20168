/** Operator reads: nodes and receipts, from the brokers. */
import { type CommandId, parseCommandId, parseLink } from "../../events/index.ts";
import { type ReceiptTarget, regionLags } from "../../replication/index.ts";
import { lastKnownAfter, noReceiptWithoutHome } from "./last-known.ts";
import {
  badRequest,
  isKnownRegion,
  type OperatorApiDeps,
  type RegisterRoute,
  requireOperator,
  sendHomeUnreachable,
  tryParse,
  unknownRegion,
} from "./operator-route.ts";
import { receiptSchema, timeoutMsOf } from "./operator-schemas.ts";
import { createReceiptStream, eventStreamType } from "./receipt-stream.ts";
import { createRecordedTimes } from "./receipts/recorded-at.ts";

export function registerReads(route: RegisterRoute, deps: OperatorApiDeps): void {
  const recordedAt = createRecordedTimes(deps);
  const streamReceipt = createReceiptStream(deps, recordedAt);
  route("GET /nodes", async () => {
    const status = await deps.databroker.status();
    const signInProviders = deps.signInProviders?.() ?? [];
    return { ...status, regions: status.regions ?? regionLags(status.nodes), signInProviders };
  });
  route("GET /receipts/:target", async (request, reply, caller) => {
    const target = parseTarget((request.params as { target: string }).target);
    const query = receiptSchema.safeParse(request.query);
    if (target === undefined)
      return reply.code(400).send({ error: "name the receipt as command:<uuid> or link:<epoch.position.hash>" });
    if (!query.success) return badRequest(reply, query.error);
    const { wait, region = deps.region } = query.data;
    if (query.data.region !== undefined && !(await isKnownRegion(deps, region)))
      return reply.code(404).send({ error: unknownRegion(region) });
    const options = { wait, timeoutMs: timeoutMsOf(query.data), region };
    try {
      if (request.headers.accept?.includes(eventStreamType) === true)
        return await streamReceipt(request, reply, caller, { target, options });
      const receipt = await deps.databroker.receipt(target, options);
      return { ...receipt, recordedAt: await recordedAt(receipt.link) };
    } catch (error) {
      const lastKnown = await lastKnownAfter(error, deps);
      if (lastKnown === null) throw error;
      if ((await requireOperator(deps, request, reply)) === undefined) return reply;
      return sendHomeUnreachable(reply, { error: noReceiptWithoutHome, lastKnown });
    }
  });
}

function parseTarget(text: string): ReceiptTarget | undefined {
  const colon = text.indexOf(":");
  const [kind, value] = [text.slice(0, colon), text.slice(colon + 1)];
  if (kind === "command") {
    const commandId: CommandId | undefined = tryParse(parseCommandId, value);
    return commandId === undefined ? undefined : { type: "command", commandId };
  }
  if (kind !== "link") return undefined;
  const link = tryParse(parseLink, value);
  return link === undefined ? undefined : { type: "link", link };
}
