/**
 * Move plan: the steps by which the Postgres of the home region moves to another region, and which of them are done.
 * Pure; postgres/move-home.ts queries the servers and carries the steps out.
 *
 * - The plan follows from what the servers say now, and from nothing that an earlier run left elsewhere. So a run that
 *   was interrupted at any step is run again.
 * - No step concludes anything from time: docs/adr/0041-the-home-moves-by-one-command.md.
 *
 *   planned:  fence → catch-up → promote → follow          the primary answers, and is in another region
 *   lost:                        promote → follow          no primary answers
 *   arrived:  fence (old primaries) → open → follow        the newest primary is in the target region
 */
import type { NewestHead, SeenHeads, ServerHead } from "./newest-head.ts";
import { readableNames } from "./promotion.ts";
import type { PromotionOrder } from "./promotion-order.ts";

export type MoveKind = "planned" | "lost" | "arrived";

export type MoveStep = Readonly<{
  id: "fence" | "catch-up" | "promote" | "open" | "follow";
  state: "to do" | "done";
  what: string;
  /** What must hold before it begins. */
  needs: string;
  /** What shows that it is done. */
  proof: string;
}>;

/** A standby as the primary sees it. */
export type AttachedStandby = Readonly<{
  name: string;
  isStreaming: boolean;
  /** What it has not received yet. */
  behindBytes: number;
  /** What it has received and not replayed yet. */
  unreplayedBytes: number;
}>;

export type MoveView = SeenHeads &
  NewestHead &
  Readonly<{
    /** The Postgres servers of the target region, named as in the connection string. */
    target: ReadonlySet<string>;
    /** `synchronous_standby_names` of the newest server. */
    synchronous: string;
    /** The standbys of the newest primary. */
    attached: readonly AttachedStandby[];
    /** The name of each server in `synchronous_standby_names`, by host, as far as it is known. */
    names: ReadonlyMap<string, string>;
    /** The region of each server, by host, as far as it is known. */
    regions: ReadonlyMap<string, string>;
    /** Why a standby does not replay what it receives, by host. */
    heldBack: ReadonlyMap<string, string>;
    /** The standbys of which it is not shown that no earlier run ordered their promotion, by host. */
    orders: ReadonlyMap<string, PromotionOrder>;
  }>;

export type MovePlan = Readonly<{
  kind: MoveKind;
  steps: readonly MoveStep[];
  /** Why the move is refused before anything is changed; null: it is not. */
  refusal: string | null;
  /** What the operator should know, and can go on without. */
  warnings: readonly string[];
}>;

/** A standby that is further behind is not waited for while no change is accepted. */
const behindBytesMax = 16 * 1024 * 1024;

/** @param loss whether the caller accepts that an acknowledged change may be lost */
export function planMove(view: MoveView, loss: "refuse" | "accept" = "refuse"): MovePlan {
  const plan = planWith(view);
  const ordered = orderedPromotion(view);
  if (ordered !== null) {
    const isOpen = plan.kind === "arrived" && !isFencedPrimary(view.newest);
    return isOpen ? { ...plan, warnings: [...plan.warnings, ordered] } : { ...plan, refusal: ordered };
  }
  const promoted = mayBePromoted(view);
  if (plan.refusal === null && promoted !== null) {
    if (loss === "accept") return { ...plan, warnings: [...plan.warnings, promoted] };
    const how = "Run this command again when all answer, or, to continue anyway, use --accept-loss";
    return { ...plan, refusal: `${promoted}. ${view.newest?.host} refuses writes meanwhile. ${how}` };
  }
  return plan.refusal === null ? plan : { ...plan, refusal: `${plan.refusal}${refusesMeanwhile(view)}` };
}

/** What a refusal has to add where an earlier run has stopped the changes; empty: it has not. */
export function refusesMeanwhile({ newest, regions }: Pick<MoveView, "newest" | "regions">): string {
  if (!isFencedPrimary(newest)) return "";
  const region = regions.get(newest.host) ?? "(its region)";
  return `; ${newest.host} refuses writes meanwhile; cardea region move-home ${region} ends that`;
}

function isFencedPrimary(server: ServerHead | null): server is ServerHead {
  return server !== null && server.role === "primary" && server.writes === "refused";
}

/**
 * Why another server may be a primary that acknowledges changes while the newest one refuses writes; null: none can be.
 * The earlier run that stopped the newest may have ordered the promotion of a server that does not answer now.
 *
 * A standby that receives from the newest primary has acknowledged nothing for another one. So a promoted server that
 * does not answer needs the others that do not answer, or that receive from elsewhere.
 */
