/**
 * Revocation I/O of one boot of a simulated regional broker: its disk, its signature, the other brokers of its region,
 * the nodes that wait, and the home region. The product's region core decides.
 *
 * After each step the process may end (`crash` of region-disk.ts).
 */
import type { DenialsPage, PeerAnswer, PeerQuestion } from "../../src/broker/region/local-messages.ts";
import type { HomeAnswer, HomeQuestion, RegionEffect, RegionFact } from "../../src/broker/region/region-messages.ts";
import type { RevocationOptions } from "../../src/broker/region/region-revocations.ts";
import type { StoredRevocations } from "../../src/broker/region/revocation-store.ts";
import { type CommandId, type CommandRequest, type CommandResult, type Link, noEpoch } from "../../src/events/index.ts";
import {
  createBrokerOpener,
  type EnvelopeOpener,
  encodeRevocation,
  enrolKey,
  enrolmentRoot,
  openRevocation,
  revocationKey,
  type SealedRevocation,
  type Signer,
  type StorePosition,
  sealEnvelope,
} from "../../src/replication/wire/index.ts";
import type { LocalResult, RevocationStep } from "./actors.ts";
import type { BrokerPort, WireDenials } from "./broker-port.ts";
import { callMs } from "./copy-driver.ts";
import type { Call } from "./node-calls.ts";
import type { SimProcess } from "./process.ts";
import type { RegionDisk } from "./region-disk.ts";
import { viewOf } from "./revocation-view.ts";
import type { World } from "./world.ts";

/** A question of another broker, and its answer, as they travel. */
export type WireQuestion = Omit<PeerQuestion, "sealed"> & Readonly<{ envelopes: readonly Uint8Array[] }>;
export type WireAnswer = PeerAnswer | Readonly<{ failed: string }>;
export type PeerPort = Readonly<{
  process: SimProcess;
  address: string;
  askedByPeer: (question: WireQuestion, answered: (answer: WireAnswer) => void) => void;
}>;

export type RevocationIoParts = Readonly<{
  world: World;
  process: SimProcess;
  disk: RegionDisk;
  region: string;
  cluster: string;
  secret: Uint8Array;
  peers: () => readonly PeerPort[];
  nextId: () => number;
  feed: (fact: RegionFact) => void;
  /** Calls the brokers of the home region. */
  call: (call: Call<CommandResult>) => void;
  /** As `call`, unless the home region is out of reach. */
  forward: (call: Omit<Call<CommandResult>, "done">, done: (answer: CommandResult | undefined) => void) => void;
}>;

type Receipt = "complete" | "incomplete" | "merged" | "unknown";
type Pending = Readonly<{ request: CommandRequest; answered: (result: LocalResult) => void }>;

const peerMs = 2_500;
const tightening: ReadonlySet<string> = new Set([
  "revokeSession",
  "revokeSessions",
  "revokeUserSessions",
  "suspendUser",
]);

export class RevocationIo {
  readonly #parts: RevocationIoParts;
  readonly #open: EnvelopeOpener;
  readonly #signer: Signer;
  readonly #operators = new Map<number, Pending>();
  readonly #receipts = new Map<number, (answer: Receipt) => void>();
  readonly #peers = new Map<number, (answer: WireAnswer) => void>();
  readonly #nodes = new Map<number, (answer: WireDenials) => void>();
  readonly #boot: number;
  #writes: Extract<RegionEffect, { type: "keepRevocations" }>[] = [];

  constructor(parts: RevocationIoParts) {
    const { process, cluster, secret } = parts;
    const { nodeKey, bootId: boot } = process;
    if (nodeKey === null || boot === null) throw new Error("a regional broker has a key and a boot");
    this.#parts = parts;
    this.#boot = process.boot;
    this.#open = createBrokerOpener({ cluster, secrets: [secret] });
    const identity = { cluster, role: "broker", name: nodeKey.name, boot, epoch: noEpoch, incarnation: "" } as const;
    this.#signer = enrolKey(identity, nodeKey.pair, enrolmentRoot(secret, "broker"));
  }

