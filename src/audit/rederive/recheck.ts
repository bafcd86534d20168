/**
 * Recheck: decides a share of the decisions of other nodes again, and raises an alarm when an answer differs.
 *
 * - It runs beside the requests, on a node that follows the audit stream. It uses that node's own copy of the log: a
 *   decision counts once the copy has reached its link, and only if its facts have not changed since.
 * - What cannot be decided again for certain is counted with a reason, and never raises an alarm.
 * - Before an alarm it reads from the log whether the node's copy is on its chain.
 */
import type { DecisionRecord } from "../../auth/index.ts";
import {
  type ConfigHash,
  formatLink,
  type Link,
  type Position,
  type Profile,
  type Projection,
  type Sealed,
  sameLink,
  type UserId,
} from "../../events/index.ts";
import type { AuditRecord } from "../audit-record.ts";
import type { PastConfiguration } from "./past-configuration.ts";
import type { ReadRecord, RecordReaderOf } from "./recorded-question.ts";
import {
  type AnswerDifference,
  type Rederivation,
  rederiveDecision,
  type UnknownCode,
  unknownCodes,
} from "./rederive.ts";
import { type Sample, SampleQueue, type SampleRules } from "./sample-queue.ts";
import { isUnchangedSince, type PresentFacts } from "./unchanged-facts.ts";

/** Why a chosen decision was not decided again. */
export const skipReasons = [...unknownCodes, "changed", "behind", "history", "configuration", "failed"] as const;
export type SkipReason = UnknownCode | "changed" | "behind" | "history" | "configuration" | "failed";

export type DifferentDecision = Readonly<{
  /** The id of the record. */
  id: string;
  node: string;
  at: number;
  routeId: string | null;
  link: string;
  differences: readonly AnswerDifference[];
}>;

export type RecheckCounts = Readonly<{
  same: number;
  different: number;
  skipped: Readonly<Record<SkipReason, number>>;
  /** Chosen, and not checked yet. */
  waiting: number;
  /** The newest differences, newest first. */
  newest: readonly DifferentDecision[];
}>;

export type RecheckDeps = Readonly<{
  node: string;
  rules: SampleRules;
  random: () => number;
  monotonicMs: () => number;
  /** This node's copy of the log. */
  replica: PresentFacts &
    Readonly<{
      projection: Pick<Projection, "sessionStatus" | "groupsOf" | "nextEndOf" | "session" | "degraded" | "guessed">;
      applied: Link;
      open: (sealed: Sealed, userId: UserId) => Profile | undefined;
    }>;
  /** The link that the log has at a position; null: none, or retention has dropped it. @throws if no broker answers */
  linkAt: (position: Position) => Promise<Link | null>;
  /** Undefined: its text is not stored. @throws if no broker answers */
  configuration: (configHash: ConfigHash) => Promise<PastConfiguration | undefined>;
  readerOf: RecordReaderOf;
  onDifferent: (found: DifferentDecision) => void;
  onFailure: (error: unknown) => void;
}>;

export type Recheck = Readonly<{
  /** Off the request path, and never waits. @param bytes the size of the record's line */
  offer(record: AuditRecord, bytes: number): void;
  /** Checks what waits. One call runs at a time. */
  run(): Promise<void>;
  counts(): RecheckCounts;
}>;

/** A node that is further behind than this checks nothing of the present. */
const waitMsMax = 30_000;
const configurationsKept = 8;
/** Compiling a large configuration delays other work, so more than these are compiled one in this time. */
const compilationsAtOnce = 4;
const compilationMs = 15_000;
const newestKept = 20;

type Compiled = Readonly<{ configuration: PastConfiguration; readRecord: ReadRecord }>;
type Checked = Rederivation | Readonly<{ type: "wait" }> | Readonly<{ type: "skip"; reason: SkipReason }>;

