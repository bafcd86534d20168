/**
 * Canary round: takes a right from the canary, watches every proxy refuse and the receipt complete, and gives it back.
 *
 * Between the complete receipt and the moment before the right is given back, no request may be permitted: the
 * observations judge every probe that was sent in that time.
 */
import { randomUUID } from "node:crypto";
import type { Receipt } from "../../replication/index.ts";
import { watchReceipt } from "../operator/watch-receipt.ts";
import type { CanaryChange } from "./drill.ts";
import { awaitedProxies, type DrillRun, pauseFor, waitUntil } from "./drill-run.ts";
import type { CanaryCut } from "./observations.ts";
import { addMember, type ChangeRequest, removeMember } from "./operator-changes.ts";
import type { CanaryStream } from "./probe-client.ts";
import type { ReceiptMeasure, ReceiptNodeMeasure } from "./run-record.ts";
import { boundMs, receiptWaitMs } from "./verdicts.ts";

const fastEveryMs = 20;
export const slowEveryMs = 250;
/** Probes continue for this long after the receipt, so that a late permit is seen. */
const judgedMs = 1_500;
const submitMsMax = 60_000;
const restoredMsMax = 30_000;
const streamsMsMax = 5_000;

/**
 * @param options.whileRevoked runs after the receipt, while the right is still taken away
 * @throws CannotError @throws the signal's reason
 */
export async function runCanaryRound(
  run: DrillRun,
  change: CanaryChange,
  options: Readonly<{ whileRevoked?: () => Promise<void> }> = {},
): Promise<void> {
  const { observations, now, pace } = run;
  const streams = await openStreams(run);
  const restored = planRestore(run, change);
  pace.everyMs = Math.max(fastEveryMs, 2 * run.file.proxies.length);
  const cut: CanaryCut = { what: change, sentAt: now(), completeAt: null, refusedAt: new Map() };
  observations.cut = cut;
  try {
    await takeAway(run, change, { cut, streams });
    if (options.whileRevoked !== undefined) {
      await options.whileRevoked();
      await pauseFor(run, 2 * judgedMs);
    }
  } finally {
    observations.cut = null; // the canary may be permitted again from now on
    pace.everyMs = slowEveryMs;
    for (const stream of streams) stream.close();
  }
  const untilMs = now();
  await restored();
  const isGivenBack = change === "remove-member";
  observations.faults.push({
    name: change,
    target: "canary",
    region: null,
    fromMs: cut.sentAt,
    untilMs,
    clearMs: isGivenBack ? await waitForPermits(run) : null,
    text: `the canary's right was taken away${isGivenBack ? " and given back" : ""}`,
    problem: null,
  });
}

async function takeAway(
  run: DrillRun,
  change: CanaryChange,
  { cut, streams }: Readonly<{ cut: CanaryCut; streams: readonly CanaryStream[] }>,
): Promise<void> {
  const { observations, operator, now, drill, prepared } = run;
  const commandId = randomUUID();
  const region = regionOfOperator(run);
  let acknowledgedMs: number | null = null;
  try {
    const request = changeOf(run, change);
    run.pending.change = { request, commandId };
    const answer = await operator.submit(request, { withinMs: submitMsMax, commandId, signal: run.signal });
    run.pending.change = null;
    observations.links.push(answer.link);
    acknowledgedMs = now() - cut.sentAt;
    const timeoutMs = receiptWaitMs(drill, prepared.windowMs);
    const receipt = await readReceipt(run, { what: change, region, commandId, timeoutMs });
    if (receipt?.complete === true) {
      cut.completeAt = now();
      await waitUntil(run, { withinMs: streamsMsMax, everyMs: 20 }, () =>
        streams.every((one) => one.endedAt() !== undefined),
      );
      recordStreams(run, cut.completeAt, streams);
    }
    const limit = boundMs(drill.promises["every-node-refuses"] ?? 5_000, prepared.windowMs) ?? 5_000;
    await waitUntil(run, { withinMs: limit, everyMs: 20 }, () => enforcedMs(run, cut) !== null);
    await pauseFor(run, judgedMs);
  } finally {
    // An interrupted revocation says nothing about its bounds.
    if (!run.signal.aborted)
      observations.revocations.push({
        atMs: cut.sentAt,
        what: change,
        region,
        acknowledgedMs,
        enforcedMs: enforcedMs(run, cut),
        completeMs: cut.completeAt === null ? null : cut.completeAt - cut.sentAt,
      });
  }
  run.say(roundText(run, change));
}

function changeOf({ file, prepared }: DrillRun, change: CanaryChange): ChangeRequest {
  const { sessionId, userId } = prepared.canary;
  switch (change) {
    case "remove-member":
      return removeMember(file.canary.group, userId);
    case "revoke-session":
      return { path: `/sessions/${encodeURIComponent(sessionId)}/revoke`, body: {} };
    case "suspend-user":
      return { path: `/users/${encodeURIComponent(userId)}/suspend`, body: {} };
  }
}

/**
 * What gives the right back is on the list before the right is taken, so that an interrupt between the two finds it.
 * @returns gives it back
 */
