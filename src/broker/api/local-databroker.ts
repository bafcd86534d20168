/**
 * Local databroker: the broker as others in its process see it, and as the HTTP API serves it, in one caller's role.
 */
import type {
  BrokerId,
  CommandRequest,
  CommandResult,
  Epoch,
  Incarnation,
  Link,
  Position,
} from "../../events/index.ts";
import {
  type BrokerPresence,
  BrokerUnavailableError,
  type Clock,
  type ClusterStatus,
  type Databroker,
  type EventLog,
  type LesseeStanding,
  LogUnavailableError,
  type NodeStatus,
  type PageOutcome,
  type Receipt,
  type ReceiptOptions,
  type ReceiptTarget,
  type Renew,
  type RenewOrigin,
  readHistory,
} from "../../replication/index.ts";
import { ForbiddenError, mayAsk, type Request, refuseActivation, refuseCommand } from "../commands/permissions.ts";
import { openTokens } from "../commands/vault.ts";
import type { Counters } from "../core/counters.ts";
import type { CommandAnswer } from "../core/messages.ts";
import { unavailable } from "../leader/pending-commands.ts";
import type { SnapshotService } from "../snapshots/snapshot-service.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { LeaderClient } from "./leader-client.ts";
import { type CallOrigin, notLeader, type RouterDeps, route } from "./leader-router.ts";
import type { ReceiptIssuer } from "./receipt-issuer.ts";

export type PageRequest = Readonly<{ limit: number; waitMs: number; signal?: AbortSignal }>;

/** What is asked of the leader of an epoch, while it is us. */
export type LeaderHandle = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  lease: (envelope: Uint8Array, origin: RenewOrigin) => Promise<Uint8Array | null>;
  receipt: (target: ReceiptTarget, options: Omit<ReceiptOptions, "seen">) => Promise<Receipt>;
  standings: () => readonly LesseeStanding[];
  mismatch: (renew: Renew | null) => boolean;
  /** The other brokers that are there. */
  peers: () => readonly BrokerPresence[];
}>;

export type DatabrokerPortDeps = Readonly<{
  cluster: string;
  brokerId: BrokerId;
  version: string;
  /** The level up to which this build can read events. */
  reads: number;
  advertisedUrl: string | null;
  log: EventLog;
  ledger: BrokerState;
  /** Answers when the outcome is certain, or after this long. */
  submit: (request: CommandRequest, waitMs: number) => Promise<CommandAnswer>;
  counters: Counters;
  router: RouterDeps<LeaderHandle>;
  leaderClient: LeaderClient;
  pages: (after: Link, request: PageRequest) => Promise<PageOutcome>;
  vaultKeys: readonly Uint8Array[];
  /** Dates and signs receipts on their way out. */
  receipts: ReceiptIssuer;
  /** How long a command waits for its outcome. */
  commandMs: number;
  /** Nobody leads and the store does not answer: a command is not held for long. */
  isHopeless: () => boolean;
  takesCommands: () => boolean;
  /** Null: this process keeps no snapshots. */
  snapshots: Pick<SnapshotService, "places" | "want"> | null;
  clock: Clock;
}>;

/** For a trouble of the store that may pass. */
const hopelessMs = 1_000;
/**
 * A renew is worth nothing once the next ones have been sent. Less than a node gives us (broker-client.ts): when it asks another
 * broker, nothing of the same renew may be on its way from here any more, for it would be taken for a repeated one.
 */
const leaseMs = 1_200;
const statusMs = 2_000;
/** Beyond what a receipt waits for itself, for a takeover. */
const receiptGraceMs = 3_000;
const receiptMsMax = 120_000;

