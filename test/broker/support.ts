/**
 * Support for the tests of the broker: commands, a log with failures on demand, brokers on one log, nodes that send
 * envelopes.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { type Broker, type BrokerOptions, createLeaderClient, startBroker } from "../../src/broker/index.ts";
import {
  type BootId,
  type BrokerId,
  type Command,
  type CommandId,
  type CommandRequest,
  type CreateSession,
  decodeEvents,
  type Epoch,
  genesis,
  type Link,
  type NodeId,
  Projection,
  type SessionId,
  type UnixMs,
  type UserId,
} from "../../src/events/index.ts";
import { createLocalFanout } from "../../src/replication/fanout/index.ts";
import type { Databroker, Logger } from "../../src/replication/index.ts";
import { createMemoryLog, type EventLog } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import {
  type Confirm,
  createBrokerOpener,
  encodeMessage,
  enrolKey,
  enrolmentRoot,
  type Goodbye,
  type Grant,
  type MessageKind,
  type NodeKey,
  nodeKeyFrom,
  openGrant,
  type Renew,
  type Signer,
  sealEnvelope,
} from "../../src/replication/wire/index.ts";

export const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };
export const cluster = "test";
export const secret = new Uint8Array(32).fill(7);
export const random = (bytes: number): Uint8Array => randomBytes(bytes);
export const aCommandId = (): CommandId => randomUUID() as CommandId;
export const session = (name: string): SessionId => name as SessionId;
export const user = (name: string): UserId => name as UserId;

export function asked(command: Command, parts: Partial<CommandRequest> = {}): CommandRequest {
  return { commandId: aCommandId(), actor: "system", command, ...parts };
}

export function createSession(sessionId: string, userId: string, parts: Partial<CreateSession> = {}): CreateSession {
  const now = Date.now();
  return {
    type: "createSession",
    sessionId: session(sessionId),
    userId: user(userId),
    idpId: "idp",
    issuedAt: now as UnixMs,
    expiresAt: (now + 3_600_000) as UnixMs,
    profile: {
      issuer: "https://idp.test",
      subject: userId,
      email: `${userId}@example.test`,
      emailVerified: true,
      name: userId,
      claims: { team: ["red"] },
    },
    tokens: { accessToken: `access-${sessionId}`, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
    groupIds: null,
    maxSessionsPerUser: 100,
    ...parts,
  };
}

export const revoke = (sessionId: string): Command => ({
  type: "revokeSession",
  sessionId: session(sessionId),
  reason: "operator",
});

/** The same log with some of its methods replaced; `exclusive` can be changed too. */
export function wrapLog(log: EventLog, parts: Partial<EventLog>): EventLog {
  return {
    kind: log.kind,
    exclusive: log.exclusive,
    observe: () => log.observe(),
    openEpoch: (request) => log.openEpoch(request),
    append: (batch) => log.append(batch),
    beat: (request) => log.beat(request),
    read: (after, limit) => log.read(after, limit),
    linkAt: (position) => log.linkAt(position),
    base: () => log.base(),
    retain: (request) => log.retain(request),
    restore: (step) => log.restore(step),
    epochs: () => log.epochs(),
    durabilityOf: (link) => log.durabilityOf(link),
    findCommand: (commandId) => log.findCommand(commandId),
    streamVersions: (streams) => log.streamVersions(streams),
    lessees: () => log.lessees(),
    admittedNodes: () => log.admittedNodes(),
    keys: (users) => log.keys(users),
    keysAfter: (user, limit) => log.keysAfter(user, limit),
    rewrapKeys: (keys) => log.rewrapKeys(keys),
    vault: (sessionId) => log.vault(sessionId),
    configuration: (configHash) => log.configuration(configHash),
    configurations: () => log.configurations(),
    sweepCommands: () => log.sweepCommands(),
    close: () => log.close(),
    ...parts,
  };
}

/** A log whose calls and answers can be held back, as a stopped process sees it. */
export function gatedLog(log: EventLog) {
  let gate: Promise<void> = Promise.resolve();
  let open: () => void = () => {};
  const gated =
    <Args extends readonly unknown[], T>(method: (...args: Args) => Promise<T>) =>
    async (...args: Args): Promise<T> => {
      await gate;
      const answer = await method(...args);
      await gate;
      return answer;
    };
  return {
    log: wrapLog(log, {
      observe: gated(() => log.observe()),
      openEpoch: gated((request) => log.openEpoch(request)),
      append: gated((batch) => log.append(batch)),
      beat: gated((request) => log.beat(request)),
      read: gated((after, limit) => log.read(after, limit)),
      linkAt: gated((position) => log.linkAt(position)),
      findCommand: gated((commandId) => log.findCommand(commandId)),
      streamVersions: gated((streams) => log.streamVersions(streams)),
      keys: gated((users) => log.keys(users)),
    }),
    hold(): void {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      open = resolve;
    },
    release(): void {
      open();
    },
  };
}

