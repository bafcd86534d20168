/**
 * Regional broker: the databroker of a region that is not the leader's.
 *
 * - It writes nothing. It follows the log from the brokers of the home region and from NATS, keeps a copy, and serves
 *   its pages to the nodes of its region. It forwards commands, receipts and renews to the home region.
 * - While the home region is out of reach, its nodes still read and restart from the copy. They get leases by age from
 *   the broker's own lease until it expires (docs/adr/0013).
 * - The region core (region-core.ts) and the node core of its own copy decide. This file only connects the parts.
 */
import { type BrokerId, type CommandRequest, parseBootId, type UnixMs } from "../../events/index.ts";
import type { Fanout } from "../../replication/fanout/index.ts";
import {
  type Clock,
  type ClusterStatus,
  type Databroker,
  type HomeOutOfReach,
  type LocalResult,
  type Logger,
  regionLags,
  type StatusOptions,
} from "../../replication/index.ts";
import type { ReplicaProcess } from "../../replication/node/index.ts";
import {
  answererOf,
  BrokerUnavailableError,
  createBrokerOpener,
  createLocalReceiptSigner,
  homeRetryAfterMs,
  type Role,
  type SolePathClaim,
} from "../../replication/wire/index.ts";
import type { Broker } from "../api/broker-handle.ts";
import type { CallOrigin } from "../api/leader-router.ts";
import { unavailableDatabroker } from "../api/unavailable-databroker.ts";
import { ForbiddenError, mayRequest, type Request, refuseActivation, refuseCommand } from "../commands/permissions.ts";
import { waitFor } from "../core/notifier.ts";
import { unavailableResult } from "../leader/pending-commands.ts";
import { nodeOpener } from "../peers/node-opener.ts";
import type { AgeMark } from "./age-mark-file.ts";
import type { RegionCopy } from "./region-copy.ts";
import { RegionDriver, type RegionDriverRevocations } from "./region-driver.ts";
import { isLocalCommand, type RegionPeerCalls } from "./region-local.ts";
import type { RevocationsFile } from "./revocations-file.ts";

export type RegionalBrokerOptions = Readonly<{
  cluster: string;
  brokerId: BrokerId;
  region: string;
  secret: Uint8Array;
  /** While the shared secret is being replaced. */
  previousSecret: Uint8Array | null;
  /** The version of this build; nodes of another build may fold to another digest. */
  version: string;
  renewMs: number;
  /** Whether this process leads instead once the Postgres primary is in its region. Default: it does not. */
  mayLead?: boolean;
  clock: Clock;
  random: (bytes: number) => Uint8Array;
  logger: Logger;
  copy: RegionCopy;
  mark: AgeMark;
  /** The client of the home region's brokers for a role. */
  home: (role: Role) => Databroker;
  /** The region's fan-out. Null: the broker gets every event by reading. */
  fanout: Fanout | null;
  /** What it needs to accept revocations while the home region is out of reach. Null: it accepts none. */
  revocations: RegionRevocationParts | null;
  /** Starts this broker's own copy, in the role of a broker. */
  startReplica: (wired: WiredReplica) => ReplicaProcess;
}>;

export type RegionRevocationParts = Readonly<{
  region: string;
  file: RevocationsFile;
  /** `broker.urls` and this broker's own address. */
  urls: readonly URL[];
  /** This broker's own address; null: other processes cannot reach it. */
  ownUrl: URL | null;
  calls: RegionPeerCalls;
}>;

export type WiredReplica = Readonly<{
  databroker: Databroker;
  fanout: Fanout | null;
  replaces: "last boot" | "none";
  /** The longest window that a node of the region requests; 0: no node has requested one. */
  windowMs: () => number;
  /** What this broker's own renews say of the sole path. */
  solePath: () => Pick<SolePathClaim, "wanted" | "retained">;
  enforcingMsMax: number;
}>;

const noLease = "the leader has granted this regional broker no lease, so it accepts no activation from it";
const statusMs = 2_000;
const regionsEveryMs = 2_000;
const readWithinMs = 60_000;

