/**
 * Access requests: people who ask for groups, withdraw what they asked for or give it up, and operators who decide by
 * what a node shows them.
 */
import {
  type AccessDecider,
  type AccessRequest,
  accessRequestsFrom,
  type Command,
  parseCommandId,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { PlannedAction } from "../workload-plan.ts";
import { type OutsideParts, wallOf } from "./outside-parts.ts";

const operator: AccessDecider = { type: "operator", userId: null };
const approvedChance = 0.7;
/** How often two operators decide about one request at the same time. */
const bothChance = 0.4;
/** How often a person decides about their own request, which is refused. */
const ownChance = 0.1;

export class AccessRequests {
  readonly #parts: OutsideParts;
  readonly #barred: ReadonlySet<string>;

  constructor(parts: OutsideParts) {
    this.#parts = parts;
    this.#barred = new Set(parts.options.routes.flatMap(({ excludedGroup }) => excludedGroup ?? []));
  }

  request({ who, other }: PlannedAction): void {
    const { people, random } = this.#parts;
    const held = people.live(who);
    const groups = people.groups.filter((group) => !this.#barred.has(group));
    const groupId = groups[Math.floor(other * groups.length)];
    if (held === undefined || groupId === undefined || !this.#isReady()) return;
    const { userId, sessionId } = held;
    const requestId = parseCommandId(random.uuid());
    const wishes = { routeId: `route-${groupId}`, groupId, durationMs: 60_000, reason: "sim", refusal: null };
    this.#submit(`user:${userId}`, { type: "requestAccess", requestId, userId, sessionId, ...wishes });
  }

  decide({ other, much }: PlannedAction): void {
    const { random } = this.#parts;
    const request = this.#pick(other, much, "pending");
    if (request === undefined) return;
    const isApproved = random.chance(approvedChance);
    this.#decide(request, isApproved);
    if (random.chance(bothChance)) this.#decide(request, !isApproved);
  }

  /** An operator or the person ends what is pending or in force. */
  end({ other, much }: PlannedAction): void {
    const { people, random } = this.#parts;
    const request = this.#pick(other, much, "approved") ?? this.#pick(other, much, "pending");
    if (request === undefined) return;
    const { requestId, userId } = request;
    const own = people.all().find((held) => held.userId === userId);
    const by: AccessDecider =
      own !== undefined && random.chance(0.5) ? { type: "requester", userId, sessionId: own.sessionId } : operator;
    this.#submit(by.type === "requester" ? `user:${userId}` : operatorActor, {
      type: "endAccessRequest",
      requestId,
      by,
    });
  }

  #decide({ requestId, userId }: AccessRequest, isApproved: boolean): void {
    const { actors, random } = this.#parts;
    const by: AccessDecider = random.chance(ownChance) ? { type: "operator", userId } : operator;
    const until = (wallOf(actors) + 2_000 + Math.round(random.next() * 20_000)) as UnixMs;
    const decision = isApproved
      ? ({ decision: "approved", until } as const)
      : ({ decision: "denied", until: null } as const);
    const actor = by.type === "operator" && by.userId !== null ? `operator:${by.userId}` : operatorActor;
    this.#submit(actor, { type: "decideAccessRequest", requestId, by, ...decision, note: "sim" });
  }

  #pick(by: number, which: number, status: AccessRequest["status"]): AccessRequest | undefined {
    const { nodes } = this.#parts.actors;
    const node = nodes[Math.floor(by * nodes.length)];
    const all = [...(node?.copy()?.projection.accessRequests.open() ?? [])].filter((each) => each.status === status);
    return all[Math.floor(which * all.length)];
  }

  #isReady(): boolean {
    return this.#parts.actors.brokers.some((broker) => broker.level() >= accessRequestsFrom);
  }

  #submit(actor: string, command: Command): void {
    const { random, client, submit, askReceipt } = this.#parts;
    const commandId = command.type === "requestAccess" ? command.requestId : parseCommandId(random.uuid());
    const from = client(random.next());
    submit({ commandId, actor, command }, from, (result) => {
      if (command.type !== "requestAccess" && result.type === "done")
        askReceipt(from, { type: "link", link: result.link });
    });
  }
}

const operatorActor = "operator:sim#token-1";
