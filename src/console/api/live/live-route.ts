/**
 * Live route: `GET /live`, what changes as Server-Sent Events, and `GET /counts`.
 *
 * - A stream ends with the caller's right to watch. It is checked again when a fact about the operator changes,
 *   periodically, and at the end of the token or session. Without a fresh lease this node hears of no change, so it
 *   says that and ends the stream.
 * - A watcher that stops reading is cut off. It gets the newest state when it comes back.
 */
import type { ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import { badRequest, mayReceive, type Operator, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { eventStreamType } from "../receipt-stream.ts";
import { createCounter } from "./counter.ts";
import { createLiveHub, type LiveHub, type LiveWatcher } from "./live-hub.ts";
import { liveSchema } from "./live-operations.ts";
import { liveSources } from "./live-topics.ts";
import { type Standing, standingOf } from "./standing.ts";

/** An event, because browsers hide comments from scripts. */
const aliveMs = 5_000;
/** How often a stream looks whether the standing of this node has changed. */
const standingMs = 1_000;
const rightMs = 15_000;
const stuckMs = 30_000;
/** So that a page need not wait for the first count of a large cluster. */
const firstCountMs = 15;

export function registerLive(route: RegisterRoute, deps: OperatorApiDeps): void {
  const counter = createCounter(deps);
  const sources = liveSources({ ...deps, counter });
  const hub = createLiveHub(sources);

  route("GET /counts", async () => ({
    ...(await counter.read({ waitMs: firstCountMs })),
    standing: standingOf(deps),
    applied: deps.replica.applied,
  }));

  route("GET /live", async (request, reply, caller) => {
    const query = liveSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const topics = query.data.topics.filter((name) => caller.scope === null || !sources[name].unconfined);
    return streamLive(request, reply, { deps, hub, caller, topics });
  });
}

async function streamLive(
  request: FastifyRequest,
  reply: FastifyReply,
  {
    deps,
    hub,
    caller,
    topics,
  }: Readonly<{ deps: OperatorApiDeps; hub: LiveHub; caller: Operator; topics: readonly string[] }>,
): Promise<FastifyReply> {
  const watcher = hub.watch(topics);
  if (watcher === null)
    return reply.code(503).header("retry-after", "5").send({ error: "too many live streams are open" });
  const { raw } = reply;
  const gone = new AbortController();
  const end = (): void => {
    gone.abort();
    watcher.end();
  };
  raw.on("error", end);
  raw.once("close", end);
  if (raw.destroyed) end();
  const mayContinue = async (): Promise<boolean> =>
    (await deps.callerOf(request).catch(() => undefined))?.type === "operator";
  const unlisten = deps.replica.onChange(async ({ touched, rebuilt }) => {
    if (!rebuilt && !caller.reads.some((stream) => touched.has(stream))) return;
    if (!(await mayContinue())) raw.destroy();
  });
  reply.hijack();
  try {
    raw.writeHead(200, { "content-type": eventStreamType, "cache-control": "no-store", "x-accel-buffering": "no" });
    await pump(raw, deps, { watcher, caller, signal: gone.signal, mayContinue });
  } finally {
    unlisten();
    end();
    raw.destroy();
  }
  return reply;
}

async function pump(
  raw: ServerResponse,
  deps: OperatorApiDeps,
  {
    watcher,
    caller,
    signal,
    mayContinue,
  }: Readonly<{ watcher: LiveWatcher; caller: Operator; signal: AbortSignal; mayContinue: () => Promise<boolean> }>,
): Promise<void> {
  let aliveAt = Number.NEGATIVE_INFINITY;
  let askedAt: number = deps.now();
  let said = "";
  while (!signal.aborted && !watcher.isCutOff()) {
    if (caller.until <= deps.now()) return;
    const at = deps.now();
    if (at - askedAt >= rightMs) {
      if (!(await mayContinue())) return;
      askedAt = at;
    }
    const changed = watcher.changed();
    let text = watcher.take();
    const standing = standingOf(deps);
    const standingText = JSON.stringify(standing);
    if (at - aliveAt >= aliveMs || standingText !== said) {
      text += aliveText({ at, applied: deps.replica.applied, standing });
      aliveAt = at;
      said = standingText;
    }
    if (text !== "") {
      if (raw.destroyed) return;
      if (!mayReceive(deps, caller)) {
        // The last word says nothing that a lease has to confirm.
        const { promise: sent, resolve } = Promise.withResolvers<void>();
        raw.end(aliveText({ at, applied: deps.replica.applied, standing }), () => resolve());
        await within(sent, deps, { ms: standingMs, signal });
        return;
      }
      if (!raw.write(text) && !(await within(drained(raw), deps, { ms: stuckMs, signal }))) return;
      continue;
    }
    const leftMs = Math.min(standingMs, aliveMs - (at - aliveAt), caller.until - deps.now());
    await within(changed, deps, { ms: Math.max(1, leftMs), signal });
  }
}

function aliveText(data: Readonly<{ at: number; applied: object; standing: Standing }>): string {
  return `event: alive\ndata: ${JSON.stringify(data)}\n\n`;
}

function drained(raw: ServerResponse): Promise<void> {
  return new Promise((resolve) => void raw.once("drain", resolve));
}

/** Whether something happens within `ms`. */
async function within(
  something: Promise<void>,
  { sleep }: Pick<OperatorApiDeps, "sleep">,
  { ms, signal }: Readonly<{ ms: number; signal: AbortSignal }>,
): Promise<boolean> {
  const over = new AbortController();
  const timeUp = sleep(ms, AbortSignal.any([over.signal, signal])).then(
    () => false,
    () => true,
  );
  try {
    return await Promise.race([something.then(() => true), timeUp]);
  } finally {
    over.abort();
  }
}
