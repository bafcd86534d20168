/**
 * Signal polls: fetches the tokens of the simulated transmitter in one boot of a broker, by the product's rules of when
 * to poll and what to acknowledge (poll-rules.ts).
 */
import {
  noPolls,
  type PolledOutcome,
  type PollState,
  pollAnswered,
  pollFailed,
  pollHandled,
  pollRequestOf,
} from "../../../src/auth/authenticate/signals/poll-rules.ts";
import type { DutyRun } from "../../../src/broker/core/messages.ts";
import type { CommandRequest, CommandResult } from "../../../src/events/index.ts";
import type { SimProcess } from "../process.ts";
import { Promises } from "../promises.ts";
import type { World } from "../world.ts";
import { commandsOf, type SimSignals } from "./sim-signals.ts";

export type SignalPollsParts = Readonly<{
  world: World;
  process: SimProcess;
  leads: (run: DutyRun) => boolean;
  submit: (run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void) => void;
  ended: (run: DutyRun, outcome: "done" | "failed") => void;
}>;

type Token = Parameters<typeof commandsOf>[0];
const wayMs = [5, 700] as const;
const idleMs = 400;
/** In a row: the log is out of reach, so the rest waits. */
const unavailableMax = 3;

export class SignalPolls {
  readonly #parts: SignalPollsParts;
  readonly #signals: SimSignals;
  readonly #promises: Promises;
  readonly #random: ReturnType<World["random"]>;
  #state: PollState = noPolls;

  constructor(parts: SignalPollsParts, signals: SimSignals) {
    this.#parts = parts;
    this.#signals = signals;
    this.#promises = new Promises(parts.world, parts.process);
    this.#random = parts.world.random(`signal-polls/${parts.process.name}`);
  }

  run(run: DutyRun): void {
    this.#promises.begin(
      () => this.#poll(run),
      () => this.#parts.ended(run, "done"),
    );
  }

  async #poll(run: DutyRun): Promise<void> {
    const { process, leads } = this.#parts;
    const now = (): number => process.clock.monotonic();
    while (leads(run)) {
      if (this.#state.notBefore > now()) {
        await this.#promises.pass(Math.min(idleMs, this.#state.notBefore - now()));
        continue;
      }
      const startedAt = now();
      const sent = pollRequestOf(this.#state);
      const tokens = await this.#request(sent);
      if (tokens === undefined) {
        this.#state = pollFailed(this.#state, now());
        continue;
      }
      this.#state = pollAnswered(this.#state);
      const outcomes = await this.#receiveAll(run, tokens);
      this.#state = pollHandled(this.#state, outcomes, { sent, now: now(), startedAt });
    }
  }

  #request(sent: ReturnType<typeof pollRequestOf>): Promise<readonly Token[] | undefined> {
    const { world } = this.#parts;
    const way = (): number => this.#random.within(...wayMs);
    return this.#promises.wait((answered) => {
      world.after(way(), () => {
        const tokens = this.#signals.poll(sent);
        world.after(way(), () => answered(tokens));
      });
    });
  }

  async #receiveAll(run: DutyRun, tokens: readonly Token[]): Promise<readonly PolledOutcome[]> {
    const outcomes: PolledOutcome[] = [];
    let inRow = 0;
    for (const token of tokens) {
      const { jti } = token.event;
      if (!this.#parts.leads(run)) return outcomes;
      const isDone = await this.#receive(run, token);
      outcomes.push({ jti, type: isDone ? "accepted" : "unavailable" });
      inRow = isDone ? 0 : inRow + 1;
      if (inRow >= unavailableMax) return outcomes;
    }
    return outcomes;
  }

  /** @returns false: not everything is in the log */
  async #receive(run: DutyRun, token: Token): Promise<boolean> {
    for (const request of commandsOf(token)) {
      const result = await this.#promises.wait<CommandResult>((answered) => this.#parts.submit(run, request, answered));
      if (result.type !== "done") return false;
    }
    return true;
  }
}
