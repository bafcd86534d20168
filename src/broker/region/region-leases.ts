/**
 * Region leases: where the messages of a region's nodes meet its broker.
 *
 * What a node says is read, and handed on to the leader, whose answer is the node's answer. When none comes, a renew is answered
 * by age from the lease that this broker holds (regional-granter.ts), and the next ones at once, until the home region answers
 * one of the broker's own: so a region that heals has its nodes come back in their own time, one renew a second each.
 */
import type { Link, NodeId } from "../../events/index.ts";
import {
  BrokerUnavailableError,
  type ChainView,
  type Clock,
  encodeMessage,
  LeaseRefusedError as LeaderRefusedError,
  type Opened,
  type RefusedMessage,
  RegionalGranter,
  type RegionalStanding,
  type Renew,
  type ReplicaProcess,
  type Role,
  type Speaker,
  sealEnvelope,
} from "../../replication/index.ts";
import { Bell } from "../bell.ts";
import type { OpenedNodeMessage } from "../broker-messages.ts";
import { leaseMessageIn } from "../leader/lease-messages.ts";
import { LeaseRefusedError } from "../leader/lease-refused.ts";
import type { AgeMark } from "./age-mark-file.ts";
import type { HomeRegion } from "./home-region.ts";

/** What a renew may wait for the leader before it is answered by age: a node gives us a second and a half. */
const forwardMs = 1_000;
const outOfReach = "the home region is out of reach";

/** The broker's own copy. */
export type OwnCopy = Pick<ReplicaProcess, "applied" | "projection" | "lease">;

export type RegionLeasesParts = Readonly<{
  home: HomeRegion;
  mark: AgeMark;
  clock: Clock;
  version: string;
  /** Opens what nodes have signed. */
  open: (bytes: Uint8Array) => Opened | RefusedMessage;
  speaker: Speaker;
  /** Whether a link is on the broker's chain. */
  holds: (link: Link) => boolean;
}>;

type Said = Exclude<OpenedNodeMessage, { type: "refused" }>;

export class RegionLeases {
  readonly #parts: RegionLeasesParts;
  readonly #granter = new RegionalGranter();
  /** Rings when a node has said something. */
  readonly #said = new Bell();
  readonly #counts = { leasesForwarded: 0, envelopesRefused: 0 };
  #own: OwnCopy | null = null;

  constructor(parts: RegionLeasesParts) {
    this.#parts = parts;
  }

  get counts(): Readonly<Record<string, number>> {
    const { nodes, grants } = this.#granter;
    return { ...this.#counts, nodes, grantsByAge: grants, leasesByAge: this.leased };
  }
  /** Leases by age that may still count. */
  get leased(): number {
    return this.#granter.leased(this.#parts.clock.monotonic());
  }
  /** What the nodes of the region ask for, at most; 0: nobody has asked. */
  get windowMs(): number {
    return this.#granter.windowMs(this.#parts.clock.monotonic());
  }
  standings(): readonly RegionalStanding[] {
    return this.#granter.standings(this.#parts.clock.monotonic());
  }

  /** The broker's own copy, once it has been started. */
  rests(own: OwnCopy): void {
    this.#own = own;
  }

  /**
   * A change counts as enforced here once everybody whose lease rests on ours enforces it. Undefined: it does.
   * @param change.rebuilt the copy may stand on another history than before
   */
  enforced({ link, rebuilt }: Readonly<{ link: Link; rebuilt: boolean }>): Promise<void> | undefined {
    if (rebuilt) this.#granter.rebuilt();
    const now = this.#parts.clock.monotonic();
    return this.#granter.holdsBackUntil(link, now) === null ? undefined : this.#whenEnforced(link);
  }

  async #whenEnforced(link: Link): Promise<void> {
    for (;;) {
      const seen = this.#said.count;
      const now = this.#parts.clock.monotonic();
      const until = this.#granter.holdsBackUntil(link, now);
      if (until === null) return;
      await this.#said.wait(seen, until - now);
    }
  }

