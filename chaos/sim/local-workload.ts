/**
 * Local workload: operators in remote regions. They send commands that only tighten to the brokers of their region,
 * which forward them or, while the home region is out of reach, accept them by themselves (docs/adr/0039).
 *
 * They repeat what stays without an answer under the same id: at the same broker, at the other one, or at home. Once a
 * local receipt is complete, clients of the region try what it denies.
 */
import { type CommandRequest, parseCommandId, type UserId } from "../../src/events/index.ts";
import type { Actors, LocalResult, RegionActor } from "./actors.ts";
import type { HeldSession } from "./people.ts";
import type { SimProcess } from "./process.ts";
import type { Stream } from "./random.ts";
import type { SimOptions } from "./swarm.ts";

export type LocalWorkloadParts = Readonly<{
  actors: Actors;
  options: SimOptions;
  random: Stream;
  client: (by: number) => SimProcess;
  /** Sends a command to the home region until it is answered. */
  submitAtHome: (request: CommandRequest, client: SimProcess) => void;
  /** A client uses a session at a node. */
  use: (held: HeldSession, at: Readonly<{ node: Actors["nodes"][number]; kind: "request" | "stream" }>) => void;
}>;

type PendingCommand = Readonly<{
  request: CommandRequest;
  client: SimProcess;
  region: string;
  denied: readonly HeldSession[];
}>;

const commandMs = 6_000;
const receiptMs = 3_000;
const triesMax = 8;
const receiptTriesMax = 12;
const retryMs = [200, 1_200] as const;
const restoreMs = [300, 6_000] as const;
const probesMax = 4;
const probeEveryMs = 400;
const probeRounds = 4;

export class LocalWorkload {
  readonly counts = { local: 0, localReceipts: 0, localComplete: 0 };
  readonly #parts: LocalWorkloadParts;

  constructor(parts: LocalWorkloadParts) {
    this.#parts = parts;
  }

  /**
   * @param by selects the region and its broker, from 0 (inclusive) to 1 (exclusive)
   * @param denied the sessions that the command ends, as far as the client knows
   */
  submit(request: CommandRequest, denied: readonly HeldSession[], by: number): void {
    const { actors, random, client, options } = this.#parts;
    const broker = actors.regionals[Math.floor(by * actors.regionals.length)];
    if (broker === undefined) return;
    const pending = { request, denied, region: broker.process.region, client: client(by) };
    this.#send(pending, broker, 1);
    if (!random.chance(options.load.twice)) return;
    this.#send(pending, this.#another(broker), 1);
  }

  #send(pending: PendingCommand, broker: RegionActor, tries: number): void {
    const { actors, random } = this.#parts;
    const { request, client } = pending;
    const { commandId, command } = request;
    const said = { process: client.name, commandId } as const;
    const { world } = actors;
    world.report({
      ...{ type: "command-invoked", at: world.now, ...said, to: broker.process.name, command, attempt: tries },
    });
    world.network.request<LocalResult>(client, broker.process, {
      timeoutMs: commandMs,
      handle: (reply) => broker.submit(request, reply),
      done: (outcome) => {
        const result = outcome.type === "answered" ? outcome.value : null;
        if (result?.type === "local") {
          world.report({ type: "command-abandoned", at: world.now, ...said }); // it needs no outcome at home
          this.#followAccepted(pending, broker);
        } else if (result !== null && result.type !== "unavailable")
          world.report({ type: "command-answered", at: world.now, ...said, result });
        else if (tries < triesMax)
          world.after(random.within(retryMs[0], retryMs[1]), () => this.#retry(pending, broker, tries + 1));
        else this.#parts.submitAtHome(request, client);
      },
    });
  }

  /** Repeats the command under its id. */
  #retry(pending: PendingCommand, broker: RegionActor, tries: number): void {
    const where = this.#parts.random.next();
    if (where < 0.15) this.#parts.submitAtHome(pending.request, pending.client);
    else this.#send(pending, where < 0.6 ? broker : this.#another(broker), tries);
  }

  #followAccepted(pending: PendingCommand, broker: RegionActor): void {
    const { actors, random, options, submitAtHome } = this.#parts;
    const { request, client } = pending;
    this.counts.local += 1;
    this.#requestReceipt(pending, broker, 1);
    const later = (then: () => void): void => {
      actors.world.after(random.within(restoreMs[0], restoreMs[1]), then);
    };
    if (random.chance(options.load.repeat)) later(() => this.#retry(pending, broker, triesMax));
    const { command } = request;
    if (command.type === "suspendUser" && random.chance(0.5)) later(() => this.#restore(command.userId, client));
    if (random.chance(0.2)) later(() => submitAtHome(request, client));
  }

  /** An operator at home, who does not know what the region has done. */
  #restore(userId: UserId, client: SimProcess): void {
    const { random, submitAtHome } = this.#parts;
    const commandId = parseCommandId(random.uuid());
    submitAtHome({ commandId, actor: "operator:sim", command: { type: "restoreUser", userId } }, client);
  }

  #requestReceipt(pending: PendingCommand, broker: RegionActor, tries: number): void {
    const { actors, random } = this.#parts;
    const { request, client } = pending;
    this.counts.localReceipts += 1;
    actors.world.network.request<"complete" | "incomplete" | "merged" | "unknown">(client, broker.process, {
      timeoutMs: receiptMs + 2_000,
      handle: (reply) => broker.localReceipt(request.commandId, receiptMs, reply),
      done: (outcome) => {
        const answer = outcome.type === "answered" ? outcome.value : "incomplete";
        if (answer === "complete") {
          this.counts.localComplete += 1;
          this.#probe(pending, 1);
        } else if (answer === "incomplete" && tries < receiptTriesMax) {
          const next = random.chance(0.7) ? broker : this.#another(broker);
          actors.world.after(random.within(retryMs[0], retryMs[1]), () =>
            this.#requestReceipt(pending, next, tries + 1),
          );
        }
      },
    });
  }

  /** Clients of the region try the ended sessions. */
  #probe(pending: PendingCommand, round: number): void {
    const { actors, random, use } = this.#parts;
    const nodes = actors.nodes.filter(({ process }) => process.region === pending.region);
    for (const held of pending.denied.slice(0, probesMax)) {
      const node = nodes.length === 0 ? undefined : random.pick(nodes);
      if (node !== undefined) use(held, { node, kind: "request" });
    }
    if (round < probeRounds) actors.world.after(probeEveryMs, () => this.#probe(pending, round + 1));
  }

  #another(broker: RegionActor): RegionActor {
    const mates = this.#parts.actors.regionals.filter(({ process }) => process.region === broker.process.region);
    return mates.find((mate) => mate !== broker) ?? broker;
  }
}