export function mayBePromoted(view: MoveView): string | null {
  const { newest, unread, names } = view;
  if (!isFencedPrimary(newest) || unread.length === 0) return null;
  const wanted = readableNames(view.synchronous);
  if (wanted !== undefined && wanted !== "unreadable" && wanted.names !== "any") {
    const lower = (host: string): string => (names.get(host) ?? host).toLowerCase();
    const stray = new Set(strayStandbys(view));
    const bound = new Set(view.servers.filter(({ host }) => !stray.has(host)).map(({ host }) => lower(host)));
    const free = new Set(wanted.names.map((name) => name.toLowerCase()).filter((name) => !bound.has(name)));
    // A primary does not count as its own standby, if it is known to be one of them.
    const own = unread.every(({ host }) => free.has(lower(host))) ? 1 : 0;
    if (free.size - own < wanted.count) return null;
  }
  const silent = unread.map(({ host, problem }) => `${host} (${problem})`).join(", ");
  return `an earlier run may have promoted a server that does not answer: ${silent}`;
}

/**
 * Why a standby that answers may become a primary by itself, and what to do; null: none can. Nothing revokes the order
 * of a promotion, so no other server is opened or promoted before the promotion has happened, or that server has ended.
 */
export function orderedPromotion({ orders, newest, regions }: MoveView): string | null {
  const [first] = [...orders].toSorted(([, a], [, b]) => (a.state === b.state ? 0 : a.state === "given" ? -1 : 1));
  if (first === undefined) return null;
  const [host, { state, why }] = first;
  const meanwhile = isFencedPrimary(newest) ? `. ${newest.host} refuses writes meanwhile` : "";
  if (state === "unknown") return `${host} ${why}${meanwhile}`;
  const region = regions.get(host) ?? "(its region)";
  const how = `Run cardea region move-home ${region}, which waits for it. If it does not happen, see the log of ${host}, or stop that server and run this command again`;
  return `${host} ${why}, and may do so at any time${meanwhile}. ${how}`;
}

function planWith(view: MoveView): MovePlan {
  const { newest, target } = view;
  if (newest === null) return refused("lost", "no Postgres server with the log of this cluster answers");
  if (newest.role === "primary" && target.has(newest.host)) return arrivedPlan(view, newest);
  const candidates = view.servers.filter(({ host, role }) => role === "standby" && target.has(host));
  const kind = newest.role === "primary" ? "planned" : "lost";
  if (candidates.length === 0)
    return refused(kind, `none of ${[...target].join(", ")} answers as a standby, so none can be promoted`);
  // A promotion waits until every standby has replayed what it received.
  const [held] = view.heldBack;
  if (held !== undefined) return refused(kind, `${held.join(" ")}, or leave it out of the connection string`);
  return kind === "planned" ? plannedPlan(view, newest, candidates) : lostPlan(view);
}

/** The hosts of the standbys that do not receive from the newest primary. */
export function strayStandbys({ servers, attached, names }: MoveView): readonly string[] {
  const streaming = new Set(attached.filter(({ isStreaming }) => isStreaming).map(({ name }) => name.toLowerCase()));
  return servers
    .filter(({ role, host }) => role === "standby" && !streaming.has((names.get(host) ?? host).toLowerCase()))
    .map(({ host }) => host);
}