function planRestore(run: DrillRun, change: CanaryChange): () => Promise<void> {
  const { operator, file, prepared, undo } = run;
  const { userId } = prepared.canary;
  const back: Readonly<Record<CanaryChange, Readonly<{ text: string; change: ChangeRequest }> | null>> = {
    "remove-member": { text: "add the canary to its group", change: addMember(file.canary.group, userId) },
    "revoke-session": null, // final: the canary signs in again
    "suspend-user": {
      text: "restore the canary user",
      change: { path: `/users/${encodeURIComponent(userId)}/restore`, body: {} },
    },
  };
  const step = back[change];
  if (step === null) return async () => {};
  // A signal of its own: an interrupted drill still gives back what it took.
  const restore = async (): Promise<void> => {
    const signal = AbortSignal.timeout(2 * submitMsMax);
    // A command without an answer may still be carried out. Its id settles it, so that it cannot follow the restore.
    const { change: open } = run.pending;
    if (open !== null) {
      await operator.submit(open.request, { withinMs: submitMsMax, commandId: open.commandId, signal });
      run.pending.change = null;
    }
    await operator.submit(step.change, { withinMs: submitMsMax, signal });
  };
  const done = undo.add("change", { text: step.text, undo: restore });
  return async () => {
    await restore();
    done();
  };
}

async function openStreams(run: DrillRun): Promise<readonly CanaryStream[]> {
  if (run.file.canary.stream === null) return [];
  const opened = await Promise.all(
    awaitedProxies(run).map(async (proxy) => ({ proxy, stream: await run.probes.openStream(proxy) })),
  );
  return opened.flatMap(({ proxy, stream }) => {
    if (typeof stream !== "number") return [stream];
    run.observations.note(
      run.now(),
      `no stream could be opened at ${proxy.node}: ${stream === 0 ? "no answer" : stream}`,
    );
    return [];
  });
}

function recordStreams({ observations }: DrillRun, completeAt: number, streams: readonly CanaryStream[]): void {
  for (const stream of streams) {
    const endedAt = stream.endedAt();
    const lateMs = Math.max(0, (endedAt ?? completeAt + streamsMsMax) - completeAt);
    observations.streamsLateMs = Math.max(observations.streamsLateMs ?? 0, lateMs);
    if (endedAt === undefined)
      observations.addEvidence(
        `a stream at ${stream.proxy} was open ${streamsMsMax} ms after the receipt`,
        completeAt,
        [],
      );
  }
}

/** Until the last proxy refused; null: some proxy has not refused, or permitted again. */
function enforcedMs(run: DrillRun, cut: CanaryCut): number | null {
  const times = awaitedProxies(run).map(({ node }) => cut.refusedAt.get(node));
  if (times.some((time) => time === undefined)) return null;
  return Math.max(...times.map((time) => time ?? 0)) - cut.sentAt;
}

/** @returns when every proxy permitted again; null: not in time */
async function waitForPermits(run: DrillRun): Promise<number | null> {
  const { observations, now } = run;
  const since = now();
  const all = await waitUntil(run, { withinMs: restoredMsMax, everyMs: 50 }, () =>
    awaitedProxies(run).every(({ node }) => {
      const probe = observations.lastProbes.get(node);
      return probe?.answer === "permitted" && probe.sentAt >= since;
    }),
  );
  if (!all) observations.note(now(), "some proxy did not permit the canary again in time");
  return all ? now() : null;
}

type ReceiptQuestion = Readonly<{ what: string; region: string; commandId: string; timeoutMs: number }>;

/** @returns null: no answer @throws the signal's reason */
async function readReceipt(run: DrillRun, asked: ReceiptQuestion): Promise<Receipt | null> {
  const { observations, now, signal } = run;
  const atMs = now();
  const firstSeen = new Map<string, number>();
  const see = (receipt: Receipt): void => {
    for (const { node, status } of receipt.nodes) {
      const key = `${node} ${status}`;
      if (!firstSeen.has(key)) firstSeen.set(key, now() - atMs);
    }
  };
  const record = (status: ReceiptMeasure["status"], nodes: readonly ReceiptNodeMeasure[]): void => {
    observations.receipts.push({ atMs, what: asked.what, region: asked.region, status, afterMs: now() - atMs, nodes });
  };
  try {
    const receipt = await watchReceipt(await run.operator.client(), {
      target: `command:${asked.commandId}`,
      wait: "all",
      timeoutMs: Math.ceil(asked.timeoutMs),
      onProgress: see,
      signal,
    });
    see(receipt);
    const nodes = receipt.nodes.map(({ node, region, status, reason }): ReceiptNodeMeasure => {
      return { node, region, status, reason, afterMs: firstSeen.get(`${node} ${status}`) ?? null };
    });
    record(receipt.status, nodes);
    return receipt;
  } catch (error) {
    record("none", []);
    signal.throwIfAborted();
    observations.note(now(), `no receipt: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

/** The status does not say where the operator API is, so the region of the first proxy stands for it. */
function regionOfOperator({ prepared, file }: DrillRun): string {
  const first = file.proxies[0]?.node;
  return prepared.status.nodes.find(({ node }) => node === first)?.region ?? "unknown";
}

function roundText({ observations }: DrillRun, change: CanaryChange): string {
  const last = observations.revocations.at(-1);
  const time = (ms: number | null | undefined): string => (ms == null ? "not seen" : `${Math.round(ms)} ms`);
  return `${change}: acknowledged ${time(last?.acknowledgedMs)}, every proxy refuses ${time(last?.enforcedMs)}, receipt complete ${time(last?.completeMs)}`;
}