export function createDatabroker(via: CallOrigin, deps: DatabrokerPortDeps): Databroker {
  const { router, counters, leaderClient } = deps;
  const { role } = via.caller;

  function check(request: Request): void {
    if (!mayAsk(role, request)) throw new ForbiddenError(role, request);
  }

  const isRegional = (name: string): boolean =>
    router
      .here()
      ?.standings()
      .some((standing) => standing.role === "broker" && standing.node === name) === true;

  return {
    async submit(request) {
      const { commandId } = request;
      const message = mayAsk(role, "submit") ? refuseCommand(role, request) : "this role may ask for nothing";
      if (message !== undefined) return { type: "refused", commandId, code: "forbidden", message };
      const hopelessFrom = deps.clock.monotonic() + hopelessMs;
      try {
        return await route<DatabrokerPortDeps["submit"], CommandResult>(
          { ...router, here: () => (deps.takesCommands() ? deps.submit : undefined) },
          {
            via,
            withinMs: deps.commandMs,
            isHopeless: () => deps.isHopeless() && deps.clock.monotonic() >= hopelessFrom,
            async here(submit, leftMs) {
              // What is asked within this process is asked by the broker itself.
              const notOwn =
                via.origin === "remote" ? refuseActivation(request.command, via.caller.name, isRegional) : undefined;
              if (notOwn !== undefined) return { type: "refused", commandId, code: "forbidden", message: notOwn };
              const answer = await submit(request, leftMs);
              return answer.type === "moved" ? notLeader : answer;
            },
            async there(at) {
              counters.commandsForwarded += 1;
              const result = await leaderClient.submit(at, request);
              if (result.type === "unavailable") throw new BrokerUnavailableError(result.message);
              return result;
            },
          },
        );
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError)) throw error;
        counters.commandsUnavailable += 1;
        return unavailable(commandId, error.message);
      }
    },

    async read(after, request) {
      check("read");
      return deps.pages(after, request);
    },

    async lease(envelope) {
      check("lease");
      return route<LeaderHandle, Uint8Array | null>(router, {
        via,
        withinMs: leaseMs,
        here: (leader) => leader.lease(envelope, via.origin),
        there: (at) => leaderClient.lease(at, envelope),
      });
    },

    async receipt(target, options) {
      check("receipt");
      const timeoutMs = Math.max(0, Math.min(receiptMsMax, options.timeoutMs));
      const deadline = deps.clock.monotonic() + timeoutMs;
      const { seen: _, ...asked } = options;
      const left = () => ({ ...options, timeoutMs: Math.max(0, deadline - deps.clock.monotonic()) });
      return route(router, {
        via,
        withinMs: timeoutMs + receiptGraceMs,
        here: async (leader) => {
          const ask = (ms: number) => leader.receipt(target, { ...asked, timeoutMs: ms });
          try {
            return await deps.receipts.answer(ask, left());
          } catch (error) {
            if (error instanceof BrokerUnavailableError && router.here() !== leader) return notLeader;
            throw error;
          }
        },
        there: (at) => leaderClient.receipt({ ...at, timeoutMs: left().timeoutMs + receiptGraceMs }, target, left()),
      });
    },

    async status() {
      check("status");
      return statusOf(via, deps);
    },

    async takeSnapshot() {
      check("takeSnapshot");
      return route<LeaderHandle, Position>(router, {
        via,
        withinMs: statusMs,
        here: async () => {
          if (deps.snapshots === null) throw new BrokerUnavailableError("the leading broker keeps no snapshots");
          return deps.snapshots.want(deps.ledger.applied.position);
        },
        there: (at) => leaderClient.takeSnapshot(at),
      });
    },

    async history(request) {
      check("history");
      return asked(readHistory(deps.log, request));
    },

    async configuration(configHash) {
      check("configurations");
      return asked(deps.log.configuration(configHash));
    },

    async configurations() {
      check("configurations");
      return asked(deps.log.configurations());
    },

    async holdsConfiguration(configHash) {
      check("holdsConfiguration");
      return (await asked(deps.log.configuration(configHash))) !== undefined;
    },

    async tokens(sessionId) {
      check("tokens");
      const entry = await asked(deps.log.vault(sessionId));
      return entry && openTokens(entry, deps.vaultKeys);
    },
  };
}

/** @throws BrokerUnavailableError when the store did not answer */
async function asked<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (cause) {
    if (cause instanceof LogUnavailableError)
      throw new BrokerUnavailableError("the event log is not available", { cause });
    throw cause;
  }
}

async function statusOf(via: CallOrigin, deps: DatabrokerPortDeps): Promise<ClusterStatus> {
  const { cluster, brokerId, ledger, log, router } = deps;
  const leading = router.here() !== undefined;
  const broker = { brokerId, leading, applied: ledger.applied, store: log.kind };
  const { level } = ledger.projection;
  const unknown: ClusterStatus = { cluster, level, leader: null, broker, brokers: [], nodes: [] };
  try {
    return await route<LeaderHandle, ClusterStatus>(router, {
      via,
      withinMs: statusMs,
      here: async (leader) => {
        const head = ledger.applied;
        const status = {
          ...{ brokerId, url: deps.advertisedUrl, epoch: leader.epoch },
          head,
          digest: ledger.projection.digest(),
          reads: deps.reads,
          version: deps.version,
          ...(deps.snapshots === null ? {} : { snapshots: deps.snapshots.places() }),
        };
        const nodes = leader.standings().map((standing) => nodeStatus(standing, leader, head));
        const brokers = leader.peers();
        // The ledger moves on during this call: everything above is of one moment.
        const durability = await log.durabilityOf(head);
        return { ...{ cluster, level, broker, brokers }, leader: { ...status, durability }, nodes };
      },
      there: async (at) => ({ ...(await deps.leaderClient.status(at)), broker }),
    });
  } catch (error) {
    if (error instanceof BrokerUnavailableError) return unknown;
    throw error;
  }
}

function nodeStatus(standing: LesseeStanding, leader: LeaderHandle, head: Link): NodeStatus {
  const { node, boot, region, role, renew, enforced, lastGrantAgoMs, fencedInMs, twin } = standing;
  const told = renew?.applied ?? null;
  // A confirmation may be newer than the last renew, and what is enforced is applied.
  const applied = enforced !== null && enforced.position > (told?.position ?? 0) ? enforced : told;
  return {
    ...{ node, boot, region, role, lastGrantAgoMs, fencedInMs },
    version: renew?.version ?? "",
    reads: renew?.reads ?? null,
    ...{ applied, enforced },
    lag: applied === null ? null : Math.max(0, head.position - applied.position),
    digest: renew?.digest ?? null,
    configHash: renew?.configHash ?? null,
    ...{ digestMismatch: leader.mismatch(renew), twin },
  };
}