  /** @returns the enveloped grant for a renew, null otherwise @throws LeaseRefusedError, BrokerUnavailableError */
  async take(role: Role, envelope: Uint8Array): Promise<Uint8Array | null> {
    const said = this.#open(envelope);
    this.#note(said);
    const answer = await this.#fromLeader(role, envelope, said);
    if (answer !== undefined) return answer;
    if (said.type === "renew") return this.#byAge(said.renew);
    // We have taken a confirmation; the leader learns of it with the next renew. A goodbye is the leader's to take.
    if (said.type === "confirm") return null;
    throw new BrokerUnavailableError(outOfReach);
  }

  #open(envelope: Uint8Array): Said {
    const message = leaseMessageIn(this.#parts.open(envelope));
    const problem =
      message.type === "refused" ? message.reason : isOwn(message) ? undefined : "a node may speak only for itself";
    if (message.type !== "refused" && problem === undefined) return message;
    this.#counts.envelopesRefused += 1;
    throw new LeaseRefusedError(problem ?? "not authentic");
  }

  #note(said: Said): void {
    const { clock, holds, mark } = this.#parts;
    const view: ChainView = { at: clock.monotonic(), onChain: holds };
    if (said.type === "renew") this.#granter.renewed(said.renew, view);
    else if (said.type === "confirm") this.#granter.confirmed(said.confirm, view);
    else this.#granter.left(said.goodbye);
    this.#said.ring();
    if (this.leased === 0 && this.#own !== null && this.#own.lease() !== null) mark.clear();
  }

  /** @returns undefined: no answer in time @throws LeaseRefusedError */
  async #fromLeader(role: Role, envelope: Uint8Array, said: Said): Promise<Uint8Array | null | undefined> {
    const { home, clock } = this.#parts;
    const told = (answer: Parameters<RegionalGranter["answeredByLeader"]>[1]): void => {
      if (said.type === "renew") this.#granter.answeredByLeader(said.renew, answer, clock.monotonic());
    };
    try {
      const answer = await home.askWithin(forwardMs, role, (at) => at.lease(envelope));
      if (answer === undefined) return undefined;
      this.#counts.leasesForwarded += 1;
      if (answer !== null) told("granted"); // else the leader has dealt with a newer one
      return answer;
    } catch (cause) {
      if (!(cause instanceof LeaderRefusedError)) throw cause;
      told({ refused: cause.reason });
      throw new LeaseRefusedError(cause.reason, { cause });
    }
  }

  #byAge(renew: Renew): Uint8Array {
    const { clock, mark, speaker, version } = this.#parts;
    if (this.#own === null) throw new BrokerUnavailableError(outOfReach);
    const { applied, projection } = this.#own;
    const lease = this.#own.lease();
    if (lease !== null) mark.set(); // before anything that rests on it is given away
    const at = { monotonic: clock.monotonic(), wall: clock.wall() };
    const copy = { lease, applied, digest: projection.digest(), version, level: projection.level };
    const answer = this.#granter.grant(renew, copy, at);
    switch (answer.type) {
      case "granted":
        return sealEnvelope(speaker, "grant-by-age", encodeMessage(answer.grant));
      case "refused":
        throw new LeaseRefusedError(answer.reason);
      case "unavailable":
        throw new BrokerUnavailableError(answer.reason);
    }
  }
}

/** A node speaks for itself alone: the name and the boot in the message are those of its certificate. */
function isOwn(said: Said): boolean {
  const { node, boot } = wordsOf(said);
  const sameRole = said.type !== "renew" || said.renew.role === said.from.role;
  return node === said.from.name && boot === said.from.boot && sameRole;
}

function wordsOf(said: Said): Readonly<{ node: NodeId; boot: string }> {
  switch (said.type) {
    case "renew":
      return said.renew;
    case "confirm":
      return said.confirm;
    case "goodbye":
      return said.goodbye;
  }
}
