/**
 * Check traffic: compares what clients and upstream received with the receipts that the operator had.
 *
 * Pure. Bytes that the upstream sent before a cut may be stamped as received slightly after it, because the reader's
 * event loop has to run. `allowanceMs` bounds that; a recorded stall of the reading process adds its length. Bytes sent
 * after the cut have no excuse. Slow readers count the bytes that reach their kernel: none may arrive after a complete
 * receipt that calls the node applied. A fenced process does not run, but its kernel may still send what it held.
 */
import {
  type History,
  type LocalReceiptEntry,
  type Ns,
  nsPerMs,
  type ReceiptEntry,
  type RequestEntry,
  type SessionEntry,
} from "./history.ts";
import type { Losses } from "./losses.ts";
import { type Cut, cutsOf, isWithin, type Operation } from "./promises.ts";
import { type Rights, rightsOf } from "./rights.ts";
import type { Check, Findings } from "./violation.ts";

export type TrafficOptions = Readonly<{
  /** The group that a route admits; null: every signed-in person. */
  groupOf: (route: string) => string | null;
  /** How long an isolated node may decide for a route. */
  windowMsOf: (route: string) => number;
  /** The members of a group at the start. */
  isFirstMember: (user: string, group: string) => boolean;
  allowanceMs: number;
  /** The most bytes that the kernel of a fenced node may still send on one connection. */
  kernelBytesMax: number;
  /** The region of a node; null: it is in none. */
  regionOf: (node: string) => string | null;
  home: string;
  /** Whether a route permits nothing before its record is on disk. */
  isStrict: (route: string) => boolean;
  /** The process that serves the operator API of a region. */
  operatorNodeOf: (region: string) => string;
  /** The processes that stamp received bytes. */
  clients: string;
  upstream: string;
}>;

/** Bytes on an exchange: sent by one side and received by the other. */
type Passage = Readonly<{ sentAt: Ns; at: Ns; direction: "down" | "up" }>;
/** A request and all observations of it. `arrivedAt` null: it never reached the upstream. */
type Exchange = Readonly<{ request: RequestEntry; arrivedAt: Ns | null; passages: readonly Passage[] }>;

export function checkTraffic(
  history: History,
  operations: readonly Operation[],
  { options, losses, found }: Readonly<{ options: TrafficOptions; losses: Losses; found: Findings }>,
): void {
  const cuts = cutsOf(history, operations, losses);
  const rights = rightsOf(history, operations, losses);
  checkLateBytes(history, operations, { options, found });
  const arrived = new Map(history.arrived.map((entry) => [entry.id, entry.at]));
  const received = Map.groupBy(history.received, (entry) => entry.id);
  const carried = Map.groupBy(history.carried, (entry) => entry.id);
  const users = new Map(history.session.map((entry) => [entry.session, entry.user]));
  const stalledNs = (process: string, from: Ns, to: Ns): Ns =>
    history.stall
      .filter((stall) => stall.process === process && stall.begin < to && stall.end > from)
      .reduce((sum, { begin, end }) => sum + end - begin, 0);
  for (const request of history.request) {
    const answer: Passage[] =
      request.stamps === null ? [] : [{ sentAt: request.stamps.sentAt, at: request.end, direction: "down" }];
    const exchange: Exchange = {
      request,
      arrivedAt: arrived.get(request.id) ?? request.stamps?.arrivedAt ?? null,
      passages: [
        ...answer,
        ...(received.get(request.id) ?? []).map((each) => ({ ...each, direction: "down" as const })),
        ...(carried.get(request.id) ?? []).map((each) => ({ ...each, direction: "up" as const })),
      ],
    };
    const terms = { group: options.groupOf(request.route), windowMs: options.windowMsOf(request.route) };
    const region = options.regionOf(request.node);
    for (const cut of cuts.of(request.session, region, terms))
      checkExchange(exchange, cut, { options, stalledNs, found });
    checkRight(exchange, users.get(request.session), { options, rights, found });
    checkRefusal(request, users.get(request.session), { options, rights, found });
  }
}

type RightsCheck = Readonly<{ options: TrafficOptions; rights: Rights; found: Findings }>;

function checkLateBytes(
  history: History,
  operations: readonly Operation[],
  { options, found }: Readonly<{ options: TrafficOptions; found: Findings }>,
): void {
  const requests = new Map(history.request.map((entry) => [entry.id, entry]));
  const intents = new Map(operations.map((each) => [each.op, each.intent.type]));
  const sessions = new Map(history.session.map((entry) => [entry.session, entry]));
  for (const { id, op, region, at, arrived, late } of history.late) {
    const request = requests.get(id);
    if (late === 0 || request === undefined) continue;
    const receipt = receiptFor(history, { op, region, session: sessions.get(request.session) });
    if (receipt === undefined) continue;
    const statuses = receipt.nodes.filter(({ node }) => node === request.node).map(({ status }) => status);
    // A stopped process cannot discard what its kernel holds.
    if (statuses.includes("fenced") && late <= options.kernelBytesMax) continue;
    const about = { operation: op, session: request.session, node: request.node, route: request.route, id };
    const what = `${request.node}, ${request.kind} to ${request.route}: ${late} bytes reached a slow reader's machine after the complete receipt of ${intents.get(op)} (${op}), which calls the node ${statuses.join(", ") || "nothing"}; ${arrived} had by then`;
    found.add({ check: "carried-after-receipt", at, what, about });
  }
}

