/**
 * Copy driver: the shared part of a simulated node and a simulated regional broker.
 *
 * - It runs the real node core in a process of the world.
 * - It carries requests of the core to brokers and brings their answers back.
 * - It reports facts about the core.
 * - The owner performs the effects that only a node or only a regional broker has.
 */
import {
  type BootId,
  type CommandResult,
  type Epoch,
  genesis,
  type Link,
  type NodeId,
  sameLink,
} from "../../src/events/index.ts";
import { settledBy } from "../../src/replication/node/broker-answers.ts";
import {
  type LeaseMessage,
  type LoadedSnapshot,
  type NodeCore,
  type NodeCoreOptions,
  type NodeEffect,
  type NodeInput,
  stepNode,
} from "../../src/replication/node/index.ts";
import { type NodeKey, rawPublicKey, signReplacement } from "../../src/replication/wire/index.ts";
import type { BrokerPort, NodeMessageAnswer } from "./broker-port.ts";
import { readsOf } from "./builds.ts";
import type { Seals, SimEnvelope, SimPayload } from "./envelopes.ts";
import type { SimFact, SimFactOf } from "./facts.ts";
import { receivedRefusal } from "./lease-refusals.ts";
import { type Call, NodeCalls } from "./node-calls.ts";
import type { Alarm, SimProcess } from "./process.ts";
import type { World } from "./world.ts";

type Common = "wake" | "cancel" | "sendLease" | "rebuilding" | "reassert";
export type OwnEffect = Exclude<NodeEffect, Readonly<{ type: Common }>>;

export type CopyDriverParts = Readonly<{
  world: World;
  process: SimProcess;
  core: NodeCore;
  seals: Seals;
  cluster: string;
  role: "proxy" | "authorize" | "broker";
  node: NodeId;
  brokers: () => readonly BrokerPort[];
  perform: (effect: OwnEffect) => void;
  /** Called before the core handles its alarm. */
  waking: () => void;
  /** Called when a broker has answered a renew, a confirmation or a goodbye. */
  heard: () => void;
}>;

/** Timeouts (ms), the same as those of the product's client. A snapshot has that of its manifest. */
export const callMs = { sendMessage: 1_500, readGrace: 2_000, submit: 5_000, snapshot: 5_000 };

export class CopyDriver {
  readonly calls: NodeCalls;
  readonly #parts: CopyDriverParts;
  readonly #boot: BootId;
  readonly #alarm: Alarm;
  readonly #inputs: Readonly<{ input: NodeInput; handled: (() => void) | undefined }>[] = [];
  readonly #cancellations = new Map<number, () => void>();
  /** Nonces of the renews that no grant has answered. */
  readonly #open = new Set<number>();
  #core: NodeCore;
  /** Link that the visible projection last moved to. */
  #applied: Link;
  #enforced: Link;
  #rebuilding = false;
  /** The snapshot that the rebuild started from. */
  #base = genesis;

