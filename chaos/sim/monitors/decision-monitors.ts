/** Decision monitors: what each permit had seen, and whether it was correct there (17, 18, 21–24, 28–30). */
import type { Link } from "../../../src/events/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { Floor, GroundTruth, NodeView, RequestView } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import type { Observation } from "./monitor-coverage.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { Denial } from "./rights.ts";
import { seconds } from "./violation.ts";

type Decided = SimFactOf<"decided">;

/** A request within this time after a receipt counts as a test of that receipt. */
const soonMs = 10_000;

/** 17, 18: a permit includes every complete receipt, and every event older than its window. */
export function watchPromises(truth: GroundTruth): Monitor {
  const { chains, findings, observations, options } = truth;

  function check(fact: Decided): void {
    const point = truth.find(fact.link);
    const request = truth.requests.get(fact.request);
    const node = nodeOf(truth, fact);
    if (!point || !request || !node || !truth.oneWriter) return;
    const floor = truth.floorBefore(request.began.at, node.region);
    if (floor !== undefined && request.began.at - floor.at < soonMs) noteTried(request, { node, floor, point });
    if (fact.verdict !== "permit") return;
    const now = truth.acknowledgedBefore(fact.at - 1_000);
    if (now !== undefined && !chains.contains(point, now.point)) observations.add("permit-behind-head");
    if (floor !== undefined && !chains.contains(point, floor.point)) {
      const began = `it began ${seconds(request.began.at - floor.at)} after the complete receipt for ${formatLink(floor.point.link)}`;
      const denial = denialFor(truth, request, node, floor.point);
      const harm = denial === null ? "" : `, which denies it: ${denial.why}`;
      findings.add(17, `${fact.process} permits request ${fact.request} at ${formatLink(fact.link)}; ${began}${harm}`, [
        floor.fact,
        request.began,
        fact,
      ]);
    }
    if (truth.proven) checkWindow(fact, point, node);
  }

  /** Counts a request for something that a receipt has just denied. */
  function noteTried(
    request: RequestView,
    { node, floor, point }: Readonly<{ node: NodeView; floor: Floor; point: LogPoint }>,
  ): void {
    if (denialFor(truth, request, node, floor.point) === null) return;
    observations.add("began-after-receipt");
    if (!chains.contains(point, floor.point)) observations.add("tried-before-applied");
  }

  function checkWindow(fact: Decided, point: LogPoint, node: NodeView): void {
    const route = node.routes.get(fact.route);
    const graceMs = route?.onStale === "serve" ? route.staleGraceMs : 0;
    const since = fact.at - truth.real(options.deltaMs + graceMs);
    const seen = truth.acknowledgedBefore(since);
    if (seen === undefined || chains.contains(point, seen.point)) return;
    const what = `${fact.process} permits on ${fact.route} at ${formatLink(fact.link)}, without ${formatLink(seen.point.link)}, acknowledged ${seconds(fact.at - seen.at)} before`;
    findings.add(18, what, [seen.fact, fact]);
  }

  return { invariants: [17, 18], before: { decided: check } };
}

/** 21–24: a permit is correct at the point and under the configuration that it names. */
export function watchRights(truth: GroundTruth): Monitor {
  const { findings, observations } = truth;
  const observationOf: Readonly<Record<number, Observation>> = {
    21: "revoked-tried",
    22: "cut-user-tried",
    23: "group-tried",
  };
  /** By node: its first configuration. */
  const configs = new Map<ProcessName, string>();

  function check(fact: Decided): void {
    const node = nodeOf(truth, fact);
    const request = truth.requests.get(fact.request);
    const point = truth.find(fact.link);
    if (node === undefined || request === undefined) return;
    if (point === undefined || point !== node.applied) {
      const what = `${fact.process} decides at ${formatLink(fact.link)}, and stands at ${formatLink(node.applied.link)}`;
      findings.add(24, what, [fact]);
      return;
    }
    if (!configs.has(fact.process)) configs.set(fact.process, fact.configHash);
    else if (configs.get(fact.process) !== fact.configHash) observations.add("configuration-changed");
    if (fact.configHash !== node.config?.hash)
      findings.add(24, `${fact.process} decides by configuration ${fact.configHash}, and has ${node.config?.hash}`, [
        fact,
      ]);
    const denial = denialFor(truth, request, node, point);
    const observation = observationOf[Number(denial?.invariant)];
    if (observation !== undefined) observations.add(observation);
    if (fact.verdict !== "permit") return;
    if (fact.session !== request.began.session)
      findings.add(24, `${fact.process} decides request ${fact.request} for another session`, [request.began, fact]);
    if (denial === null) return;
    const since = denial.point === null ? "" : ` since ${formatLink(denial.point.link)}`;
    const what = `${fact.process} permits session ${fact.session} at ${formatLink(fact.link)}, though ${denial.why}${since}`;
    findings.add(denial.invariant, what, [request.began, fact]);
  }
  return { invariants: [21, 22, 23, 24], before: { decided: check } };
}

