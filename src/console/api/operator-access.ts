/**
 * Operator access: audit records of callers that the operator API refuses, of reads of personal data and of audit, and
 * of acts that no command records.
 * Pure.
 *
 * - A flood of refused callers does not fill the spool: a minute has at most twenty records of its own; one more says
 *   how many others were refused.
 * - A read that an operator repeats within ten minutes is not recorded again. The next record says how often.
 */
import { LRUCache } from "lru-cache";
import type { ActRecord } from "../../audit/index.ts";
import type { UnixMs } from "../../events/index.ts";

export type AccessAct = Omit<ActRecord, "node" | "boot" | "region">;

export type AccessRecorder = Readonly<{
  /** @param actor `user:ID` of a person, or `token:ID`, whose role does not suffice; `anonymous` */
  refused(request: Readonly<{ operation: string; actor: string; status: 401 | 403; ip: string | undefined }>): void;
  /** An act that no command records. @param actor as `read` */
  acted(
    request: Readonly<{
      operation: string;
      actor: string;
      targets: readonly string[];
      status: number;
      ip: string | undefined;
    }>,
  ): void;
  /** @param actor as the log names it */
  read(
    request: Readonly<{ operation: string; actor: string; targets: readonly string[]; ip: string | undefined }>,
  ): void;
}>;

const refusedPerWindow = 20;
const windowMs = 60_000;
const repeatedMs = 600_000;
const readsMax = 10_000;
const targetsMax = 20;

export function createAccessRecorder(options: {
  record: (act: AccessAct) => void;
  now: () => UnixMs;
  uuid: () => string;
  /** Calls back once, after this time. */
  after: (ms: number, callBack: () => void) => void;
}): AccessRecorder {
  const { record, now, uuid } = options;
  /** Null: no window is open. `counts`: refusals without a record of their own, by status. */
  let window: { left: number; readonly counts: Map<401 | 403, number> } | null = null;
  const reads = new LRUCache<string, { atMs: number; repeats: number }>({
    maxSize: readsMax, // with `max`, the whole table would be allocated now
    sizeCalculation: () => 1,
  });

  const act = (actor: string, operation: string, more: Partial<AccessAct>): AccessAct => ({
    at: now(),
    commandId: uuid(),
    actor,
    command: operation,
    targets: [],
    targetsMore: 0,
    reason: null,
    outcome: "done",
    code: null,
    link: null,
    latencyMs: 0,
    ...more,
  });

  function closeWindow(): void {
    const counts = window?.counts ?? new Map();
    window = null;
    for (const [status, count] of counts)
      record(act("anonymous", "many requests", { outcome: "refused", code: String(status), count }));
  }

  return {
    refused({ operation, actor, status, ip }) {
      if (window === null) {
        window = { left: refusedPerWindow, counts: new Map() };
        options.after(windowMs, closeWindow);
      }
      if (window.left === 0) {
        window.counts.set(status, (window.counts.get(status) ?? 0) + 1);
        return;
      }
      window.left -= 1;
      const from = ip === undefined ? {} : { ip };
      record(act(actor, operation, { outcome: "refused", code: String(status), ...from }));
    },
    acted({ operation, actor, targets, status, ip }) {
      const outcome =
        status < 400 ? { outcome: "done" as const } : { outcome: "refused" as const, code: String(status) };
      record(act(actor, operation, { targets, ...outcome, ...(ip === undefined ? {} : { ip }) }));
    },
    read({ operation, actor, targets, ip }) {
      const key = JSON.stringify([actor, operation, targets]);
      const before = reads.get(key);
      if (before !== undefined && now() - before.atMs < repeatedMs) {
        before.repeats += 1;
        return;
      }
      reads.set(key, { atMs: now(), repeats: 0 });
      const repeats = before?.repeats ?? 0;
      record(
        act(actor, operation, {
          targets: targets.slice(0, targetsMax),
          targetsMore: Math.max(0, targets.length - targetsMax),
          ...(ip === undefined ? {} : { ip }),
          ...(repeats === 0 ? {} : { count: repeats + 1 }),
        }),
      );
    },
  };
}

/** The changes that are made without a command to the broker, whose record would name the actor. */
export function isUnrecordedAct(operation: string): boolean {
  return (
    operation === "POST /snapshots" ||
    operation === "POST /users/:user/ask" ||
    /^POST \/signals\/(?:transmitters|streams)\//.test(operation)
  );
}

/** The operations whose answers have personal data, or say what people did. */
export function isSensitiveRead(operation: string): boolean {
  if (["POST /explain", "POST /preview", "POST /policy/replay"].includes(operation)) return true;
  const [method, path = ""] = operation.split(" ");
  if (operation === "GET /configurations/:a/diff/:b" || operation === "GET /receipts") return true;
  return (
    method === "GET" &&
    /^\/(sessions|users|groups|held|access|decisions|changes|directories\/:directory\/people)\b/.test(path)
  );
}