/** The complete receipt that speaks of a session, of one region or of all. */
function receiptFor(
  history: History,
  { op, region, session }: Readonly<{ op: string; region: string | null; session: SessionEntry | undefined }>,
): ReceiptEntry | LocalReceiptEntry | undefined {
  if (region === null) return history.receipt.find((entry) => entry.op === op && entry.complete);
  return history["local-receipt"].find(
    (entry) =>
      entry.op === op &&
      entry.region === region &&
      entry.complete &&
      entry.basis !== null &&
      session !== undefined &&
      isWithin(session, entry.basis),
  );
}

/** A group route admits the members at the start and everyone whose addition had begun. */
function checkRight({ request, arrivedAt }: Exchange, user: string | undefined, rightsCheck: RightsCheck): void {
  const { options, rights, found } = rightsCheck;
  const group = options.groupOf(request.route);
  if (arrivedAt === null || group === null || user === undefined || options.isFirstMember(user, group)) return;
  if (!rights.neverAdded(user, group, arrivedAt)) return;
  const about = { session: request.session, node: request.node, route: request.route, id: request.id };
  const what = `${request.node} let ${user} through to ${request.route}, who was never in ${group}`;
  found.add({ check: "permitted-without-right", at: arrivedAt, what, about });
}

type CutCheck = Readonly<{
  options: TrafficOptions;
  /** How long the recorded stalls of a process lasted that fall into a time. */
  stalledNs: (process: string, from: Ns, to: Ns) => Ns;
  found: Findings;
}>;

const occasions: Readonly<Record<Cut["why"], Readonly<{ permitted: Check; carried: Check; description: string }>>> = {
  receipt: {
    permitted: "permitted-after-receipt",
    carried: "carried-after-receipt",
    description: "the complete receipt of",
  },
  window: {
    permitted: "permitted-beyond-window",
    carried: "carried-beyond-window",
    description: "the end of every lease from before",
  },
  expiry: { permitted: "permitted-after-expiry", carried: "carried-after-expiry", description: "the expiry of" },
};

function checkExchange({ request, arrivedAt, passages }: Exchange, cut: Cut, cutCheck: CutCheck): void {
  const { options, stalledNs, found } = cutCheck;
  // The decision may have followed an addition that made the person a member again.
  if (arrivedAt === null || arrivedAt >= cut.until) return;
  const about = {
    operation: cut.by,
    session: request.session,
    node: request.node,
    route: request.route,
    id: request.id,
  };
  const sinceCut = `after ${occasions[cut.why].description} ${cut.what}`;
  if (request.begin > cut.from) {
    const how = request.stamps === null ? "reached the upstream" : `was answered by the upstream (${request.status})`;
    const what = `a ${request.kind} request to ${request.route} on ${request.node}, begun ${ms(request.begin - cut.from)} ${sinceCut}, ${how}`;
    found.add({ check: occasions[cut.why].permitted, at: request.begin, what, about });
    return;
  }
  const allowance = options.allowanceMs * nsPerMs;
  const late = (process: string, at: Ns): boolean => {
    const afterAllowance = at - cut.from - allowance;
    return afterAllowance > 0 && afterAllowance > stalledNs(process, cut.from, at);
  };
  const carriedAfter = (at: Ns, description: string): void =>
    found.add({
      check: occasions[cut.why].carried,
      at,
      what: `${request.node}, ${request.kind} to ${request.route}: ${description}`,
      about,
    });
  if (late(options.upstream, arrivedAt))
    carriedAfter(arrivedAt, `the request reached the upstream ${ms(arrivedAt - cut.from)} ${sinceCut}`);
  for (const { sentAt, at, direction } of passages) {
    const receiver = direction === "down" ? options.clients : options.upstream;
    if (sentAt > cut.from) carriedAfter(at, `bytes sent ${direction} ${ms(sentAt - cut.from)} ${sinceCut} arrived`);
    else if (late(receiver, at))
      carriedAfter(
        at,
        `bytes sent ${direction} before it arrived ${ms(at - cut.from)} ${sinceCut}, too late to have been in flight`,
      );
  }
}

/** A denial is safe, but no lag is a reason to ask the holder of a live session to sign in. */
function checkRefusal(request: RequestEntry, user: string | undefined, { options, rights, found }: RightsCheck): void {
  if (request.outcome !== "answered" || request.stamps !== null || user === undefined) return;
  if (!rights.surelyLive(request.session, request.end)) return;
  const about = { session: request.session, node: request.node, route: request.route, id: request.id };
  if (request.status === 401 || request.status === 302) {
    const what = `${request.node} answered ${request.status} on ${request.route} to a session that no operator had begun to revoke`;
    found.add({ check: "told-to-sign-in", at: request.end, what, about });
  }
  if (request.status !== 403) return;
  const group = options.groupOf(request.route);
  const isMember =
    group === null || (options.isFirstMember(user, group) && rights.neverRemoved(user, group, request.end));
  if (!isMember) return;
  const what = `${request.node} answered 403 on ${request.route} to ${user}, a member that no operator had begun to remove`;
  found.add({ check: "refused-a-member", at: request.end, what, about });
}

function ms(ns: Ns): string {
  return `${(ns / nsPerMs).toFixed(1)} ms`;
}
