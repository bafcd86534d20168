/**
 * Local databroker: the broker's API in one caller's role, for its own process and for the HTTP server.
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
  type Clock,
  type ClusterStatus,
  type Databroker,
  type NodeStatus,
  type PageOutcome,
  type Receipt,
  type ReceiptOptions,
  type ReceiptTarget,
  type RegionAbsences,
  regionLags,
  type StatusOptions,
} from "../../replication/index.ts";
import type { LesseeStatus, RenewOrigin } from "../../replication/lease/index.ts";
import { type EventLog, LogUnavailableError, readHistory } from "../../replication/log/index.ts";
import { BrokerUnavailableError, type Renew } from "../../replication/wire/index.ts";
import { ForbiddenError, mayRequest, type Request, refuseActivation, refuseCommand } from "../commands/permissions.ts";
import { openSignalStream, openTokens, signalVaultId } from "../commands/vault.ts";
import type { Counters } from "../core/counters.ts";
import type { CommandAnswer } from "../core/messages.ts";
import { unavailableResult } from "../leader/pending-commands.ts";
import type { SnapshotService } from "../snapshots/snapshot-service.ts";
import type { BrokerState } from "../state/broker-state.ts";
import type { LeaderClient } from "./leader-client.ts";
import { type CallOrigin, notLeader, type RouterDeps, regionalCaller, routeToLeader } from "./leader-router.ts";
import type { MergeCheck } from "./merge-check.ts";
import type { ReceiptIssuer } from "./receipt-issuer.ts";
import type { SealCheck } from "./seal-check.ts";

export type PageRequest = Readonly<{ limit: number; waitMs: number; signal?: AbortSignal }>;

/** The leader of an epoch, while it is this broker. */
export type LeaderHandle = Readonly<{
  epoch: Epoch;
  incarnation: Incarnation;
  /** @param from.through the regional broker that passed it on; null: none */
  lease: (
    envelope: Uint8Array,
    from: Readonly<{ origin: RenewOrigin; through: string | null }>,
  ) => Promise<Uint8Array | null>;
  receipt: (target: ReceiptTarget, options: Omit<ReceiptOptions, "seen">) => Promise<Receipt>;
  standings: () => readonly LesseeStatus[];
  absences: () => RegionAbsences;
  mismatch: (renew: Renew | null) => boolean;
  /** The other brokers that are alive. */
  peers: () => readonly BrokerPresence[];
}>;

export type LocalDatabrokerDeps = Readonly<{
  cluster: string;
  brokerId: BrokerId;
  version: string;
  /** The level up to which this build can read events. */
  reads: number;
  advertisedUrl: string | null;
  log: EventLog;
  state: BrokerState;
  /** Answers when the outcome is certain, or after `waitMs`. */
  submit: (request: CommandRequest, waitMs: number) => Promise<CommandAnswer>;
  counters: Counters;
  router: RouterDeps<LeaderHandle>;
  leaderClient: LeaderClient;
  pages: (after: Link, request: PageRequest) => Promise<PageOutcome>;
  vaultKeys: readonly Uint8Array[];
  /** Dates and signs receipts on their way out. */
  receipts: ReceiptIssuer;
  /** Checks revocations that a cut-off region accepted by itself. */
  merges: MergeCheck;
  /** Checks seals of audit records. */
  refuseSeal: SealCheck;
  /** How long a command waits for its outcome. */
  commandMs: number;
  /** True while no command can succeed soon: it is then answered early. */
  isStoreUnreachable: () => boolean;
  takesCommands: () => boolean;
  /** Null: this process keeps no snapshots. */
  snapshots: Pick<SnapshotService, "places" | "requestSnapshot"> | null;
  clock: Clock;
  /** Lets other work of the process run. */
  turn: () => Promise<void>;
}>;

/** Commands wait this long for an unreachable store, in case it recovers. */
const unreachableGraceMs = 1_000;
/**
 * A renew is worthless once the next ones are sent. This must be less than a node's own limit (broker-client.ts): when
 * the node tries another broker, this one must have stopped forwarding the same renew, or it would count as repeated.
 */
const leaseMs = 1_200;
const statusMs = 2_000;
/** Extra time for a takeover, beyond the wait of the receipt itself. */
const receiptGraceMs = 3_000;
const receiptMsMax = 120_000;

