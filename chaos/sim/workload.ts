/**
 * Workload: clients in both regions that sign in, use their sessions on every node, tighten rights and request
 * receipts. They repeat unanswered commands until they get an answer, and also repeat some answered ones.
 *
 * A client knows only the answers that it gets over the network. It reports its requests and answers; monitors judge
 * them.
 */
import {
  type Command,
  type CommandId,
  type CommandRequest,
  type CommandResult,
  type GroupId,
  neededLink,
  parseCommandId,
  timeBoxedFrom,
  type UnixMs,
  unreachable,
} from "../../src/events/index.ts";
import type { ReceiptTarget, ReceiptWait } from "../../src/replication/index.ts";
import type { Actors, BrokerActor, NodeActor } from "./actors.ts";
import type { RequestNo } from "./facts.ts";
import { LocalWorkload } from "./local-workload.ts";
import { isOutside } from "./outside/outside-plan.ts";
import { OutsideWorkload } from "./outside/outside-workload.ts";
import { type HeldSession, People, profileOf, sessionIdOf } from "./people.ts";
import type { SimProcess } from "./process.ts";
import { type Stream, streamOf } from "./random.ts";
import { noTokens, signIn } from "./sign-ins.ts";
import { configurationAt } from "./sim-node.ts";
import type { SimOptions } from "./swarm.ts";
import {
  type CommandKind,
  isCommand,
  isLocal,
  type LocalKind,
  localKinds,
  type PlannedAction,
} from "./workload-plan.ts";
import { worldStart } from "./world.ts";

const commandMs = 10_000;
const requestMs = 5_000;
const retryMs = [200, 1_200] as const;
const lateMs = [500, 20_000] as const;
const streamMsMax = 20_000;
const receiptTriesMax = 6;
const manyMax = 12;

export type WorkloadCounts = Record<"commands" | "requests" | "receipts" | "complete" | "forged" | "reloads", number>;

type Open = {
  readonly request: CommandRequest;
  readonly client: SimProcess;
  attempts: number;
  /** Number of attempts in progress. */
  attemptsInFlight: number;
  settled: boolean;
  readonly done: (result: CommandResult) => void;
};

export class Workload {
  readonly counts: WorkloadCounts = { commands: 0, requests: 0, receipts: 0, complete: 0, forged: 0, reloads: 0 };
  readonly #actors: Actors;
  readonly #options: SimOptions;
  readonly #clients: readonly SimProcess[];
  /** Regions with nodes. */
  readonly #regions: readonly string[];
  readonly #people: People;
  /** Groups whose members are barred: a new member loses rights. */
  readonly #excludedGroup: ReadonlySet<string>;
  readonly #random: Stream;
  readonly #forge: (action: PlannedAction) => void;
  readonly #local: LocalWorkload;
  readonly #outside: OutsideWorkload;
  #requests = 0;
  #receipts = 0;

