/**
 * Forger: an attacker on the wire. It sees and keeps messages, replays them at any time to any receiver, changes them,
 * and answers in a broker's stead.
 *
 * - It owns no key of another process, so nothing it makes is sealed.
 * - An accomplice is enrolled as a separate node and sends messages in the names of others.
 * - In half of the seeds an insider holds the enrolment secret. It enrols its own key under the name and boot of a live
 *   node, and confirms, leaves and replaces in that node's name. Its envelopes are sealed, so only the pin of the boot
 *   to its key refuses them.
 *
 * The forger sees what TLS would hide from it: the protocol must not depend on TLS.
 */
import type { BootId, Epoch, Link, NodeId, Position } from "../../src/events/index.ts";
import type { BrokerPort, NodeMessageAnswer } from "./broker-port.ts";
import type { SimEnvelope, SimPayload } from "./envelopes.ts";
import type { ProcessName } from "./facts.ts";
import type { NatsClient, NatsModel } from "./nats-model.ts";
import type { SimProcess } from "./process.ts";
import type { PlannedAction } from "./workload-plan.ts";
import type { World } from "./world.ts";

type Kind = SimPayload["kind"];
/** Kept envelopes per kind. When full, it drops one a quarter of the way in, so some of the oldest ones stay. */
const capturedMax = 60;
const kinds: readonly Kind[] = ["batch", "batch", "grant", "grant", "renew", "confirm", "goodbye"];
const requestMs = 3_000;

/** Senders that seal for the forger with an enrolled key. */
export type EnrolledSenders = Readonly<{
  /** Seals as an enrolled node that does not run otherwise. */
  compromisedNode?: ((payload: SimPayload) => SimEnvelope) | undefined;
  /** Absent: in this seed no insider holds the enrolment secret. */
  insider?: Insider | undefined;
}>;

export type Insider = Readonly<{
  /** The insider's own boot id under the name of a node; it commits to the insider's key. */
  bootIdFor: (node: NodeId) => BootId;
  /** Seals with the insider's key, enrolled under that name and boot. */
  seal: (as: Readonly<{ node: NodeId; boot: BootId }>, payload: SimPayload) => SimEnvelope;
}>;

export class Forger {
  readonly #world: World;
  readonly #process: SimProcess;
  readonly #captured = new Map<Kind, SimEnvelope[]>();
  /** The answer that the next renew of a process gets instead of the broker's own. */
  readonly #replacements = new Map<ProcessName, Readonly<{ how: "forged" | "replayed"; envelope: SimEnvelope }>>();
  readonly #senders: EnrolledSenders;
  #client: NatsClient<SimEnvelope> | undefined;

