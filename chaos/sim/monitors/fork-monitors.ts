/**
 * Fork monitors: a node that applied a denial in a lost history still denies it, and returns it to the log (27).
 * Nothing else from the lost history returns.
 */
import { parseStream } from "../../../src/events/index.ts";
import type { ProcessName, SimFactOf, SimMs } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import { formatLink } from "./log-monitors.ts";
import type { Monitor } from "./monitor.ts";
import { nodeOf } from "./projection-monitors.ts";
import type { RevocationLedger } from "./revocation-ledger.ts";
import { seconds } from "./violation.ts";

/** Sticky denial: a final fact of a lost suffix that this boot had applied. */
type StickyDenial = Readonly<{ lost: LogPoint; sessions: ReadonlySet<string>; user: string | null }>;
type KeptDenials = { boot: string; rebuiltAt: SimMs; readonly sticky: StickyDenial[]; by: "this boot" | "one before" };
/** Snapshots that a node has saved: the hash of the newest, and the count. */
type SaveHistory = { newest: string; count: number };

/** Time within which the denials of a node that joined the surviving history return to the log. */
const reassertedWithinMs = 20_000;

export function watchForks(truth: GroundTruth): Monitor {
  const { chains, findings, rights } = truth;
  const kept = new Map<ProcessName, KeptDenials>();
  const saves = new Map<ProcessName, SaveHistory>();
  /** Hashes of lost events that the node left to the operator. */
  const reported = new Set<string>();

  function checkRebuilt(fact: SimFactOf<"rebuilt">): void {
    const node = nodeOf(truth, fact);
    const to = truth.find(fact.to);
    const lost = node?.rebuilding === null || node === undefined ? undefined : truth.find(node.rebuilding.lost);
    if (to === undefined || lost === undefined) return;
    const before = kept.get(fact.process);
    const own: KeptDenials =
      before?.boot === fact.boot ? before : { boot: fact.boot, rebuiltAt: fact.at, sticky: [], by: "this boot" };
    own.rebuiltAt = fact.at;
    const shared = chains.common(lost, to);
    for (const point of chains.backwards(lost, shared)) {
      if (point.recorded?.effect === "tightens") own.sticky.push(stickyOf(point));
    }
    kept.set(fact.process, own);
  }

  /** A boot that starts from this node's newest snapshot has the node's own disk, and thus the denials kept there. */
  function checkLoaded(fact: SimFactOf<"snapshot-loaded">): void {
    const before = kept.get(fact.process);
    const saved = saves.get(fact.process);
    if (before === undefined || before.boot === fact.boot || fact.from !== "disk") return;
    // An older copy of the disk would start from an older snapshot.
    if (saved === undefined || saved.count < 2 || saved.newest !== fact.link.hash) return;
    before.boot = fact.boot;
    before.by = "one before";
  }

  function stickyOf(point: LogPoint): StickyDenial {
    const { stream = "cluster:", type = "" } = point.recorded ?? {};
    const { kind, id } = parseStream(stream as `session:${string}`);
    if (kind === "session") return { lost: point, sessions: new Set([id]), user: null };
    if (kind !== "user") return { lost: point, sessions: new Set(), user: null };
    const existed = rights.sessionsOf(id, point).filter((session) => rights.denialOf(session, point) !== null);
    return { lost: point, sessions: new Set(existed), user: type === "UserSessionsRevoked" ? null : id };
  }

  function check(fact: SimFactOf<"decided">): void {
    const own = kept.get(fact.process);
    if (own === undefined || own.boot !== fact.boot) return;
    const user = rights.creationOf(fact.session)?.user;
    const point = truth.find(fact.link);
    for (const { lost, sessions, user: denied } of own.sticky) {
      // An operator's decision in the surviving history prevails, even one made before this node was rebuilt.
      const isLifted =
        denied !== null && point !== undefined && rights.isRestoredAfter(denied, chains.common(lost, point), point);
      if (!sessions.has(fact.session) && (denied === null || denied !== user || isLifted)) continue;
      if (fact.verdict !== "unavailable" && point !== undefined && rights.denialOf(fact.session, point) === null)
        truth.observations.add("kept-denial-tried");
      if (fact.verdict !== "permit") continue;
      const what = `${fact.process} permits session ${fact.session}, which ${lost.recorded?.type} at ${formatLink(lost.link)} denied before that history was lost`;
      findings.add(27, what, [fact]);
    }
  }

  /**
   * True if the log permits the session, or would accept it again if its client asked. The log then lacks the denial.
   */
  function isOpen(id: string, at: SimMs): boolean {
    const denial = rights.denialOf(id, truth.head);
    if (denial === null || denial.point !== null) return denial === null;
    const creation = rights.creationOf(id);
    return creation !== undefined && creation.expiresAt > truth.options.wallStart + at && !isErased(creation.user);
  }

  function isErased(user: string): boolean {
    return rights.userDenial(user, truth.head)?.why === `${user} is erased`;
  }

  /** Finally the log contains each sticky denial, or the node left it to the operator. */
  function checkEnd(fact: SimFactOf<"run-over">): void {
    if (truth.faultsOver === null) return;
    for (const [process, { boot, rebuiltAt, sticky, by }] of kept) {
      if (by === "one before") continue; // that boot may have ended before it could return them
      const node = truth.nodes.get(process);
      const since = Math.max(rebuiltAt, truth.faultsOver.at);
      if (node?.boot !== boot || !node.up || truth.paused.has(process) || fact.at - since < reassertedWithinMs)
        continue;
      for (const { lost, sessions, user } of sticky) {
        if (reported.has(lost.link.hash)) continue;
        const open = [...sessions].filter((id) => isOpen(id, fact.at));
        const userOpen = user !== null && rights.userDenial(user, truth.head) === null && !isAnswered(user, lost);
        if (open.length === 0 && !userOpen) continue;
        const what = `${lost.recorded?.type} at ${formatLink(lost.link)} was lost, ${process} had applied it, and ${seconds(fact.at - since)} later the log does not deny ${open[0] ?? user}`;
        findings.add(27, what, [truth.faultsOver, fact]);
      }
    }
  }

  /** True if the surviving log contains a later decision about the same person. */
  function isAnswered(user: string, lost: LogPoint): boolean {
    return rights.isRestoredAfter(user, chains.common(lost, truth.head), truth.head);
  }

  return {
    invariants: [27],
    before: {
      rebuilt: checkRebuilt,
      "snapshot-loaded": checkLoaded,
      "snapshot-built": (fact) => {
        const { count = 0, newest = "" } = saves.get(fact.process) ?? {};
        if (newest !== fact.link.hash) saves.set(fact.process, { newest: fact.link.hash, count: count + 1 });
      },
      decided: check,
      reasserted: (fact) => {
        if (fact.outcome === "operator") reported.add(fact.lost.hash);
      },
      "run-over": checkEnd,
    },
  };
}

/** A kept denial is exact: it never reaches a session that only a surviving history created. */
export function watchKept(truth: GroundTruth, ledger: RevocationLedger): Monitor {
  const { findings, observations, rights } = truth;

  function check(fact: SimFactOf<"decided">): void {
    // Before its first grant a node does not know the contents of the log, and denies all sessions of a person.
    if (fact.reason !== "kept-denied" || fact.overdueMs > 0) return;
    observations.add("kept-denial-checked");
    if (rights.deniedAnywhere(fact.session)) return;
    if ([...ledger.all].some((known) => ledger.denies(known, fact.session))) return;
    const what = `${fact.process} denies session ${fact.session} beside the log at ${formatLink(fact.link)}, and no history has denied it`;
    findings.add("kept-exact", what, [fact]);
  }

  return { invariants: ["kept-exact"], before: { decided: check } };
}