/** 28, 29: the rules for the token in the cookie. */
export function watchTokens(truth: GroundTruth): Monitor {
  const { chains, findings } = truth;

  function check(fact: Decided): void {
    const request = truth.requests.get(fact.request);
    const point = truth.find(fact.link);
    if (request === undefined || point === undefined) return;
    const { token } = request.began;
    if (token.position === 0) return;
    const isHeld = isOn(token, point);
    if (isHeld) return;
    const isBehind = token.position > point.link.position && !isLostTo(token, point);
    truth.observations.add(isBehind ? "behind-token" : "lost-token");
    if (fact.verdict === "unavailable") return;
    if (isBehind) {
      const what = `${fact.process} decides request ${fact.request} at ${formatLink(fact.link)}, behind its token ${formatLink(token)}`;
      findings.add(28, what, [request.began, fact]);
    } else if (fact.verdict === "permit") {
      const what = `${fact.process} permits request ${fact.request} at ${formatLink(fact.link)} with the token ${formatLink(token)} of another history`;
      findings.add(29, what, [request.began, fact]);
    }
  }

  function isOn(token: Link, point: LogPoint): boolean {
    const at = truth.find(token);
    return at !== undefined && chains.contains(point, at);
  }
  /** True if the lineage of `point` lacks the token's point and can never contain it. */
  function isLostTo(token: Link, point: LogPoint): boolean {
    const at = truth.find(token);
    return at === undefined || !chains.contains(at, point);
  }
  return { invariants: [28, 29], before: { decided: check } };
}

/**
 * Allowed offset (ms) between a node's clock and its leader's. A lease allows 2 s, its grant travels for up to 5 s, and
 * 300 ms cover a clock step that is not yet noticed.
 */
const clockSlackMs = 2_000 + 5_000 + 300;

type Offset = { readonly ms: number; until: SimMs };

/**
 * 30: expiry of sessions and ends of memberships, by true time. A node uses its leader's clock, so within one window it
 * may be off by that clock's error.
 */
export function watchExpiry(truth: GroundTruth): Monitor {
  const { findings, options } = truth;
  const offsets = new Map<ProcessName, Offset[]>();

  function noteClock(fact: SimFactOf<"clock-set">): void {
    if (truth.up.get(fact.process)?.role !== "broker") return;
    const known = offsets.get(fact.process) ?? [];
    for (const each of known) each.until = Math.min(each.until, fact.at + truth.real(options.windowMaxMs));
    const mine = { ms: Math.abs(fact.wallOffsetMs), until: Number.POSITIVE_INFINITY };
    offsets.set(fact.process, [...known.filter(({ until }) => until > fact.at), mine]);
  }

  function leaderOffMs(at: SimMs): number {
    let most = 0;
    for (const known of offsets.values()) for (const { ms, until } of known) if (until >= at) most = Math.max(most, ms);
    return most;
  }

  function check(
    fact: SimFactOf<"decided" | "exchange-opened" | "relayed">,
    { session, route }: SimFactOf<"request-began">,
  ): void {
    const created = truth.rights.creationOf(session);
    const node = nodeOf(truth, fact);
    const policy = node?.routes.get(route);
    const closesAt = policy?.closesAtMs ?? null;
    const ends = [policy?.group ?? null, policy?.precedingGroup ?? null].map((group) =>
      group === null || node === undefined || created === undefined
        ? null
        : truth.rights.endOf(created.user, group, node.applied),
    );
    const overs = [
      ...ends.flatMap((end) => (end === null ? [] : [options.wallStart + fact.at - end])),
      ...(created === undefined ? [] : [options.wallStart + fact.at - created.expiresAt]),
      ...(closesAt === null ? [] : [fact.at - closesAt]),
    ];
    const over = Math.max(...overs);
    if (fact.type === "decided" && over > 0) truth.observations.add("expired-tried");
    if (fact.type === "decided" && fact.verdict !== "permit") return;
    if (over <= clockSlackMs || over <= clockSlackMs + leaderOffMs(fact.at)) return;
    findings.add(30, `${fact.process} lets session ${session} pass on ${route} ${seconds(over)} after its end`, [fact]);
  }

  function checkBy(fact: SimFactOf<"decided" | "exchange-opened" | "relayed">): void {
    const request = truth.requests.get(fact.request);
    if (request !== undefined) check(fact, request.began);
  }

  return {
    invariants: [30],
    before: {
      "clock-set": noteClock,
      decided: checkBy,
      "exchange-opened": checkBy,
      relayed: checkBy,
    },
  };
}

/** Null: at this point, under the node's configuration, the session may use the route. */
export function denialFor(truth: GroundTruth, request: RequestView, node: NodeView, point: LogPoint): Denial | null {
  return truth.rights.denialOf(request.began.session, point) ?? routeDenial(truth, request, node, point);
}

/**
 * The denial that the route alone imposes, from the node's configuration and the person's state in the log at a point.
 * Null: none.
 */
export function routeDenial(truth: GroundTruth, request: RequestView, node: NodeView, point: LogPoint): Denial | null {
  const { rights } = truth;
  const { session, route } = request.began;
  const policy = node.routes.get(route);
  if (policy === undefined) {
    const why = `${node.config?.hash} has no route ${route}`;
    return node.config === null ? null : { invariant: 24, why, point: null };
  }
  const user = rights.created(session, point)?.user ?? request.began.user;
  const { group, excludedGroup, roundsBelow, precedingGroup } = policy;
  return (
    (group === null ? null : rights.groupDenial(user, group, point)) ??
    (precedingGroup === null ? null : rights.groupDenial(user, precedingGroup, point)) ??
    (excludedGroup === null ? null : rights.excludedGroupDenial(user, excludedGroup, point)) ??
    (roundsBelow === null ? null : rights.roundDenial(session, roundsBelow, point))
  );
}
