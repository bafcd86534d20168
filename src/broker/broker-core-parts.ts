/** Broker core parts: the state machines of one broker, built and connected. Pure. */
import { firstLevel, readsLevel } from "../events/index.ts";
import { Reassertions } from "../replication/node/index.ts";
import { personKeyWrap, vaultKey } from "../replication/wire/index.ts";
import { defaultMassChangeLimits } from "./commands/held/guard-mass-change.ts";
import { newCounters } from "./core/counters.ts";
import type { BrokerCoreOptions } from "./core/options.ts";
import { StepContext } from "./core/step-context.ts";
import { BatchPublisher } from "./leader/batch-publisher.ts";
import { BootKeys } from "./leader/boot-keys.ts";
import { BrokerPresences } from "./leader/broker-presence.ts";
import { DuplicateCheck } from "./leader/duplicate-check.ts";
import { DutyHolder } from "./leader/duty-holder.ts";
import { Election } from "./leader/election.ts";
import { EpochClaims } from "./leader/epoch-claims.ts";
import type { LeaderParts } from "./leader/leader-parts.ts";
import { LeadershipLifecycle } from "./leader/leadership-lifecycle.ts";
import { PendingCommands } from "./leader/pending-commands.ts";
import { ReassertionIntake } from "./leader/reassertion-intake.ts";
import { BrokerState } from "./state/broker-state.ts";
import { BrokerStateSync } from "./state/broker-state-sync.ts";
import { PageServer } from "./state/page-server.ts";
import { createPersonKeyCache } from "./state/person-key-cache.ts";

const idleBeatMsMax = 500;

/** The parts share one step context: each emits effects and posts internal messages through it. */
export type BrokerCoreParts = ReturnType<typeof createBrokerCoreParts>;

export function createBrokerCoreParts(options: BrokerCoreOptions) {
  const { exclusive, secrets, lease, takeoverMs, version } = options;
  const [secret] = secrets;
  const random = pooledRandom(options.random);
  const reads = options.reads ?? readsLevel;
  const { recentEventsMax } = options;
  const state = new BrokerState({ reads, ...(recentEventsMax === undefined ? {} : { recentEventsMax }) });
  const counters = newCounters();
  const context = new StepContext(options.writeTimeoutMs);
  const presences = new BrokerPresences(context, { brokerId: options.brokerId, version, reads });
  const pendingCommands = new PendingCommands(
    context,
    state,
    options.commandsMax === undefined ? {} : { commandsMax: options.commandsMax },
  );
  const keys = createPersonKeyCache(secrets);
  const duplicateCheck = new DuplicateCheck(context, {
    pendingCommands,
    state,
    counters,
    isCurrent: (leadershipNo) => lifecycle.isCurrent(leadershipNo),
  });
  const stateSync = new BrokerStateSync(context, { state, counters, beginsFrom: options.beginsFrom ?? "log" });
  const publisher = new BatchPublisher(context, { state, counters });
  const reassertionIntake = new ReassertionIntake(context, { pendingCommands, state, counters });
  const pages = new PageServer(context, state);
  const epochClaims = new EpochClaims(context, counters);
  const reassertions = createBrokerReassertions(context, random);
  const { brokerId, brokerUrl, expirySweepMs, commandSweepMs } = options;
  const election = new Election(context, {
    brokerId,
    brokerUrl,
    exclusive,
    takeoverMs,
    replaced: options.replaced ?? null,
    random,
    windowMaxMs: lease.remoteWindowMaxMs ?? lease.windowMaxMs,
    lastLed: () => lifecycle.lastLed,
    level: () => state.projection.level,
  });
  const duties = new DutyHolder(
    context,
    { state, pendingCommands, counters, random },
    {
      others: options.duties,
      expirySweepMs,
      commandSweepMs,
    },
  );
  const leaderParts: LeaderParts = {
    context,
    ...(options.region === undefined ? {} : { region: options.region }),
    state,
    pendingCommands,
    counters,
    random,
    lease,
    exclusive,
    version,
    newLogLevel: options.newLogLevel ?? firstLevel,
    keys,
    duplicateCheck,
    publisher,
    reassertionIntake,
    peers: presences,
    bootKeys: new BootKeys(),
    idleBeatMs: Math.min(idleBeatMsMax, takeoverMs / 6),
    wrappingKey: personKeyWrap(secret),
    vaultKey: vaultKey(secret),
    massChange: options.massChange ?? defaultMassChangeLimits,
    proofMsMax: options.writeTimeoutMs,
  };
  const lifecycle = new LeadershipLifecycle(leaderParts, {
    stateSync,
    election,
    duties,
  });
  return {
    context,
    state,
    counters,
    keys,
    pendingCommands,
    duplicateCheck,
    stateSync,
    election,
    publisher,
    reassertionIntake,
    duties,
    pages,
    lifecycle,
    presences,
    reassertions,
    epochClaims,
  };
}

const randomPoolBytes = 8_192;

/**
 * Draws random bytes by the kilobyte: each event takes several small draws, and a draw costs a system call. No byte is
 * returned twice. Each piece is a copy, so that a retained key does not retain the pool.
 */
function pooledRandom(random: (bytes: number) => Uint8Array): (bytes: number) => Uint8Array {
  let pool = new Uint8Array(0);
  let used = 0;
  return (bytes) => {
    if (bytes > randomPoolBytes / 8) return random(bytes);
    if (used + bytes > pool.length) {
      pool = Uint8Array.from(random(randomPoolBytes));
      used = 0;
    }
    const piece = pool.slice(used, used + bytes);
    pool.fill(0, used, used + bytes);
    used += bytes;
    return piece;
  };
}

/**
 * The final denials that this broker's state had read and the log has lost, on their way to the leader. A leader has
 * read each of them before any caller learned that it is done; nodes may have read none.
 */
function createBrokerReassertions(context: StepContext, random: (bytes: number) => Uint8Array): Reassertions {
  let lastId = 0;
  return new Reassertions({
    random,
    nextId: () => ++lastId,
    emit(effect) {
      if (effect.type === "reassert") context.emit(effect); // an answer after the time limit finds no request
    },
  });
}
