/** Decision monitors: what each permit had seen, and whether it was correct there (17, 18, 21–24, 28–30). */
import type { Link } from "../../../src/events/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { Place } from "./chains.ts";
import { told } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import type { Look } from "./monitor-coverage.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { Bar } from "./rights.ts";
import type { Floor, NodeView, RequestView, Scene } from "./scene.ts";
import { seconds } from "./violation.ts";

type Decided = SimFactOf<"decided">;

/** A request within this time after a receipt counts as a test of that receipt. */
const soonMs = 10_000;

/** 17, 18: a permit includes every complete receipt, and every event older than its window. */
export function watchPromises(scene: Scene): Monitor {
  const { chains, findings, looks, options } = scene;

  function judge(fact: Decided): void {
    const place = scene.find(fact.place);
    const request = scene.requests.get(fact.request);
    const node = nodeOf(scene, fact);
    if (!place || !request || !node || !scene.oneWriter) return;
    const floor = scene.floorBefore(request.began.at, node.region);
    if (floor !== undefined && request.began.at - floor.at < soonMs) noteTried(request, { node, floor, place });
    if (fact.verdict !== "permit") return;
    const now = scene.acknowledgedBefore(fact.at - 1_000);
    if (now !== undefined && !chains.contains(place, now.place)) looks.add("permit-behind-head");
    if (floor !== undefined && !chains.contains(place, floor.place)) {
      const began = `it began ${seconds(request.began.at - floor.at)} after the complete receipt for ${told(floor.place.link)}`;
      const bar = barOf(scene, request, node, floor.place);
      const harm = bar === null ? "" : `, which denies it: ${bar.why}`;
      findings.add(17, `${fact.process} permits request ${fact.request} at ${told(fact.place)}; ${began}${harm}`, [
        floor.fact,
        request.began,
        fact,
      ]);
    }
    if (scene.proven) judgeWindow(fact, place, node);
  }

  /** Counts a request for something that a receipt has just denied. */
  function noteTried(
    request: RequestView,
    { node, floor, place }: Readonly<{ node: NodeView; floor: Floor; place: Place }>,
  ): void {
    if (barOf(scene, request, node, floor.place) === null) return;
    looks.add("began-after-receipt");
    if (!chains.contains(place, floor.place)) looks.add("tried-while-absent");
  }

  function judgeWindow(fact: Decided, place: Place, node: NodeView): void {
    const route = node.routes.get(fact.route);
    const graceMs = route?.onStale === "serve" ? route.staleGraceMs : 0;
    const since = fact.at - scene.real(options.deltaMs + graceMs);
    const seen = scene.acknowledgedBefore(since);
    if (seen === undefined || chains.contains(place, seen.place)) return;
    const what = `${fact.process} permits on ${fact.route} at ${told(fact.place)}, without ${told(seen.place.link)}, acknowledged ${seconds(fact.at - seen.at)} before`;
    findings.add(18, what, [seen.fact, fact]);
  }

  return { invariants: [17, 18], before: { decided: judge } };
}

/** 21–24: a permit is correct at the place and under the configuration that it names. */
export function watchRights(scene: Scene): Monitor {
  const { findings, looks } = scene;
  const looksOf: Readonly<Record<number, Look>> = { 21: "revoked-tried", 22: "cut-user-tried", 23: "group-tried" };
  /** By node: its first configuration. */
  const configs = new Map<ProcessName, string>();

  function judge(fact: Decided): void {
    const node = nodeOf(scene, fact);
    const request = scene.requests.get(fact.request);
    const place = scene.find(fact.place);
    if (node === undefined || request === undefined) return;
    if (place === undefined || place !== node.applied) {
      const what = `${fact.process} decides at ${told(fact.place)}, and stands at ${told(node.applied.link)}`;
      findings.add(24, what, [fact]);
      return;
    }
    if (!configs.has(fact.process)) configs.set(fact.process, fact.configHash);
    else if (configs.get(fact.process) !== fact.configHash) looks.add("changed-file");
    if (fact.configHash !== node.config?.hash)
      findings.add(24, `${fact.process} decides by configuration ${fact.configHash}, and has ${node.config?.hash}`, [
        fact,
      ]);
    const bar = barOf(scene, request, node, place);
    const look = looksOf[Number(bar?.invariant)];
    if (look !== undefined) looks.add(look);
    if (fact.verdict !== "permit") return;
    if (fact.session !== request.began.session)
      findings.add(24, `${fact.process} decides request ${fact.request} for another session`, [request.began, fact]);
    if (bar === null) return;
    const since = bar.place === null ? "" : ` since ${told(bar.place.link)}`;
    const what = `${fact.process} permits session ${fact.session} at ${told(fact.place)}, though ${bar.why}${since}`;
    findings.add(bar.invariant, what, [request.began, fact]);
  }
  return { invariants: [21, 22, 23, 24], before: { decided: judge } };
}