export function createLocalDatabroker(callOrigin: CallOrigin, deps: LocalDatabrokerDeps): Databroker {
  const { router, counters, leaderClient } = deps;
  const { role } = callOrigin.caller;

  function check(request: Request): void {
    if (!mayRequest(role, request)) throw new ForbiddenError(role, request);
  }

  const isRegional = (name: string): boolean =>
    router
      .local()
      ?.standings()
      .some((standing) => standing.role === "broker" && standing.node === name) === true;

  /** @param startedAt when the caller sent it, on the monotonic clock */
  async function submitToLeader(request: CommandRequest, startedAt: number): Promise<CommandResult> {
    const { commandId } = request;
    const graceEndsAt = startedAt + unreachableGraceMs;
    try {
      return await routeToLeader<LocalDatabrokerDeps["submit"], CommandResult>(
        { ...router, local: () => (deps.takesCommands() ? deps.submit : undefined) },
        {
          callOrigin,
          withinMs: deps.commandMs - (deps.clock.monotonic() - startedAt),
          isStoreUnreachable: () => deps.isStoreUnreachable() && deps.clock.monotonic() >= graceEndsAt,
          async local(submit, leftMs) {
            const notOwn =
              callOrigin.origin === "remote"
                ? refuseActivation(request.command, callOrigin.caller.name, isRegional)
                : undefined;
            if (notOwn !== undefined) return { type: "refused", commandId, code: "forbidden", message: notOwn };
            const answer = await submit(request, leftMs);
            return answer.type === "notLeader" ? notLeader : fromStore(deps.merges.confirm(request, answer));
          },
          async remote(call) {
            counters.commandsForwarded += 1;
            const result = await leaderClient.submit(call, request);
            if (result.type === "unavailable")
              throw new BrokerUnavailableError(
                result.message,
                result.code === undefined ? {} : { reason: result.code },
              );
            return result;
          },
        },
      );
    } catch (error) {
      if (!(error instanceof BrokerUnavailableError)) throw error;
      counters.commandsUnavailable += 1;
      return unavailableResult(commandId, error.message);
    }
  }

  return {
    async submit(request) {
      const { commandId, command } = request;
      const message = mayRequest(role, "submit") ? refuseCommand(role, request) : "this role may not submit commands";
      const refusal = message ?? deps.merges.refuse(request) ?? deps.refuseSeal(request);
      if (refusal !== undefined) return { type: "refused", commandId, code: "forbidden", message: refusal };
      const startedAt = deps.clock.monotonic();
      // A call within this process is the broker's own.
      const isOwn = callOrigin.origin !== "remote" || command.type !== "activateConfiguration";
      if (isOwn && command.type !== "mergeRevocation" && deps.takesCommands()) {
        // The usual case, in one step.
        const answer = await deps.submit(request, deps.commandMs);
        if (answer.type !== "notLeader") return answer;
      }
      return submitToLeader(request, startedAt);
    },

    async read(after, request) {
      check("read");
      return deps.pages(after, request);
    },

    async lease(envelope) {
      check("lease");
      return routeToLeader<LeaderHandle, Uint8Array | null>(router, {
        callOrigin,
        withinMs: leaseMs,
        local: (leader) => leader.lease(envelope, { origin: callOrigin.origin, through: regionalCaller(callOrigin) }),
        remote: (call) => leaderClient.lease(call, envelope),
      });
    },

    async receipt(target, options) {
      check("receipt");
      const timeoutMs = Math.max(0, Math.min(receiptMsMax, options.timeoutMs));
      const deadline = deps.clock.monotonic() + timeoutMs;
      const { seen: _, ...receiptOptions } = options;
      const remaining = () => ({ ...options, timeoutMs: Math.max(0, deadline - deps.clock.monotonic()) });
      return routeToLeader(router, {
        callOrigin,
        withinMs: timeoutMs + receiptGraceMs,
        local: async (leader) => {
          const ask = (ms: number) => leader.receipt(target, { ...receiptOptions, timeoutMs: ms });
          try {
            return await deps.receipts.answer(ask, remaining());
          } catch (error) {
            if (error instanceof BrokerUnavailableError && router.local() !== leader) return notLeader;
            throw error;
          }
        },
        remote: (call) =>
          leaderClient.receipt({ ...call, timeoutMs: remaining().timeoutMs + receiptGraceMs }, target, remaining()),
      });
    },

    async status(options) {
      check("status");
      return statusOf(callOrigin, deps, options);
    },

    async takeSnapshot() {
      check("takeSnapshot");
      return routeToLeader<LeaderHandle, Position>(router, {
        callOrigin,
        withinMs: statusMs,
        local: async () => {
          if (deps.snapshots === null) throw new BrokerUnavailableError("the leading broker stores no snapshots");
          return deps.snapshots.requestSnapshot(deps.state.applied.position);
        },
        remote: (call) => leaderClient.takeSnapshot(call),
      });
    },

    async history(request) {
      check("history");
      return fromStore(readHistory(deps.log, request, deps.turn));
    },

    async configuration(configHash) {
      check("configurations");
      return fromStore(deps.log.configuration(configHash));
    },

    async configurations() {
      check("configurations");
      return fromStore(deps.log.configurations());
    },

    async holdsConfiguration(configHash) {
      check("holdsConfiguration");
      return (await fromStore(deps.log.configuration(configHash))) !== undefined;
    },

    async storedSignalStream(receiver) {
      check("signalStream");
      return openSignalStream(await fromStore(deps.log.vault(signalVaultId(receiver))), deps.vaultKeys);
    },

    async tokens(sessionId) {
      check("tokens");
      const entry = await fromStore(deps.log.vault(sessionId));
      return entry && openTokens(entry, deps.vaultKeys);
    },
  };
}