  constructor(world: World, nats: NatsModel<SimEnvelope>, senders: EnrolledSenders = {}) {
    this.#world = world;
    this.#senders = senders;
    this.#process = world.addProcess({
      ...{ name: "forger", region: "east" },
      identity: { role: "client", node: null, lessee: null, build: "", unknownTypes: [] },
      start: (process) => {
        this.#client = nats.client({
          process,
          onMessage: (envelope) => this.#capture(envelope),
          onConnected: () => {},
          onDisconnected: () => {},
        });
      },
    });
  }

  start(): void {
    this.#process.start();
  }

  /** A broker port with the forger between the node and the broker. */
  between(node: ProcessName, port: BrokerPort): BrokerPort {
    return {
      ...port,
      sendMessage: (envelope, answered) => {
        this.#capture(envelope);
        const replacement = this.#replacements.get(node);
        if (replacement !== undefined && envelope.payload.kind === "renew") {
          this.#replacements.delete(node);
          this.#reportForgery(replacement.how, "grant", node);
          answered({ type: "grant", envelope: replacement.envelope });
          return;
        }
        port.sendMessage(envelope, (answer: NodeMessageAnswer) => {
          if (answer.type === "grant") this.#capture(answer.envelope);
          answered(answer);
        });
      },
    };
  }

  /** Sends a forged or replayed envelope. */
  forge(
    { who, other, much }: PlannedAction,
    targets: Readonly<{ brokers: readonly BrokerPort[]; nodes: readonly ProcessName[] }>,
  ): void {
    const kind = at(kinds, who) ?? "batch";
    const captured = this.#captured.get(kind) ?? [];
    // Prefers the oldest or the newest envelopes.
    const depth = Math.min(captured.length - 1, Math.floor((much % 0.4) * 10));
    const original = captured[much < 0.4 ? depth : captured.length - 1 - depth];
    const forged = other < 0.5;
    const impersonated = other < 0.25 ? this.#impersonate(kind, other) : undefined;
    const envelope = impersonated ?? (original === undefined || !forged ? original : changed(original, much));
    if (envelope === undefined) return;
    const how = forged ? "forged" : "replayed";
    switch (envelope.payload.kind) {
      case "batch":
        for (const node of targets.nodes) this.#reportForgery(how, "batch", node);
        this.#client?.publish(envelope);
        return;
      case "grant": {
        const node = at(targets.nodes, (other * 13) % 1);
        if (node === undefined) return;
        this.#replacements.set(node, { how, envelope });
        return;
      }
      default: {
        const broker = at(targets.brokers, (other * 13) % 1);
        if (broker === undefined) return;
        this.#reportForgery(how, envelope.payload.kind, broker.process.name);
        this.#world.network.request<NodeMessageAnswer>(this.#process, broker.process, {
          timeoutMs: requestMs,
          handle: (reply) => broker.sendMessage(envelope, reply),
          done: (outcome) => {
            if (outcome.type === "answered" && outcome.value.type === "grant") this.#capture(outcome.value.envelope);
          },
        });
      }
    }
  }

  /** An envelope in the name of a running boot, from the insider or the accomplice. Undefined: none fits. */
  #impersonate(kind: Kind, other: number): SimEnvelope | undefined {
    const { compromisedNode, insider } = this.#senders;
    const renew = this.#captured.get("renew")?.at(-1)?.payload;
    const batch = this.#captured.get("batch")?.at(-1)?.payload;
    if (renew?.kind !== "renew") return undefined;
    const { node, boot } = renew.renew;
    const nonce = renew.renew.nonce + 1_000;
    const enforced = batch?.kind === "batch" ? batch.batch.last : undefined;
    const payload = payloadOf(kind, { node, boot, nonce, enforced });
    if (insider !== undefined && other < 0.125) {
      if (payload !== undefined) return insider.seal({ node, boot }, payload);
      const own = insider.bootIdFor(node);
      // `reads: 0` is too old a build for a lease, so only the claim of the replacement matters.
      const claim = { ...renew.renew, boot: own, replaces: boot, reads: 0 };
      return kind === "renew" ? insider.seal({ node, boot: own }, { kind, renew: claim }) : undefined;
    }
    return compromisedNode === undefined || payload === undefined ? undefined : compromisedNode(payload);
  }

  #reportForgery(how: "forged" | "replayed", kind: Kind, to: ProcessName): void {
    this.#world.report({ type: "forged", at: this.#world.now, process: this.#process.name, how, kind, to });
  }

  #capture(envelope: SimEnvelope): void {
    const { kind } = envelope.payload;
    const captured = this.#captured.get(kind) ?? [];
    this.#captured.set(kind, captured);
    captured.push(envelope);
    if (captured.length > capturedMax) captured.splice(capturedMax / 4, 1);
  }
}

function payloadOf(
  kind: Kind,
  of: Readonly<{ node: NodeId; boot: BootId; nonce: number; enforced: Link | undefined }>,
): SimPayload | undefined {
  const { node, boot, nonce, enforced } = of;
  if (kind === "goodbye") return { kind, goodbye: { node, boot, nonce } };
  return kind === "confirm" && enforced !== undefined ? { kind, confirm: { node, boot, nonce, enforced } } : undefined;
}

/** A changed copy of an envelope; its seal is not valid. */
function changed({ from, payload }: SimEnvelope, much: number): SimEnvelope {
  if (much < 0.15) return { from: { ...from, cluster: "another" }, payload };
  switch (payload.kind) {
    case "batch": {
      const epoch = (payload.batch.epoch + 1) as Epoch;
      return { from: { ...from, epoch }, payload: { kind: "batch", batch: { ...payload.batch, epoch } } };
    }
    case "grant": {
      const nonce = payload.grant.nonce + 1;
      return { from, payload: { kind: "grant", grant: { ...payload.grant, nonce, windowMs: 600_000 } } };
    }
    case "grant-by-age": {
      const grant = { ...payload.grant, ageMs: 0, windowMs: 600_000 };
      return { from, payload: { kind: "grant-by-age", grant } };
    }
    case "renew":
      return { from, payload: { kind: "renew", renew: { ...payload.renew, nonce: payload.renew.nonce + 1_000 } } };
    case "confirm": {
      const enforced = ahead(payload.confirm.enforced);
      return { from, payload: { kind: "confirm", confirm: { ...payload.confirm, enforced } } };
    }
    case "goodbye":
      return { from, payload: { kind: "goodbye", goodbye: { ...payload.goodbye, nonce: payload.goodbye.nonce + 1 } } };
  }
}

function ahead(link: Link): Link {
  return { ...link, position: (link.position + 1_000) as Position };
}

function at<T>(list: readonly T[], by: number): T | undefined {
  return list[Math.floor(by * list.length)];
}