  constructor(
    actors: Actors,
    options: SimOptions,
    parts: Readonly<{ clients: readonly SimProcess[]; forge: (action: PlannedAction) => void }>,
  ) {
    this.#actors = actors;
    this.#options = options;
    this.#clients = parts.clients;
    this.#regions = [...new Set(actors.nodes.map(({ process }) => process.region))];
    this.#forge = parts.forge;
    const { routes } = options;
    const groups = new Set(
      routes.flatMap(({ group, excludedGroup }) => [group, excludedGroup]).filter((name) => name !== null),
    );
    this.#excludedGroup = new Set(routes.flatMap(({ excludedGroup }) => excludedGroup ?? []));
    this.#people = new People(options.load.users, [...groups]);
    this.#random = actors.world.random("clients");
    const localRandom = actors.world.random("local-clients");
    this.#local = new LocalWorkload({
      ...{ actors, options, random: localRandom },
      client: (by) => this.#client(by),
      submitAtHome: (request, client) => this.#submitAtHome(request, client, () => {}),
      use: (held, { node, kind }) =>
        this.#request(held, { node, kind, other: localRandom.next(), forMs: localRandom.within(1, 60) }),
    });
    this.#outside = new OutsideWorkload({
      ...{ actors, options, people: this.#people, random: actors.world.random("outside-clients") },
      client: (by) => this.#client(by),
      submit: (request, client, done) => {
        this.counts.commands += 1;
        this.#submitAtHome(request, client, done);
      },
      askReceipt: (client, target) => this.#askReceipt(client, target),
    });
  }

  start(plan: readonly PlannedAction[]): void {
    // One timer at a time keeps thousands of actions out of the world's heap.
    const next = (index: number): void => {
      const action = plan[index];
      if (action === undefined) return;
      this.#actors.world.at(action.atMs, () => {
        next(index + 1);
        this.#grant(action);
      });
    };
    next(0);
  }

  #grant(action: PlannedAction): void {
    if (isLocal(action.kind)) this.#submitLocally(action, action.kind);
    else if (action.kind === "forge") {
      this.counts.forged += 1;
      this.#forge(action);
    } else if (action.kind === "reload") this.#reload(action);
    else if (isOutside(action.kind)) this.#outside.perform(action, action.kind);
    else if (isCommand(action.kind)) this.#submit(action, action.kind);
    else this.#use(action, action.kind);
  }

  #reload({ who, much }: PlannedAction): void {
    const { nodes } = this.#actors;
    const node = nodes[Math.floor(who * nodes.length)];
    if (node === undefined || !node.process.isUp) return;
    this.counts.reloads += 1;
    node.process.run(() => node.configure(configurationAt(much)));
  }

  // --- requests

  #use({ who, other, much }: PlannedAction, kind: "request" | "stream"): void {
    const { nodes } = this.#actors;
    const held = this.#people.session(who, much);
    const node = nodes[Math.floor(other * 97 * nodes.length) % nodes.length];
    if (held === undefined || node === undefined) return;
    const forMs = kind === "stream" ? this.#random.within(500, streamMsMax) : this.#random.within(1, 60);
    this.#request(held, { node, kind, other, forMs });
  }

  #request(
    { sessionId: session, userId: user, token }: HeldSession,
    asked: Readonly<{ node: NodeActor; kind: "request" | "stream"; other: number; forMs: number }>,
  ): void {
    const { world } = this.#actors;
    const { node, kind, other, forMs } = asked;
    const route = this.#options.routes[Math.floor(other * this.#options.routes.length)]?.route;
    const client = this.#client(other);
    if (route === undefined) return;
    this.#requests += 1;
    this.counts.requests += 1;
    const request: RequestNo = this.#requests;
    const said = { request, route, session, user, kind, token };
    world.report({ type: "request-began", at: world.now, process: client.name, to: node.process.name, ...said });
    world.network.request(client, node.process, {
      timeoutMs: requestMs,
      handle: (reply) => node.request({ ...said, forMs }, reply),
      done: () => {},
    });
  }

  // --- commands

  #submit(action: PlannedAction, kind: CommandKind): void {
    const random = streamOf(this.#options.seed, `wish/${action.id}`);
    const made = this.#command(action, kind, random);
    if (made === undefined) return;
    this.counts.commands += 1;
    const commandId = parseCommandId(random.uuid());
    const client = this.#client(action.other);
    const request: CommandRequest = { commandId, actor: "operator:sim", command: made.command };
    const open: Open = {
      ...{ request, client, attempts: 0, attemptsInFlight: 0, settled: false },
      done: (result) => {
        made.heard(result);
        if (made.tightens && result.type === "done" && action.much < 0.8)
          this.#askReceipt(
            client,
            random.chance(0.5) ? { type: "command", commandId } : { type: "link", link: result.link },
          );
        if (random.chance(this.#options.load.repeat))
          this.#actors.world.after(random.within(lateMs[0], lateMs[1]), () => this.#ask(open, this.#broker(client)));
      },
    };
    this.#ask(open, this.#broker(client));
    if (random.chance(this.#options.load.twice)) this.#ask(open, this.#broker(client));
  }

  #submitLocally(action: PlannedAction, kind: LocalKind): void {
    const random = streamOf(this.#options.seed, `wish/${action.id}`);
    const live = this.#people.all();
    const made = this.#command(action, localKinds[kind], random);
    if (made === undefined) return;
    this.counts.commands += 1;
    const { command } = made;
    const commandId = parseCommandId(random.uuid());
    const denied = live.filter((held) => held.over);
    this.#local.submit({ commandId, actor: "operator:sim", command }, denied, action.other);
  }

  /** Sends a command to the home region until it is answered. */
  #submitAtHome(request: CommandRequest, client: SimProcess, done: (result: CommandResult) => void): void {
    const open: Open = { request, client, attempts: 0, attemptsInFlight: 0, settled: false, done };
    this.#ask(open, this.#broker(client));
  }

  #ask(open: Open, broker: BrokerActor | undefined): void {
    if (broker === undefined) return;
    const { world } = this.#actors;
    const { request, client } = open;
    const { commandId, command } = request;
    open.attempts += 1;
    open.attemptsInFlight += 1;
    world.report({
      ...{ type: "command-invoked", at: world.now, process: client.name, to: broker.process.name },
      ...{ commandId, command, attempt: open.attempts },
    });
    world.network.request<CommandResult>(client, broker.process, {
      timeoutMs: commandMs,
      handle: (reply) => broker.submit(request, reply),
      done: (outcome) => {
        open.attemptsInFlight -= 1;
        const result = outcome.type === "answered" ? outcome.value : unavailable(commandId);
        world.report({ type: "command-answered", at: world.now, process: client.name, commandId, result });
        if (result.type === "unavailable") this.#again(open);
        else if (!open.settled) {
          open.settled = true;
          open.done(result);
        }
      },
    });
  }

  /** Retries without limit until there is an answer. */
  #again(open: Open): void {
    const { world } = this.#actors;
    const wait = Math.min(3, open.attempts) * this.#random.within(retryMs[0], retryMs[1]);
    world.after(wait, () => {
      if (!open.settled && open.attemptsInFlight === 0) this.#ask(open, this.#broker(open.client));
    });
  }

  #command(
    { who, other, much }: PlannedAction,
    kind: CommandKind,
    random: Stream,
  ): Readonly<{ command: Command; tightens: boolean; heard: (result: CommandResult) => void }> | undefined {
    const people = this.#people;
    const userId = people.user(who);
    const now = (worldStart + Math.floor(this.#actors.world.now)) as UnixMs;
    const nothing = (): void => {};
    switch (kind) {
      case "sign-in": {
        const { sessionMsMin, sessionMsMax } = this.#options.load;
        const sessionId = sessionIdOf(random.bytes(12));
        const lastsMs = random.within(sessionMsMin, sessionMsMax);
        const groupIds = random.chance(0.2) ? this.#welcome() : null;
        const command = signIn(this.#options, { sessionId, userId, now, lastsMs, groupIds });
        const heard = (result: CommandResult): void => {
          if (result.type !== "done") return;
          people.hold({ sessionId, userId, token: neededLink(result), over: false, providerSession: null });
        };
        return { command, tightens: false, heard };
      }
      case "refresh":
        return this.#onSession(people.live(who), (held) => ({
          command: {
            ...{ type: "refreshSession", sessionId: held.sessionId, refreshedAt: now },
            tokens: { ...noTokens, refreshToken: `${held.sessionId}/${random.between(0, 1e9)}.0` },
            ...{ profile: profileOf(held.userId, random.between(1, 5)) },
            groupIds: random.chance(0.3) ? people.groups.filter(() => random.chance(0.5)) : null,
          },
          tightens: false,
          heard: (result) => {
            if (result.type === "done") held.token = neededLink(result);
          },
        }));
      case "revoke":
        return this.#onSession(people.live(who), (held) => {
          people.end((session) => session === held);
          const command: Command = { type: "revokeSession", sessionId: held.sessionId, reason: "operator" };
          return { command, tightens: true, heard: nothing };
        });
      case "revoke-many": {
        const some = new Set(people.some(who, 2 + Math.floor(other * manyMax)));
        if (some.size === 0) return undefined;
        people.end((session) => some.has(session));
        const sessionIds = [...some].map((session) => session.sessionId);
        return { command: { type: "revokeSessions", sessionIds, reason: "operator" }, tightens: true, heard: nothing };
      }
      case "revoke-user":
        people.end((session) => session.userId === userId);
        return { command: { type: "revokeUserSessions", userId, reason: "operator" }, tightens: true, heard: nothing };
      case "suspend":
        people.end((session) => session.userId === userId);
        return {
          command: { type: "suspendUser", userId, reason: "sim", ...this.#end(much, now) },
          tightens: true,
          heard: nothing,
        };
      case "restore":
        return { command: { type: "restoreUser", userId }, tightens: false, heard: nothing };
      case "add-member":
      case "remove-member": {
        const adds = kind === "add-member";
        const source = much < 0.7 ? "operator" : "scim";
        const [added, removed] = adds ? [[userId], []] : [[], [userId]];
        const groupId = people.group(other);
        const box = adds && source === "operator" ? this.#end(much / 0.7, now) : {};
        const reason = "until" in box ? { reason: "sim" } : {};
        const command: Command = { type: "changeGroupMembers", groupId, source, added, removed, ...box, ...reason };
        return { command, tightens: adds === this.#excludedGroup.has(groupId), heard: nothing };
      }
      case "remove-group":
        return { command: { type: "removeGroup", groupId: people.group(other) }, tightens: true, heard: nothing };
      default:
        return unreachable(kind);
    }
  }

  /** Most additions by operators, and suspensions, end by themselves once the level of the log allows it. */
  #end(much: number, now: UnixMs): Readonly<{ until?: UnixMs }> {
    if (much >= 0.6 || !this.#actors.brokers.some((broker) => broker.level() >= timeBoxedFrom)) return {};
    return { until: (now + 2_000 + Math.round((much / 0.6) * 20_000)) as UnixMs };
  }

  /** Groups whose members get access. */
  #welcome(): readonly GroupId[] {
    return this.#people.groups.filter((group) => !this.#excludedGroup.has(group));
  }

  #onSession<T>(held: HeldSession | undefined, make: (held: HeldSession) => T): T | undefined {
    return held === undefined ? undefined : make(held);
  }

  // --- receipts

  #askReceipt(client: SimProcess, target: ReceiptTarget, tries = 1): void {
    const broker = this.#broker(client);
    if (broker === undefined) return;
    const { world } = this.#actors;
    const { windowMaxMs } = this.#options.lease;
    this.#receipts += 1;
    this.counts.receipts += 1;
    const receipt = this.#receipts;
    const wait: ReceiptWait = this.#random.pick(["all", "all", "all", "region", "none"]);
    const region = wait === "region" ? this.#random.pick(this.#regions) : null;
    const timeoutMs = this.#random.pick([1_000, 5_000, windowMaxMs + 6_000, windowMaxMs + 6_000]);
    const said = { receipt, target, wait, region, timeoutMs };
    world.report({ type: "receipt-asked", at: world.now, process: client.name, to: broker.process.name, ...said });
    world.network.request<Readonly<{ complete: boolean; status: string }> | undefined>(client, broker.process, {
      timeoutMs: timeoutMs + 2_000,
      handle: (reply) => broker.receipt(said, reply),
      done: (outcome) => {
        const answer = outcome.type === "answered" ? outcome.value : undefined;
        if (answer?.complete === true) this.counts.complete += 1;
        if (answer === undefined)
          world.report({ type: "receipt-failed", at: world.now, process: client.name, receipt, reason: outcome.type });
        if (answer?.complete === true || answer?.status === "lost" || wait === "none" || tries >= receiptTriesMax)
          return;
        world.after(this.#random.within(retryMs[0], retryMs[1]), () => this.#askReceipt(client, target, tries + 1));
      },
    });
  }

  #client(by: number): SimProcess {
    const client = this.#clients[Math.floor(by * this.#clients.length)];
    if (client === undefined) throw new Error("a workload needs a client");
    return client;
  }

  /** Picks a broker, usually in the client's own region. */
  #broker(client: SimProcess): BrokerActor | undefined {
    const { brokers } = this.#actors;
    const own = brokers.filter(({ process }) => process.region === client.region);
    return this.#random.pick(own.length > 0 && this.#random.chance(0.7) ? own : brokers);
  }
}

function unavailable(commandId: CommandId): CommandResult {
  return { type: "unavailable", commandId, message: "no answer came", retryAfterMs: 0 };
}
