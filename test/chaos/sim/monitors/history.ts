/**
 * A small history as facts: one log, one broker, one node, and methods that continue it. `at` is the time of the next
 * fact.
 */
import { plainRoute, type Report, type SimFact, type SimFactOf } from "../../../../chaos/sim/facts.ts";
import { type MonitorResult, type Watch, watch } from "../../../../chaos/sim/monitors/index.ts";
import {
  type BootId,
  type BrokerId,
  type CardeaEvent,
  type CommandId,
  chainHash,
  type Effect,
  type Epoch,
  type EventId,
  effectOf,
  encode,
  encodeEvent,
  type GroupId,
  genesis,
  type Incarnation,
  type Link,
  type NodeId,
  type Position,
  type Recorded,
  type SessionId,
  type Stream,
  streamOf,
  type UnixMs,
  type UserId,
} from "../../../../src/events/index.ts";
import type { Receipt } from "../../../../src/replication/index.ts";
import type { Lessee, LogEntry } from "../../../../src/replication/log/index.ts";

export const options = { wallStart: 1_700_000_000_000, deltaMs: 5_000, drift: 0.01, windowMaxMs: 15_000 };
const boot = "boot-1" as BootId;
const node = "node-1" as NodeId;

type Given = Partial<Record<string, unknown>>;

export class History {
  readonly watch: Watch = watch(options);
  readonly facts: SimFact[] = [];
  /** Called with each fact, after the monitors. */
  readonly also: Report[] = [];
  at = 0;
  head: Link = genesis;
  applied: Link = genesis;
  #followed: Link = genesis;
  /** The newest version of each stream. */
  readonly #versions = new Map<string, number>();
  #txn = 0;
  #nonce = 0;
  #request = 0;
  #receipt = 0;
  epoch = 0 as Epoch;

  tell(type: SimFact["type"], given: Given = {}): this {
    const fact = { type, at: this.at, process: "node-1", ...given } as unknown as SimFact;
    this.facts.push(fact);
    this.watch.report(fact);
    for (const report of this.also) report(fact);
    return this;
  }

  later(ms: number): this {
    this.at += ms;
    return this;
  }

  get monitorResult(): MonitorResult {
    return this.watch.monitorResult();
  }
  get found(): (number | string)[] {
    return [...this.monitorResult.counts.keys()];
  }

  /** A history in which a session of ada may use every route except the team's. */
  static begun(): History {
    return new History().begin();
  }
  begin(given: Given = {}): this {
    this.tell("started", { ...server, process: "pg-1" }).tell("synchronous-set", { process: "pg-1", standbys: 1 });
    this.tell("promoted", { process: "pg-1", how: "initial", head: genesis });
    this.tell("started", { ...broker, process: "broker-1" });
    this.open("broker-1").startNode(given);
    return this.create("s1").apply().lease();
  }

  startNode(given: Given = {}): this {
    this.applied = genesis;
    this.tell("started", { ...proxy, boot, ...given });
    this.tell("clock-set", { rate: 1, wallOffsetMs: 0 });
    this.tell("config-activated", { node, boot, hash: "c1", deltaMs: 5_000, routes, ...given });
    return this;
  }