  /** True once this boot has ended. */
  get hasEnded(): boolean {
    const { process } = this.#parts;
    return !process.isUp || process.boot !== this.#boot;
  }

  /** What the core starts with: the store on this disk, or a new one. */
  coreOptions(): RevocationOptions {
    const { world, process, disk, region, peers } = this.#parts;
    const { name, bootId } = process;
    if (bootId === null) throw new Error("a regional broker has a boot");
    const random = world.random(`store/${name}`);
    const stored = disk.revocations ?? newStore(Buffer.from(random.bytes(16)).toString("hex"));
    const addresses = peers().map(({ address }) => address);
    const others = addresses.filter((address) => address !== addressOf(name));
    return { broker: name, boot: bootId, region, addresses, peers: others, stored };
  }

  // --- requests

  /** Forwards a command, or answers that the home region is out of reach. */
  forward(request: CommandRequest, answered: (result: CommandResult) => void): void {
    const { commandId } = request;
    const message = "the home region is unreachable";
    this.#atHome(request, (result) =>
      answered(result ?? { type: "unavailable", commandId, message, retryAfterMs: 1_000 }),
    );
  }

  /** A node has submitted a revocation from its disk, which this region must not lose. */
  brought(envelope: Uint8Array): void {
    const [sealed] = this.#opened([envelope]) ?? [];
    if (sealed !== undefined) this.#parts.feed({ type: "revocationBrought", sealed });
  }

  /** An operator's command: the region accepts it by itself while the home region is out of reach. */
  submit(request: CommandRequest, answered: (result: LocalResult) => void): void {
    this.#atHome(request, (result) => {
      if (result === undefined) this.#submitLocally(request, answered);
      else answered(result);
    });
  }

  #atHome(request: CommandRequest, answered: (result: CommandResult | undefined) => void): void {
    const call = {
      timeoutMs: callMs.submit,
      ask: (broker: BrokerPort, reply: (result: CommandResult) => void) => broker.submit(request, reply),
      isUnavailable,
    };
    this.#parts.forward(call, answered);
  }

  #submitLocally(request: CommandRequest, answered: (result: LocalResult) => void): void {
    const { commandId, actor, command } = request;
    if (!tightening.has(command.type)) {
      answered({ type: "unavailable", commandId, message: "home is out of reach", retryAfterMs: 1_000 });
      return;
    }
    const id = this.#parts.nextId();
    this.#operators.set(id, { request, answered });
    const local = command as Extract<RegionFact, { type: "localAsked" }>["request"]["command"];
    this.#parts.feed({ type: "localAsked", id, request: { commandId, actor, command: local } });
  }

  receipt(commandId: CommandId, timeoutMs: number, answered: (answer: Receipt) => void): void {
    const id = this.#parts.nextId();
    this.#receipts.set(id, answered);
    this.#parts.feed({ type: "localReceiptAsked", id, commandId, timeoutMs });
  }

  askedByPeer({ envelopes, ...question }: WireQuestion, answered: (answer: WireAnswer) => void): void {
    const sealed = this.#opened(envelopes);
    if (sealed === null) {
      answered({ failed: "a revocation is not authentic" });
      return;
    }
    const id = this.#parts.nextId();
    this.#peers.set(id, answered);
    this.#parts.feed({ type: "peerAsked", id, question: { ...question, sealed } });
  }

  denials(after: StorePosition | null, waitMs: number, answered: (answer: WireDenials) => void): void {
    const id = this.#parts.nextId();
    this.#nodes.set(id, answered);
    this.#parts.feed({ type: "denialsAsked", id, store: after?.store ?? null, after: after?.seq ?? 0, waitMs });
  }

  /** Null: one of them is not authentic. */
  #opened(envelopes: readonly Uint8Array[]): readonly SealedRevocation[] | null {
    const opened = envelopes.map((envelope) => openRevocation(envelope, this.#open));
    return opened.some((each) => typeof each === "string") ? null : opened.filter((each) => typeof each !== "string");
  }

  // --- effects of the core

  /** @returns whether the effect was one of these */
  perform(effect: RegionEffect): boolean {
    switch (effect.type) {
      case "signRevocation": {
        if (this.#endsAt("accepted")) return true;
        const envelope = sealEnvelope(this.#signer, "local-revocation", encodeRevocation(effect.revocation));
        if (this.#endsAt("signed")) return true;
        this.#parts.feed({ type: "revocationSigned", id: effect.id, envelope });
        return true;
      }
      case "keepRevocations":
        this.#writes.push(effect);
        if (this.#writes.length === 1) this.#write();
        return true;
      case "askPeer":
        this.#askPeer(effect);
        return true;
      case "askHome":
        if (effect.question.op !== "merge") return false;
        this.#merge(effect.id, effect.question);
        return true;
      case "answerPeer": {
        const answered = this.#peers.get(effect.id);
        this.#peers.delete(effect.id);
        answered?.(effect.answer);
        return true;
      }
      case "answerLocal":
        this.#answerOperator(effect);
        return true;
      case "answerDenials":
        this.#answerNode(effect);
        return true;
      case "answerLocalReceipt":
        this.#answerReceipt(effect);
        return true;
      default:
        return false;
    }
  }

  /** Writes one after another, as a disk does. */
  #write(): void {
    const { process, disk, feed } = this.#parts;
    const [next] = this.#writes;
    if (next === undefined) return;
    process.after(disk.markMs, () => {
      const { stored, keys } = next;
      if (disk.isFull) feed({ type: "revocationsNotKept", reason: "no space left on device" });
      else {
        this.#replaceOnDisk(stored);
        if (this.#endsAt("stored")) return;
        feed({ type: "revocationsKept", keys, windowMs: stored.windowMs, drift: stored.drift });
      }
      this.#writes.shift();
      this.#write();
    });
  }

  #replaceOnDisk(stored: StoredRevocations): void {
    const { world, process, disk } = this.#parts;
    const before = new Map(
      (disk.revocations?.entries ?? []).map((entry) => [revocationKey(entry.sealed.revocation), entry]),
    );
    disk.revocations = stored;
    const at = { at: world.now, process: process.name };
    const { store } = stored;
    for (const { seq, sealed } of stored.entries) {
      const isNew = !before.delete(revocationKey(sealed.revocation));
      if (isNew) world.report({ type: "revocation-stored", ...at, revocation: viewOf(sealed), place: { store, seq } });
    }
    for (const key of before.keys()) world.report({ type: "revocation-dropped", ...at, key });
    if (before.size > 0) this.#endsAt("dropped");
  }

  #askPeer({ id, address, question }: Extract<RegionEffect, { type: "askPeer" }>): void {
    const { world, process, peers, feed } = this.#parts;
    const peer = peers().find((one) => one.address === address);
    const { sealed, ...rest } = question;
    if (sealed.length > 0 && this.#endsAt("asked-peer")) return;
    if (peer === undefined) throw new Error(`no regional broker has the address ${address}`);
    world.network.request<WireAnswer>(process, peer.process, {
      timeoutMs: peerMs,
      handle: (reply) => peer.askedByPeer({ ...rest, envelopes: sealed.map(({ envelope }) => envelope) }, reply),
      done: (outcome) => {
        if (sealed.length > 0 && this.#endsAt("heard-peer")) return;
        const answer = outcome.type === "answered" ? outcome.value : { failed: "does not answer" };
        const lacking = "failed" in answer ? [] : this.#opened(answer.lacking);
        if (lacking === null) feed({ type: "peerAnswered", id, answer: { failed: "sent a forgery" }, lacking: [] });
        else feed({ type: "peerAnswered", id, answer, lacking });
      },
    });
  }

  #merge(id: number, { commandId, actor, envelope }: Extract<HomeQuestion, { op: "merge" }>): void {
    if (this.#endsAt("submitted")) return;
    const request = { commandId, actor, command: { type: "mergeRevocation", envelope } } as const;
    this.#parts.call({
      timeoutMs: callMs.submit,
      ask: (broker, reply) => broker.submit(request, reply),
      isUnavailable,
      done: (result) => {
        if (this.#endsAt("merged")) return;
        const [sealed] = this.#opened([envelope]) ?? [];
        if (result?.type === "done" && sealed !== undefined) this.#reportMerge(sealed, result.link);
        this.#parts.feed({ type: "homeAnswered", id, answer: mergeAnswerOf(result) });
      },
    });
  }

  #reportMerge({ revocation }: SealedRevocation, link: Link): void {
    const { world, process } = this.#parts;
    const key = revocationKey(revocation);
    world.report({ type: "merge-answered", at: world.now, process: process.name, key, link });
  }

  /** This boot has taken a step. @returns whether a fault has ended it there */
  #endsAt(step: RevocationStep): boolean {
    const { process, disk } = this.#parts;
    if (!this.hasEnded && disk.crash?.step === step) {
      if (disk.crash.how === "power") disk.fail("power");
      disk.crash = null;
      process.kill();
    }
    return this.hasEnded;
  }

  #answerOperator({ id, answer }: Extract<RegionEffect, { type: "answerLocal" }>): void {
    const { world, process } = this.#parts;
    const pending = this.#operators.get(id);
    this.#operators.delete(id);
    if (pending === undefined) return;
    const { commandId } = pending.request;
    const at = { at: world.now, process: process.name };
    if (answer.type === "local") {
      const revocation = viewOf({ revocation: answer.revocation, envelope: this.#envelopeOf(answer.revocation) });
      world.report({ type: "local-answered", ...at, commandId, answer: "local", revocation });
      if (!this.#endsAt("answered")) pending.answered({ type: "local" });
      return;
    }
    world.report({ type: "local-answered", ...at, commandId, answer: "refused", code: answer.code });
    if (answer.type === "refused") pending.answered({ ...answer, commandId });
    else pending.answered({ type: "unavailable", commandId, message: answer.message, retryAfterMs: 1_000 });
  }

  /** The envelope under which this disk keeps it; empty if the answer is false. */
  #envelopeOf(revocation: SealedRevocation["revocation"]): Uint8Array {
    const key = revocationKey(revocation);
    const kept = this.#parts.disk.revocations?.entries.find(({ sealed }) => revocationKey(sealed.revocation) === key);
    return kept?.sealed.envelope ?? new Uint8Array();
  }

  #answerNode({ id, answer }: Extract<RegionEffect, { type: "answerDenials" }>): void {
    const answered = this.#nodes.get(id);
    this.#nodes.delete(id);
    answered?.("page" in answer ? wirePage(answer.page) : { type: "unavailable" });
  }

  #answerReceipt({ id, answer }: Extract<RegionEffect, { type: "answerLocalReceipt" }>): void {
    const { world, process } = this.#parts;
    const answered = this.#receipts.get(id);
    this.#receipts.delete(id);
    if (answered === undefined) return;
    if (answer.type !== "receipt") {
      answered(answer.type);
      return;
    }
    const { revocation, complete, nodes } = answer.receipt;
    const rows = nodes.map(({ node, boot, status }) => ({ node, boot, status }));
    const key = revocationKey(revocation);
    const at = { at: world.now, process: process.name };
    world.report({ type: "local-receipt-answered", ...at, key, complete, nodes: rows });
    answered(complete ? "complete" : "incomplete");
  }
}

export function addressOf(name: string): string {
  return `https://${name}`;
}

function newStore(store: string): StoredRevocations {
  return { store, head: 0, entries: [], windowMs: 0, drift: 0 };
}

/** As the product's shell maps the answer to a merge. */
function mergeAnswerOf(result: CommandResult | undefined): HomeAnswer {
  if (result?.type === "done") return { type: "merged", link: result.link };
  if (result === undefined || result.type === "unavailable")
    return { type: "unavailable", error: new Error("no broker answers") };
  const code = result.code === "conflict" ? "other-change" : "refused";
  return { type: "mergeRefused", code, message: result.message };
}

function isUnavailable({ type }: Readonly<{ type: string }>): boolean {
  return type === "unavailable";
}

function wirePage({ store, upTo, entries, more }: DenialsPage): WireDenials {
  return { type: "page", store, upTo, more, envelopes: entries.map(({ sealed }) => sealed.envelope) };
}