export function createRecheck(deps: RecheckDeps): Recheck {
  const { replica, monotonicMs } = deps;
  const queue = new SampleQueue({ rules: deps.rules, ownNode: deps.node, random: deps.random });
  const skipped = Object.fromEntries(skipReasons.map((reason) => [reason, 0])) as Record<SkipReason, number>;
  const compiled = new Map<string, Compiled>();
  const mayCompile = createAllowance(monotonicMs);
  let same = 0;
  let different = 0;
  let newest: readonly DifferentDecision[] = [];

  /** Undefined: its text is not stored, or too many others were compiled just now. The newest used ones are kept. */
  async function compiledOf(configHash: ConfigHash): Promise<Compiled | undefined> {
    const known = compiled.get(configHash);
    if (known !== undefined) {
      compiled.delete(configHash);
      compiled.set(configHash, known);
      return known;
    }
    if (!mayCompile()) return undefined;
    const configuration = await deps.configuration(configHash);
    if (configuration === undefined) return undefined;
    const routes = [...configuration.routes.values()].map(({ route }) => route);
    const made = { configuration, readRecord: deps.readerOf(routes) };
    const [oldest] = compiled.keys();
    if (compiled.size >= configurationsKept && oldest !== undefined) compiled.delete(oldest);
    compiled.set(configHash, made);
    return made;
  }

  async function isOnChain(link: Link): Promise<boolean> {
    const known = await deps.linkAt(link.position);
    return known !== null && sameLink(known, link);
  }

  async function check({ record, offeredAtMs }: Sample): Promise<Checked> {
    const { applied } = record;
    if (replica.applied.position < applied.position)
      return monotonicMs() - offeredAtMs < waitMsMax ? { type: "wait" } : { type: "skip", reason: "behind" };
    const found = await compiledOf(record.configHash);
    if (found === undefined) return { type: "skip", reason: "configuration" };
    if (!(await isOnChain(applied))) return { type: "skip", reason: "history" };
    const { answer, copy } = decideNow(record, found);
    if (answer.type !== "different") return answer;
    // The copy may have held events that a failover lost. Of those the log has none.
    return (await isOnChain(copy)) ? answer : { type: "skip", reason: "history" };
  }

  /** In one turn, so that the facts and their positions are of one state. */
  function decideNow(record: DecisionRecord, { configuration, readRecord }: Compiled): { answer: Checked; copy: Link } {
    const copy = replica.applied;
    const skip = (reason: SkipReason) => ({ answer: { type: "skip", reason } as const, copy });
    const { projection } = replica;
    if (projection.degraded !== undefined || projection.guessed !== undefined) return skip("behind");
    const policy = record.routeId === null ? null : (configuration.routes.get(record.routeId)?.policy ?? null);
    if (copy.position < record.applied.position) return skip("behind"); // it was rebuilt in the meantime
    if (!isUnchangedSince(record, policy, replica)) return skip("changed");
    const open = (sealed: Sealed, userId: UserId): Profile | undefined => replica.open(sealed, userId);
    return { answer: rederiveDecision(record, { facts: { projection, open }, configuration, readRecord }), copy };
  }

  function note(sample: Sample, checked: Checked): void {
    const { record } = sample;
    switch (checked.type) {
      case "wait":
        if (!queue.putBack(sample)) skipped.behind += 1;
        return;
      case "skip":
        skipped[checked.reason] += 1;
        return;
      case "unknown":
        skipped[checked.code] += 1;
        return;
      case "same":
        same += 1;
        return;
      default: {
        different += 1;
        const { node, at, routeId, applied } = record;
        const id = `${record.boot}:${record.seq}`;
        const found = { id, node, at, routeId, link: formatLink(applied), differences: checked.differences };
        newest = [found, ...newest].slice(0, newestKept);
        deps.onDifferent(found);
      }
    }
  }

  return {
    offer: (record, bytes) => void queue.offer(record, { bytes, nowMs: monotonicMs() }),
    async run() {
      for (const sample of queue.takeAll()) {
        try {
          note(sample, await check(sample));
        } catch (error) {
          skipped.failed += 1;
          deps.onFailure(error);
        }
      }
    },
    counts: () => ({ same, different, skipped: { ...skipped }, waiting: queue.size, newest }),
  };
}

/** @returns takes one compilation; false: none is left now */
function createAllowance(monotonicMs: () => number): () => boolean {
  let left = compilationsAtOnce;
  let refilledAtMs = monotonicMs();
  return () => {
    const now = monotonicMs();
    left = Math.min(compilationsAtOnce, left + (now - refilledAtMs) / compilationMs);
    refilledAtMs = now;
    if (left < 1) return false;
    left -= 1;
    return true;
  };
}