  entry(event: CardeaEvent | { unknown: string; stream: Stream; effect: Effect }, given: Given = {}): LogEntry {
    const position = (this.head.position + 1) as Position;
    const stream = "unknown" in event ? event.stream : streamOf(event);
    const version = (given["version"] as number | undefined) ?? (this.#versions.get(stream) ?? 0) + 1;
    this.#versions.set(stream, version);
    const common = {
      epoch: this.epoch,
      position,
      eventId: `00000000-0000-4000-8000-${String(position).padStart(12, "0")}` as EventId,
      stream,
      version,
      recordedAt: this.at as UnixMs,
      actor: "system",
      cause: (given["cause"] as CommandId | undefined) ?? null,
    };
    const known = "unknown" in event ? null : event;
    const bytes = known === null ? encode([common, event]) : encodeEvent({ ...common, event: known });
    const recorded: Recorded = {
      ...common,
      hash: chainHash(this.head.hash, bytes),
      type: known?.type ?? ("unknown" in event ? event.unknown : ""),
      schemaVersion: 1,
      effect: known === null ? ("effect" in event ? event.effect : "either") : effectOf(known.type),
      event: known ?? { type: "Unknown", name: "unknown" in event ? event.unknown : "" },
    };
    this.head = { epoch: recorded.epoch, position, hash: recorded.hash };
    return { recorded, bytes };
  }

  write(entries: readonly LogEntry[], previous: Link, given: Given = {}): this {
    this.#txn += 1;
    const last = entries.at(-1)?.recorded;
    return this.tell("wrote", {
      process: "pg-1",
      txn: this.#txn,
      op: "append",
      writer: "broker-1",
      epoch: this.epoch,
      incarnation: `i${this.epoch}` as Incarnation,
      previous,
      entries,
      head: last === undefined ? previous : { epoch: last.epoch, position: last.position, hash: last.hash },
      commands: [],
      lessees: [],
      left: [],
      brokerId: null,
      ...given,
    });
  }

  clean(given: Given = {}): this {
    return this.tell("committed-cleanly", {
      process: "pg-1",
      txn: this.#txn,
      epoch: this.epoch,
      head: this.head,
      ...given,
    });
  }

  open(writer: string, given: Given = {}): this {
    const previous = this.head;
    this.epoch = (this.epoch + 1) as Epoch;
    const incarnation = `i${this.epoch}` as Incarnation;
    const brokerId = writer as BrokerId;
    const entry = this.entry({ type: "EpochOpened", epoch: this.epoch, incarnation, brokerId, publicKey: "" });
    this.write([entry], previous, { op: "open-epoch", writer, brokerId, ...given }).clean(given);
    return this.tell("leading", { process: writer, epoch: this.epoch, leading: true });
  }

  /** Writes an event, acknowledges it, and answers the client that sent this command id. */
  append(event: CardeaEvent, commandId: string, given: Given = {}): this {
    return this.batch([event], commandId, given);
  }
  /** The same with all events of one command. */
  batch(events: readonly CardeaEvent[], commandId: string, given: Given = {}): this {
    const previous = this.head;
    this.tell("command-invoked", { process: "client-1", commandId, command: {}, attempt: 1, to: "broker-1" });
    const entries = events.map((event) => this.entry(event, { cause: commandId, ...given }));
    const commands = [{ commandId, first: (previous.position + 1) as Position, count: events.length }];
    this.later(2).write(entries, previous, { commands, ...given });
    return this.later(2).clean(given).answer(commandId);
  }

  answer(commandId: string, given: Given = {}): this {
    const result = { type: "done", commandId, link: this.head, changed: true, ...given };
    return this.tell("command-answered", { process: "client-1", commandId, result });
  }

  create(session: string, given: Given = {}): this {
    const expiresAt = (options.wallStart + 3_600_000) as UnixMs;
    const event = { sessionId: session as SessionId, userId: "ada" as UserId, idpId: "idp", issuedAt: 0 as UnixMs };
    const created = { type: "SessionCreated" as const, ...event, expiresAt, profile: new Uint8Array(), ...given };
    return this.append(created, `create-${session}`);
  }
  revoke(session: string): this {
    const [sessionId, userId] = [session as SessionId, "ada" as UserId];
    return this.append({ type: "SessionRevoked", sessionId, userId, reason: "operator" }, `revoke-${session}`);
  }
  addMember(user: string): this {
    const [added, groupId] = [[user as UserId], "team" as GroupId];
    return this.append(
      { type: "GroupMembersChanged", groupId, source: "scim", added, removed: [] },
      `add-${this.head.position}`,
    );
  }
  removeMember(user: string): this {
    const [removed, groupId] = [[user as UserId], "team" as GroupId];
    return this.append(
      { type: "GroupMembersChanged", groupId, source: "scim", added: [], removed },
      `cut-${this.head.position}`,
    );
  }

  apply(to: Link = this.head, given: Given = {}): this {
    const from = this.applied;
    this.applied = to;
    return this.tell("applied", { node, boot, from, to, digest: `d${to.position}`, ...given }).enforce(given);
  }
  /** Sets the node's position to the head. The caller reports the facts by which it got there. */
  standing(): this {
    this.applied = this.head;
    return this;
  }
  /** The broker applies the log up to the head. */
  follow(): this {
    const [from, to] = [this.#followed, this.head];
    this.#followed = to;
    return this.tell("applied", { process: "broker-1", node: "broker-1", boot: "boot-b", from, to, digest: null });
  }
  enforce(given: Given = {}): this {
    return this.tell("enforced", { node, boot, link: this.applied, ...given });
  }

  renew(given: Given = {}): this {
    this.#nonce += 1;
    const points = { applied: this.applied, enforced: this.applied, digest: `d${this.applied.position}` };
    return this.tell("renew-sent", { node, boot, nonce: this.#nonce, windowMs: 15_000, ...points, ...given });
  }
  beat(given: Given = {}): this {
    const row: Lessee = { node, boot, region: "eu", role: "proxy", windowMs: 15_000 };
    return this.write([], this.head, { op: "beat", lessees: [row], ...given }).clean(given);
  }
  grant(given: Given = {}): this {
    const named = { node, boot, nonce: this.#nonce, epoch: this.epoch, head: this.head, windowMs: 15_000 };
    const terms = { incarnation: `i${this.epoch}`, deltaMs: 5_000, drift: 0.01, own: false, agedMs: null };
    return this.tell("grant-sent", { process: "broker-1", ...named, ...terms, ...given });
  }
  take(given: Given = {}): this {
    const by = "broker-1";
    const named = { by, nonce: this.#nonce, epoch: this.epoch, head: this.head, windowMs: 15_000, taken: true };
    return this.tell("grant-received", { node, boot, ...named, ...given });
  }
  lease(): this {
    return this.renew().later(5).beat().later(5).grant().later(5).take();
  }

  request(given: Given = {}): this {
    this.#request += 1;
    const fields = { session: "s1", user: "ada", route: "wiki", kind: "stream", token: genesis, to: "node-1" };
    return this.tell("request-began", { process: "client-1", request: this.#request, ...fields, ...given });
  }
  decide(given: Given = {}): this {
    const verdict = { verdict: "permit", reason: "permitted", link: this.applied, configHash: "c1", overdueMs: 0 };
    const fields = { request: this.#request, route: "wiki", session: "s1" };
    return this.tell("decided", { node, boot, ...fields, ...verdict, ...given });
  }
  carry(given: Given = {}): this {
    return this.tell("relayed", { node, boot, request: this.#request, ...given });
  }
  permit(given: Given = {}): this {
    this.request(given).later(1).decide(given).later(1);
    return this.tell("exchange-opened", {
      node,
      boot,
      request: this.#request,
      route: "wiki",
      session: "s1",
      kind: "stream",
    });
  }

  /** Truncates the log before a position, which two snapshots cover. */
  truncate(first: number): this {
    const saves = [1, 2].map(() => ({ link: this.head, whole: true }));
    this.tell("retain-asked", { process: "broker-1", first, held: false, saves });
    return this.tell("truncated", { process: "pg-1", writer: "broker-1", first });
  }

  receipt(given: Partial<Receipt> = {}, asked: Given = {}): this {
    this.#receipt += 1;
    const receipt = this.#receipt;
    const target = { type: "link", link: this.head };
    const question = { receipt, target, wait: "all", region: null, timeoutMs: 30_000, to: "broker-1" };
    this.tell("receipt-asked", { process: "client-1", ...question, ...asked }).later(5);
    const enforced = this.applied;
    const nodes = [
      { node, boot, region: "eu", role: "proxy", status: "applied", enforced, fencedInMs: null, reason: "" },
    ] as const;
    const answer: Receipt = {
      status: "complete",
      complete: true,
      wait: "all",
      link: this.head,
      commandId: null,
      epoch: this.epoch,
      nodes,
      completeInMs: 0,
      region: null,
      at: this.at as UnixMs,
      signed: null,
      ...given,
    };
    return this.tell("receipt-answered", { process: "broker-1", receipt, answer, region: null });
  }

  over(given: Partial<SimFactOf<"run-over">> = {}): this {
    return this.tell("run-over", { process: "world", ...given });
  }
}

const routes = [
  { ...plainRoute, route: "wiki", onStale: "serve", staleGraceMs: 10_000 },
  { ...plainRoute, route: "admin" },
  { ...plainRoute, route: "team", group: "team" },
];
const server = { role: "postgres", boot: null, node: null, region: "eu", lessee: null, build: "1", unknownTypes: [] };
const broker = { ...server, role: "broker", boot: "boot-b", node: "broker-1", lessee: "broker" };
const proxy = { ...server, role: "node", node, lessee: "proxy" };