  constructor(parts: CopyDriverParts) {
    const { world, process, core, brokers } = parts;
    this.#parts = parts;
    this.#boot = process.bootId as BootId;
    this.calls = new NodeCalls(world, process, brokers);
    this.#alarm = process.alarm(() => {
      parts.waking();
      this.feed({ type: "woke", at: process.moment() });
    });
    this.#core = core;
    this.#applied = core.applied;
    this.#enforced = core.enforced;
  }

  get core(): NodeCore {
    return this.#core;
  }
  /** The highest event level that its build can read. */
  get reads(): number {
    return readsOf(this.#parts.process.identity.build);
  }

  /** @param told called when the core has handled the input, before any of its effects */
  feed(input: NodeInput, handled?: () => void): void {
    this.#inputs.push({ input, handled });
    if (this.#inputs.length > 1) return;
    for (let next = this.#inputs[0]; next !== undefined; next = this.#inputs[0]) {
      const [core, effects] = stepNode(this.#core, next.input);
      this.#core = core;
      next.handled?.();
      if (core.enforced !== this.#enforced) {
        this.#enforced = core.enforced;
        this.report({ type: "enforced", ...this.here(), link: core.enforced });
      }
      for (const effect of effects) this.#perform(effect);
      this.#inputs.shift();
    }
  }

  #perform(effect: NodeEffect): void {
    switch (effect.type) {
      case "wake":
        if (effect.at === Number.POSITIVE_INFINITY) this.#alarm.clear();
        else this.#alarm.set(effect.at as Parameters<Alarm["set"]>[0]);
        return;
      case "cancel":
        this.#cancellations.get(effect.id)?.();
        this.#cancellations.delete(effect.id);
        return;
      case "sendLease":
        this.#sendMessage(effect.id, effect.message);
        return;
      case "rebuilding":
        this.#rebuilding = true;
        if (this.#inputs[0]?.input.type !== "snapshotLoaded") this.#base = genesis;
        this.report({ type: "rebuilding", ...this.here(), lost: effect.lost });
        return;
      case "reassert":
        this.#reassert(effect);
        return;
      default:
        this.#parts.perform(effect);
    }
  }

  /** Reports that the visible projection moved. @param from source of the snapshot, if one was loaded */
  moved({ link, rebuilt }: Extract<NodeEffect, { type: "changed" }>, from: SimFactOf<"snapshot-loaded">["from"]): void {
    const digest = this.#core.projection.digest();
    const here = this.here();
    if (!rebuilt && sameLink(link, this.#applied)) return; // its region has denied more
    if (!rebuilt) this.report({ type: "applied", ...here, from: this.#applied, to: link, digest });
    else if (this.#rebuilding) this.report({ type: "rebuilt", ...here, to: link, digest, base: this.#base });
    else this.report({ type: "snapshot-loaded", ...here, from, link, digest });
    this.#applied = link;
    if (rebuilt) this.#rebuilding = false;
  }

  /** @param cancelled called when the core has cancelled the call */
  call<T>(id: number, call: Call<T>, cancelled: () => void = () => {}): void {
    const giveUp = this.calls.start<T>({
      ...call,
      done: (answer) => {
        this.#cancellations.delete(id);
        call.done(answer);
      },
    });
    this.#cancellations.set(id, () => {
      giveUp();
      cancelled();
    });
  }

  /** `found`: null if there is no snapshot, undefined if no broker answered. */
  snapshotAnswered(id: number, found: LoadedSnapshot | null | undefined): void {
    const at = this.#parts.process.moment();
    if (found === null) this.feed({ type: "snapshotFailed", id, reason: "none", at });
    else if (found === undefined || found.projection.level > this.reads)
      this.feed({ type: "snapshotFailed", id, reason: "unavailable", at });
    else
      this.feed({ type: "snapshotLoaded", id, snapshot: found, at }, () => {
        this.#base = found.link;
      });
  }

  seal(payload: SimPayload): SimEnvelope {
    const { seals, cluster, role, node } = this.#parts;
    const publicKey = publicKeyOf(this.#parts.process);
    const from = {
      cluster,
      role,
      name: node,
      boot: this.#boot,
      epoch: 0 as Epoch,
      incarnation: "" as const,
      publicKey,
    };
    return seals.seal(from, payload);
  }

  #sendMessage(id: number, message: LeaseMessage): void {
    const { process, heard } = this.#parts;
    this.#reportMessage(message);
    if (message.type === "renew") this.#open.add(message.renew.nonce);
    const envelope = this.seal(payloadOf(message));
    this.call<NodeMessageAnswer>(id, {
      timeoutMs: callMs.sendMessage,
      ask: (broker, reply) => broker.sendMessage(envelope, reply),
      isUnavailable: ({ type }) => type === "unavailable",
      done: (answer) => {
        if (answer !== undefined && answer.type !== "unavailable") heard();
        const at = process.moment();
        const failed = { type: "failed", error: new Error("no broker answers") } as const;
        if (answer === undefined || answer.type === "unavailable")
          this.feed({ type: "leaseAnswered", id, answer: failed, at });
        else if (answer.type === "grant") this.#granted(id, answer.envelope);
        else if (answer.type === "refused") {
          const refusal = receivedRefusal(process.identity.build, answer);
          this.feed({ type: "leaseAnswered", id, answer: { type: "refused", refusal }, at });
        } else this.feed({ type: "leaseAnswered", id, answer, at });
      },
    });
  }

  #granted(id: number, envelope: SimEnvelope): void {
    const { seals, cluster, process } = this.#parts;
    const grant = seals.openGrant(envelope, cluster);
    const { payload } = envelope;
    const before = this.#core.grants;
    const anchorBefore = this.#anchorMs();
    const grants = payload.kind === "grant" || payload.kind === "grant-by-age";
    const isAwaited = grants && !("refused" in grant) && this.#open.has(payload.grant.nonce);
    if ("refused" in grant)
      this.report({ type: "message-refused", ...this.at(), kind: payload.kind, reason: grant.refused });
    this.feed({ type: "leaseAnswered", id, answer: { type: "grant", grant }, at: process.moment() }, () => {
      if (!grants) return;
      const { nonce, epoch, head, windowMs, ageMs: agedMs = null, tightenedTo = null } = payload.grant;
      // Counts only a grant for a renew that was still open. A replayed grant or a grant for another boot has no
      // effect.
      const taken = this.#core.grants > before && isAwaited;
      if (taken) this.#open.delete(nonce);
      const anchorMs = this.#anchorMs();
      const isMoved = taken && agedMs !== null && anchorMs !== null && anchorMs !== anchorBefore;
      const anchorAge = isMoved ? { anchorAgeMs: process.moment().monotonic - anchorMs } : {};
      const by = envelope.from.name;
      const details = { by, nonce, epoch, head, windowMs, taken, agedMs, tightenedTo, ...anchorAge };
      this.report({ type: "grant-received", ...this.here(), ...details });
    });
  }

  /** Start of the lease, by the node's own monotonic clock (ms). Null: no lease. */
  #anchorMs(): number | null {
    return this.#core.heldLease(this.#parts.process.moment())?.freshSinceMs ?? null;
  }

  #reassert({ id, commandId, events }: Extract<NodeEffect, { type: "reassert" }>): void {
    const command = { type: "reassertTightenings", events } as const;
    const request = { commandId, actor: `service:${this.#parts.node}`, command } as const;
    this.call<CommandResult>(id, {
      timeoutMs: callMs.submit,
      ask: (broker, reply) => broker.submit(request, reply),
      isUnavailable: ({ type }) => type === "unavailable",
      done: (result) => {
        const answer = result === undefined || result.type === "unavailable" ? "failed" : "answered";
        const settled = result === undefined ? undefined : settledBy(result);
        const at = this.#parts.process.moment();
        this.feed({
          type: "reassertAnswered",
          id,
          answer,
          ...(settled === undefined ? {} : { settledAt: settled }),
          at,
        });
      },
    });
  }

  #reportMessage(message: LeaseMessage): void {
    const here = this.here();
    switch (message.type) {
      case "renew": {
        const { nonce, windowMs, applied, enforced, digest } = message.renew;
        this.report({ type: "renew-sent", ...here, nonce, windowMs, applied, enforced, digest });
        return;
      }
      case "confirm": {
        const { nonce, enforced } = message.confirm;
        this.report({ type: "confirm-sent", ...here, nonce, enforced });
        return;
      }
      case "goodbye":
        this.report({ type: "goodbye-sent", ...here, nonce: message.goodbye.nonce });
    }
  }

  at(): Readonly<{ at: number; process: string }> {
    return { at: this.#parts.world.now, process: this.#parts.process.name };
  }
  here(): Readonly<{ at: number; process: string; node: NodeId; boot: BootId }> {
    return { ...this.at(), node: this.#parts.node, boot: this.#boot };
  }
  report(fact: SimFact): void {
    this.#parts.world.report(fact);
  }
}

function payloadOf(message: LeaseMessage): SimPayload {
  switch (message.type) {
    case "renew":
      return { kind: "renew", renew: message.renew };
    case "confirm":
      return { kind: "confirm", confirm: message.confirm };
    case "goodbye":
      return { kind: "goodbye", goodbye: message.goodbye };
  }
}

/** The claim of a boot to replace the boot before it, as the product's shell makes it. */
export function replacementBy(
  { nodeKey }: SimProcess,
  last: NodeKey | null,
): Pick<NodeCoreOptions, "replaces"> & Partial<Pick<NodeCoreOptions, "replacementProof">> {
  if (last === null || nodeKey === null) return { replaces: null };
  const { cluster, name: node, boot: by } = nodeKey;
  return {
    replaces: last.boot,
    replacementProof: signReplacement(last.seed, { cluster, node, replaced: last.boot, by }),
  };
}

function publicKeyOf({ nodeKey }: SimProcess): Uint8Array {
  return nodeKey === null ? new Uint8Array(32) : rawPublicKey(nodeKey.pair.publicKey);
}