/** @throws BrokerUnavailableError if the store did not answer */
async function fromStore<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (cause) {
    if (cause instanceof LogUnavailableError)
      throw new BrokerUnavailableError("the event log is not available", { cause });
    throw cause;
  }
}

async function statusOf(
  callOrigin: CallOrigin,
  deps: LocalDatabrokerDeps,
  options: StatusOptions | undefined,
): Promise<ClusterStatus> {
  const { cluster, brokerId, state, log, router } = deps;
  const leading = router.local() !== undefined;
  const broker = { brokerId, leading, applied: state.applied, store: log.kind };
  const { level } = state.projection;
  const unknown: ClusterStatus = { cluster, level, leader: null, broker, brokers: [], nodes: [] };
  try {
    return await routeToLeader<LeaderHandle, ClusterStatus>(router, {
      callOrigin,
      withinMs: statusMs,
      local: async (leader) => {
        const head = state.applied;
        const status = {
          brokerId,
          url: deps.advertisedUrl,
          epoch: leader.epoch,
          head,
          digest: state.projection.digest(),
          reads: deps.reads,
          version: deps.version,
          ...(deps.snapshots === null ? {} : { snapshots: deps.snapshots.places() }),
        };
        const all = leader.standings().map((standing) => nodeStatus(standing, leader, head));
        const absences = leader.absences();
        const regions = regionLags(all, absences);
        const nodes = options?.nodes === "omitted" ? [] : all;
        const absent = options?.nodes === "omitted" ? [] : absences.absent;
        const brokers = leader.peers();
        // The state advances during this call: everything above is of one moment.
        const durability = await log.durabilityOf(head);
        return { cluster, level, broker, brokers, leader: { ...status, durability }, nodes, absent, regions };
      },
      remote: async (call) => ({ ...(await deps.leaderClient.status(call, options)), broker }),
    });
  } catch (error) {
    if (error instanceof BrokerUnavailableError) return unknown;
    throw error;
  }
}

function nodeStatus(standing: LesseeStatus, leader: LeaderHandle, head: Link): NodeStatus {
  const { node, boot, region, role, renew, enforced, lastGrantAgoMs, fencedInMs, twin, heardAgoMs, refusal } = standing;
  const renewed = renew?.applied ?? null;
  // A confirmation may be newer than the last renew, and what is enforced is applied.
  const applied = enforced !== null && enforced.position > (renewed?.position ?? 0) ? enforced : renewed;
  return {
    node,
    boot,
    region,
    role,
    lastGrantAgoMs,
    fencedInMs,
    version: renew?.version ?? "",
    reads: renew?.reads ?? null,
    applied,
    enforced,
    lag: applied === null ? null : Math.max(0, head.position - applied.position),
    digest: renew?.digest ?? null,
    configHash: renew?.configHash ?? null,
    digestMismatch: leader.mismatch(renew),
    twin,
    heardAgoMs,
    refusal,
  };
}