/** A memory log that several brokers share. */
export function sharedLog(log: EventLog = createMemoryLog()): EventLog {
  return wrapLog(log, { exclusive: false });
}

export function brokerOn(log: EventLog, parts: Partial<BrokerOptions> = {}): Broker {
  return startBroker({
    log,
    cluster,
    brokerId: "broker-1" as BrokerId,
    secret,
    fanout: createLocalFanout({ logger: quiet }),
    clock: systemClock,
    random,
    lease: { deltaMs: 5_000, drift: 0.01, beatMs: 50, windowMaxMs: 120_000 },
    takeoverMs: 400,
    leaderClient: createLeaderClient({ cluster, secret, clock: systemClock, tlsCa: null, allowPlaintext: false }),
    advertisedUrl: null,
    duties: [],
    logger: quiet,
    ...parts,
  });
}

/** The projection of a whole log. */
export async function folded(log: EventLog): Promise<Projection> {
  const projection = new Projection();
  for (;;) {
    const outcome = await log.read(projection.applied, 10_000);
    if (outcome.type !== "page" || outcome.page.entries.length === 0) return projection;
    for (const recorded of decodeEvents(outcome.page.entries, projection.applied)) projection.apply(recorded);
  }
}

/** Sends a node's messages; each claim is chosen by the test. */
export class FakeNode {
  readonly node: NodeId;
  readonly boot: BootId;
  readonly key: NodeKey;
  readonly speaker: Signer;
  region = "eu";
  role: Renew["role"] = "proxy";
  windowMs = 5_000;
  enforced: Link = genesis;
  nonce = 0;

  /** @param options.boot replaces the boot that commits to this node's key */
  constructor(
    name: string,
    options: Readonly<{ boot?: string; secret?: Uint8Array; cluster?: string; role?: "proxy" | "broker" }> = {},
  ) {
    this.node = name as NodeId;
    const { role = "proxy" } = options;
    this.role = role;
    const identity = { cluster: options.cluster ?? cluster, role, name: this.node } as const;
    this.key = nodeKeyFrom(randomBytes(32), identity);
    this.boot = (options.boot ?? this.key.boot) as BootId;
    this.speaker = enrolKey(
      { ...identity, boot: this.boot, epoch: 0 as Epoch, incarnation: "" },
      this.key.pair,
      enrolmentRoot(options.secret ?? secret, role),
    );
  }

  renew(parts: Partial<Renew> = {}): Renew {
    this.nonce += 1;
    const { node, boot, nonce, region, role, windowMs, enforced } = this;
    return {
      ...{ node, boot, nonce, region, role, windowMs, enforced },
      version: "test",
      applied: enforced,
      digest: "",
      configHash: "c",
      replaces: null,
      reads: 1,
      monotonicMs: performance.now(),
      ...parts,
    };
  }

  sealed(kind: MessageKind, message: Renew | Confirm | Goodbye): Uint8Array {
    return sealEnvelope(this.speaker, kind, encodeMessage(message));
  }

  async lease(databroker: Databroker, parts: Partial<Renew> = {}): Promise<Grant> {
    const envelope = await databroker.lease(this.sealed("renew", this.renew(parts)));
    const open = createBrokerOpener({ cluster, secrets: [secret] });
    const grant = openGrant(envelope ?? new Uint8Array(), open);
    if ("refused" in grant) throw new Error(grant.detail);
    return grant;
  }

  async confirm(databroker: Databroker, enforced: Link): Promise<void> {
    this.enforced = enforced;
    this.nonce += 1;
    const { node, boot, nonce } = this;
    await databroker.lease(this.sealed("confirm", { node, boot, nonce, enforced }));
  }

  async goodbye(databroker: Databroker): Promise<void> {
    this.nonce += 1;
    const { node, boot, nonce } = this;
    await databroker.lease(this.sealed("goodbye", { node, boot, nonce }));
  }
}