function plannedPlan(view: MoveView, primary: ServerHead, candidates: readonly ServerHead[]): MovePlan {
  const { attached, names } = view;
  const near = candidates.flatMap(({ host }) => {
    const found = attached.find(({ name }) => name.toLowerCase() === (names.get(host) ?? host).toLowerCase());
    return found === undefined ? [] : [{ host, ...found }];
  });
  const ready = near.filter(({ isStreaming, behindBytes }) => isStreaming && behindBytes <= behindBytesMax);
  const slow = attached.find(({ unreplayedBytes }) => unreplayedBytes > behindBytesMax);
  const isFenced = isFencedPrimary(primary);
  const [closest] = near.toSorted((a, b) => a.behindBytes - b.behindBytes);
  const notReady =
    slow !== undefined
      ? `${slow.name} has ${mebibytes(slow.unreplayedBytes)} to replay, and a promotion waits for that; wait until it has caught up`
      : closest === undefined
        ? `no standby of the target region receives from ${primary.host}`
        : `${closest.host} is ${mebibytes(closest.behindBytes)} behind ${primary.host}; wait until it has caught up`;
  const left = standbysLeft(view, primary);
  const hosts = candidates.map(({ host }) => host).join(" or ");
  return {
    kind: "planned",
    // A run that was interrupted has stopped the standbys; the steps below bring them back.
    refusal: (ready.length === 0 || slow !== undefined) && !isFenced ? notReady : left,
    warnings: [],
    steps: [
      {
        id: "fence",
        state: isFenced ? "done" : "to do",
        what: `${primary.host} refuses writes: default_transaction_read_only is set, and the sessions of this database end. Until a broker of the target region leads, no change is accepted`,
        needs: `${hosts} receives from it and is less than 16 MiB behind`,
        proof: "a new session shows the setting, and no older session is left",
      },
      {
        id: "catch-up",
        state: "to do",
        what: `${hosts} receives all that ${primary.host} has flushed`,
        needs: `${primary.host} refuses writes`,
        proof: "its received position is not below the flushed position that was read after the last session had ended",
      },
      promoteStep(`${hosts} holds all that was acknowledged`),
      followStep,
    ],
  };
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 1_048_576)} MiB`;
}

function lostPlan(view: MoveView): MovePlan {
  const [standby] = view.servers.filter(({ role }) => role === "standby");
  const left = standby === undefined ? null : standbysLeft(view, null);
  return {
    kind: "lost",
    refusal: null,
    warnings: left === null ? [] : [left],
    steps: [
      promoteStep(
        "so many standbys answer that the old primary, wherever it is, can acknowledge nothing once they have stopped",
      ),
      followStep,
    ],
  };
}

function promoteStep(needs: string): MoveStep {
  return {
    id: "promote",
    state: "to do",
    what: "every standby stops receiving, their positions are compared, and one of the target region is promoted; if another has received more, it first receives the rest from that one",
    needs,
    proof: "the promoted server is out of recovery, on a new timeline",
  };
}

const followStep: MoveStep = {
  id: "follow",
  state: "to do",
  what: "the other standbys receive from the new primary",
  needs: "the promoted server accepts writes",
  proof: "each of them streams",
};

function arrivedPlan(view: MoveView, primary: ServerHead): MovePlan {
  const writable = view.servers.filter(
    (server) => server !== primary && server.role === "primary" && server.writes === "accepted",
  );
  const stray = strayStandbys(view);
  const oldOnes = writable.map(({ host }) => host).join(", ");
  const fence: MoveStep = {
    id: "fence",
    state: writable.length === 0 ? "done" : "to do",
    what: writable.length === 0 ? "no other primary accepts writes" : `${oldOnes} refuses writes: it is an old primary`,
    needs: `${primary.host} has the newest proven epoch or a newer timeline`,
    proof: "a new session shows default_transaction_read_only, and no older session is left",
  };
  const open: MoveStep = {
    id: "open",
    state: primary.writes === "accepted" ? "done" : "to do",
    what: `${primary.host} accepts writes`,
    needs: "it is the newest primary, and no server that does not answer may have been promoted",
    proof: "a new session shows default_transaction_read_only off",
  };
  const follow: MoveStep = { ...followStep, state: stray.length === 0 ? "done" : "to do" };
  return { kind: "arrived", refusal: null, warnings: [], steps: [fence, open, follow] };
}

/** Why commits would wait after the move; null: enough standbys would follow the new primary. */
function standbysLeft({ servers, synchronous, names, target }: MoveView, primary: ServerHead | null): string | null {
  const wanted = readableNames(synchronous);
  if (wanted === undefined || wanted === "unreadable") return null; // claim nothing
  const listed = wanted.names === "any" ? "any" : new Set(wanted.names.map((name) => name.toLowerCase()));
  const counted = servers.filter(({ host, role }) => {
    const name = (names.get(host) ?? host).toLowerCase();
    return role === "standby" && host !== primary?.host && (listed === "any" || listed.has(name));
  });
  // One of the target region becomes the primary.
  const left = counted.length - (counted.some(({ host }) => target.has(host)) ? 1 : 0);
  if (left >= wanted.count) return null;
  return `after the move ${left} of the ${wanted.count} standbys that commits must wait for would follow, so no change would be accepted until another one does`;
}

function refused(kind: MoveKind, refusal: string): MovePlan {
  return { kind, steps: [], refusal, warnings: [] };
}