export type RegionalBroker = Broker &
  Readonly<{
    /**
     * Stops before another part of this process starts. That part sends the goodbye, because the leader may be gone.
     * @returns how long (ms) it must wait first: while a lease by age may count, the leader must wait for this boot
     */
    stopBeforeRoleChange: () => Promise<number>;
  }>;

export function startRegionalBroker(options: RegionalBrokerOptions): RegionalBroker {
  const { cluster, brokerId, clock, copy, mark, logger } = options;
  const secrets = [options.secret, ...(options.previousSecret === null ? [] : [options.previousSecret])];
  const boot = parseBootId(Buffer.from(options.random(16)).toString("hex"));
  const region = new RegionDriver({
    copy,
    mark,
    home: options.home,
    clock,
    logger,
    version: options.version,
    renewMs: options.renewMs,
    openBroker: createBrokerOpener({ cluster, secrets }),
    openNode: nodeOpener(cluster, secrets),
    signer: answererOf({ cluster, name: brokerId, boot, secret: options.secret, seed: options.random(32) }),
    revocations: options.revocations === null ? null : revocationsOf(options.revocations, options),
  });
  const now = () => clock.monotonic();
  let commandsForwarded = 0;
  const stopping = new AbortController();
  let lastKnown: HomeOutOfReach["lastKnown"] = null;
  let stopped: Promise<void> | undefined;

  const replica = options.startReplica({
    databroker: {
      ...options.home("broker"),
      read: (after, request) => region.readForOwn(after, request),
      lease: (envelope) => region.leaseForOwn(envelope),
    },
    fanout: options.fanout === null ? null : region.keptFanout(options.fanout),
    replaces: region.core.replaces,
    windowMs: () => region.core.windowMs(now()),
    solePath: () => region.core.solePathClaim(now()),
    enforcingMsMax: Number.POSITIVE_INFINITY, // it waits for each node no longer than its lease
  });
  region.setReplica(replica);
  replica.onChange((change) => region.changed(change));

  function view(): ClusterStatus["broker"] {
    const { localUnmerged } = region.core;
    const mirrorLag = options.fanout?.status().mirrorLag;
    const { applied } = replica;
    const mirror = mirrorLag === undefined ? {} : { mirrorLag };
    const { mayLead = false } = options;
    return { brokerId, leading: false, applied, store: "region", localUnmerged, mayLead, ...mirror };
  }

  async function status(role: Role, statusOptions?: StatusOptions): Promise<ClusterStatus> {
    const leaderStatus = await region.askWithin(statusMs, role, (at) => at.status(statusOptions));
    if (leaderStatus !== undefined) {
      learnRegions(leaderStatus);
      return { ...leaderStatus, broker: view() };
    }
    const { level } = replica.projection;
    const nodes = statusOptions?.nodes === "omitted" ? [] : regionNodes();
    return { cluster, level, leader: null, broker: view(), brokers: [], nodes, home: homeOutOfReach() };
  }

  function learnRegions({ leader, regions }: ClusterStatus): void {
    if (leader !== null && regions !== undefined) lastKnown = { at: clock.wall(), head: leader.head, regions };
  }

  function homeOutOfReach(): HomeOutOfReach {
    const held = replica.lease();
    const leftMs = held === null ? 0 : held.freshSinceMs + held.windowMs - now();
    return {
      region: options.region,
      silentMs: region.core.homeSilentMs(now()),
      leasesUntil: leftMs <= 0 ? null : ((clock.wall() + Math.round(leftMs)) as UnixMs),
      lastKnown,
    };
  }

  function outOfReachReason(): string {
    const { leasesUntil } = homeOutOfReach();
    const until =
      leasesUntil === null ? "no leases by age" : `leases by age until ${new Date(leasesUntil).toISOString()}`;
    return `the home region is out of reach; ${until}`;
  }

  /** What this region knows of the others must be recent when the link is cut. */
  async function keepRegionsKnown(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        const answer = await region.askWithin(statusMs, "broker", (at) => at.status({ nodes: "omitted" }));
        if (answer !== undefined) learnRegions(answer);
      } catch (err) {
        // What was last known stays, with its age.
        logger.warn({ err }, "the home region did not say how the regions are");
      }
      await waitFor(regionsEveryMs, stopping.signal);
    }
  }

  /** The nodes of the region as this broker knows them while the leader is unreachable. */
  function regionNodes() {
    const head = replica.applied.position;
    return region.core.standings(now()).map(({ renew, enforced, grantedAgoMs, fencedInMs }) => ({
      node: renew.node,
      boot: renew.boot,
      region: renew.region,
      role: renew.role,
      version: renew.version,
      reads: null,
      applied: renew.applied,
      enforced,
      lag: Math.max(0, head - renew.applied.position),
      digest: renew.digest,
      configHash: renew.configHash,
      lastGrantAgoMs: grantedAgoMs,
      fencedInMs,
      digestMismatch: false,
      twin: null,
      heardAgoMs: null,
      refusal: null,
    }));
  }

  function databrokerFor(callOrigin: CallOrigin): Databroker {
    const { role } = callOrigin.caller;
    if (callOrigin.hop === "regional")
      return unavailableDatabroker("this broker does not serve the home region", "not-home");
    const allow = (request: Request): void => {
      if (!mayRequest(role, request)) throw new ForbiddenError(role, request);
    };
    async function ask<T>(request: Request, question: (at: Databroker) => Promise<T>): Promise<T> {
      allow(request);
      if (callOrigin.hop === "forwarded") throw new BrokerUnavailableError("a regional broker never leads");
      return region.ask(role, question);
    }
    return {
      async submit(request) {
        const { commandId } = request;
        const message = mayRequest(role, "submit")
          ? (refuseCommand(role, request) ??
            (callOrigin.origin === "remote"
              ? refuseActivation(request.command, callOrigin.caller.name, () => false)
              : undefined))
          : "this role may not submit commands";
        if (message !== undefined) return { type: "refused", commandId, code: "forbidden", message };
        // While the leader answers, it records it; otherwise this region must not lose it.
        if (request.command.type === "mergeRevocation" && !region.core.leaderAnswers(now()))
          region.local?.brought(request.command.envelope);
        const activates = request.command.type === "activateConfiguration";
        if (activates && replica.lease() === null) return unavailableResult(commandId, noLease);
        commandsForwarded += 1;
        try {
          const result = await ask("submit", async (at) => {
            const answer = await at.submit(request);
            // The client answers so by itself when no broker has: that is no answer of the home region.
            if (answer.type === "unavailable")
              throw new BrokerUnavailableError(answer.message, { reason: "no-answer" });
            return answer;
          });
          // The node was checked above, so the leader does not know this broker. A node of an older build never repeats
          // a refused command.
          return activates && result.type === "refused" && result.code === "forbidden"
            ? unavailableResult(commandId, noLease)
            : result;
        } catch (error) {
          if (!(error instanceof BrokerUnavailableError)) throw error;
          if (error.reason !== "home-unreachable") return unavailableResult(commandId, error.message);
          const { message, reason: code, outcome } = error;
          return { type: "unavailable", commandId, message, code, outcome, retryAfterMs: homeRetryAfterMs };
        }
      },
      async read(after, request) {
        allow("read");
        return region.read(after, request);
      },
      async lease(envelope) {
        allow("lease");
        // A lease by age of another region's broker would rest on two regions.
        if (role === "broker") throw new BrokerUnavailableError("this broker grants no leases to brokers");
        return region.take(role, envelope);
      },
      receipt: (target, asked) => ask("receipt", (at) => at.receipt(target, asked)),
      async status(statusOptions) {
        allow("status");
        return status(role, statusOptions);
      },
      takeSnapshot: () => ask("takeSnapshot", (at) => at.takeSnapshot()),
      history: (request) => ask("history", (at) => at.history(request)),
      configuration: (configHash) => ask("configurations", (at) => at.configuration(configHash)),
      configurations: () => ask("configurations", (at) => at.configurations()),
      holdsConfiguration: (configHash) => ask("holdsConfiguration", (at) => at.holdsConfiguration(configHash)),
      storedSignalStream: (receiver) => ask("signalStream", (at) => at.storedSignalStream(receiver)),
      tokens: (sessionId) => ask("tokens", (at) => at.tokens(sessionId)),
      async denials(after, request) {
        allow("lease");
        return region.local === null ? { type: "none" } : region.local.denials(after, request);
      },
      revokeLocally: (request) => revokeLocally(role, request),
      async localReceipt(commandId, { timeoutMs }) {
        allow("receipt");
        return region.local === null ? { type: "unknown" } : region.local.receipt(commandId, timeoutMs);
      },
    };
  }

  /**
   * For operators, whose token or session the caller has checked, and for the sign-out of a person, whose session the
   * authenticate service has checked.
   */
  async function revokeLocally(role: Role, request: CommandRequest): Promise<LocalResult> {
    const { commandId } = request;
    const { command } = request;
    const isSignOut = role === "authenticate" && "reason" in command && command.reason === "sign-out";
    const message =
      role === "operator" || isSignOut ? refuseCommand(role, request) : "only an operator may revoke in a region alone";
    if (message !== undefined) return { type: "refused", commandId, code: "forbidden", message };
    if (region.local !== null && isLocalCommand(request)) return region.local.submit(request);
    const why = "a region accepts by itself only commands that revoke or suspend";
    return { type: "unavailable", commandId, code: "local-off", message: why };
  }

  /** In ms; −1: the broker holds no valid lease. */
  function leaseAgeMs(): number {
    const held = replica.lease();
    return held === null ? -1 : clock.monotonic() - held.freshSinceMs;
  }

  async function stopBeforeRoleChange(): Promise<number> {
    stopping.abort();
    await region.stop();
    // Leases by age may count although the lease on which they rest is blocked by now.
    const endsAt = region.core.leasedUntil(now());
    await replica.goodbye();
    await replica.stop();
    return Math.max(0, endsAt - now());
  }

  async function stop(): Promise<void> {
    stopping.abort();
    // While a node may continue with a lease by age, the leader must wait for this boot's own lease.
    if ((await region.stop()) === "say") await replica.goodbye();
    await replica.stop();
  }

  const broker = {
    brokerId,
    databroker: (role: Role) =>
      databrokerFor({ origin: "in-process", hop: "direct", caller: { role, name: brokerId } }),
    databrokerFor,
    leading: () => false,
    ready() {
      // It serves its region with the rest of its lease, even while the home region is away.
      const { ready, reasons } = replica.lease() === null ? replica.ready() : { ready: true, reasons: [] };
      return { ready, reasons: region.core.isHomeOutOfReach(now()) ? [outOfReachReason(), ...reasons] : reasons };
    },
    metrics() {
      const own = replica.metrics();
      return {
        ...region.core.counts(now()),
        leading: 0,
        epoch: replica.applied.epoch,
        applied: own.applied,
        enforced: own.enforced,
        commandsForwarded,
        regionLag: own.lag,
        homeSilentMs: region.core.homeSilentMs(now()) ?? -1,
        leaseAgeMs: leaseAgeMs(),
        mirrorLag: options.fanout?.status().mirrorLag ?? -1,
        homeReads: own.reads,
        homeReadFailures: own.readFailures,
      };
    },
    copy: replica,
    exchangeRevocations: async (question: unknown) => {
      if (region.local === null) throw new BrokerUnavailableError("this broker accepts no revocation by itself");
      return region.local.exchange(question);
    },
    regions: () => regionLags(regionNodes()),
    /** Brokers of the home region send gossip only to each other. */
    receiveGossip: () => ({ epoch: replica.applied.epoch, urls: [] }),
    whenRead: () => replica.whenReady(readWithinMs).then(() => null),
    stop: () => (stopped ??= stop()),
    stopBeforeRoleChange,
  };
  keepRegionsKnown().catch((err: unknown) => logger.error({ err }, "the state of the other regions is not kept"));
  return broker;
}

function revocationsOf(
  { region, file, urls, ownUrl, calls }: RegionRevocationParts,
  { cluster, secret }: Pick<RegionalBrokerOptions, "cluster" | "secret">,
): RegionDriverRevocations {
  const addresses = [...new Set([...urls, ...(ownUrl === null ? [] : [ownUrl])].map(({ origin }) => origin))];
  return {
    cluster,
    region,
    file,
    calls,
    addresses,
    peerAddresses: addresses.filter((address) => address !== ownUrl?.origin),
    signReceipt: createLocalReceiptSigner(secret),
  };
}