/** 28, 29: the rules for the token in the cookie. */
export function watchTokens(scene: Scene): Monitor {
  const { chains, findings } = scene;

  function judge(fact: Decided): void {
    const request = scene.requests.get(fact.request);
    const place = scene.find(fact.place);
    if (request === undefined || place === undefined) return;
    const { token } = request.began;
    if (token.position === 0) return;
    const isHeld = isOn(token, place);
    if (isHeld) return;
    const isBehind = token.position > place.link.position && !isLostTo(token, place);
    scene.looks.add(isBehind ? "behind-token" : "lost-token");
    if (fact.verdict === "unavailable") return;
    if (isBehind) {
      const what = `${fact.process} decides request ${fact.request} at ${told(fact.place)}, behind its token ${told(token)}`;
      findings.add(28, what, [request.began, fact]);
    } else if (fact.verdict === "permit") {
      const what = `${fact.process} permits request ${fact.request} at ${told(fact.place)} with the token ${told(token)} of another history`;
      findings.add(29, what, [request.began, fact]);
    }
  }

  function isOn(token: Link, place: Place): boolean {
    const at = scene.find(token);
    return at !== undefined && chains.contains(place, at);
  }
  /** True if the lineage of `place` lacks the token's place and can never contain it. */
  function isLostTo(token: Link, place: Place): boolean {
    const at = scene.find(token);
    return at === undefined || !chains.contains(at, place);
  }
  return { invariants: [28, 29], before: { decided: judge } };
}

/**
 * Allowed offset (ms) between a node's clock and its leader's. A lease allows 2 s, its grant travels for up to 5 s, and
 * 300 ms cover a clock step that is not yet noticed.
 */
const clockSlackMs = 2_000 + 5_000 + 300;

type Offset = { readonly ms: number; until: SimMs };

/**
 * 30: expiry, by true time. A node uses its leader's clock, so within one window it may be off by that clock's error.
 */
export function watchExpiry(scene: Scene): Monitor {
  const { findings, options } = scene;
  const offsets = new Map<ProcessName, Offset[]>();

  function noteClock(fact: SimFactOf<"clock-set">): void {
    if (scene.up.get(fact.process)?.role !== "broker") return;
    const known = offsets.get(fact.process) ?? [];
    for (const each of known) each.until = Math.min(each.until, fact.at + scene.real(options.windowMaxMs));
    const mine = { ms: Math.abs(fact.wallOffsetMs), until: Number.POSITIVE_INFINITY };
    offsets.set(fact.process, [...known.filter(({ until }) => until > fact.at), mine]);
  }

  function leaderOffMs(at: SimMs): number {
    let most = 0;
    for (const known of offsets.values()) for (const { ms, until } of known) if (until >= at) most = Math.max(most, ms);
    return most;
  }

  function judge(
    fact: SimFactOf<"decided" | "exchange-opened" | "relayed">,
    { session, route }: SimFactOf<"request-began">,
  ): void {
    const created = scene.rights.creationOf(session);
    const closesAt = nodeOf(scene, fact)?.routes.get(route)?.closesAtMs ?? null;
    const overs = [
      ...(created === undefined ? [] : [options.wallStart + fact.at - created.expiresAt]),
      ...(closesAt === null ? [] : [fact.at - closesAt]),
    ];
    const over = Math.max(...overs);
    if (fact.type === "decided" && over > 0) scene.looks.add("expired-tried");
    if (fact.type === "decided" && fact.verdict !== "permit") return;
    if (over <= clockSlackMs || over <= clockSlackMs + leaderOffMs(fact.at)) return;
    findings.add(30, `${fact.process} lets session ${session} pass on ${route} ${seconds(over)} after its end`, [fact]);
  }

  function judgeBy(fact: SimFactOf<"decided" | "exchange-opened" | "relayed">): void {
    const request = scene.requests.get(fact.request);
    if (request !== undefined) judge(fact, request.began);
  }

  return {
    invariants: [30],
    before: {
      "clock-set": noteClock,
      decided: judgeBy,
      "exchange-opened": judgeBy,
      relayed: judgeBy,
    },
  };
}

/** Null: at this place, under the node's configuration, the session may use the route. */
export function barOf(scene: Scene, request: RequestView, node: NodeView, place: Place): Bar | null {
  return scene.rights.bar(request.began.session, place) ?? routeBar(scene, request, node, place);
}

/**
 * The bar that the route alone imposes, from the node's configuration and the person's state in the log at a place.
 * Null: none.
 */
export function routeBar(scene: Scene, request: RequestView, node: NodeView, place: Place): Bar | null {
  const { rights } = scene;
  const { session, route } = request.began;
  const policy = node.routes.get(route);
  if (policy === undefined) {
    const why = `${node.config?.hash} has no route ${route}`;
    return node.config === null ? null : { invariant: 24, why, place: null };
  }
  const user = rights.created(session, place)?.user ?? request.began.user;
  const { group, barred, roundsBelow, door } = policy;
  return (
    (group === null ? null : rights.groupBar(user, group, place)) ??
    (door === null ? null : rights.groupBar(user, door, place)) ??
    (barred === null ? null : rights.barredBar(user, barred, place)) ??
    (roundsBelow === null ? null : rights.roundBar(session, roundsBelow, place))
  );
}
