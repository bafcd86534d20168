/** Signal transmission: the product's transmit duty in one boot of a broker, which pushes to the simulated receiver. */
import { signalRecordsFor } from "../../../src/auth/authenticate/signals/signal-plan.ts";
import type { PushAnswer } from "../../../src/auth/authenticate/transmitter/push-delivery.ts";
import type { TransmitContext } from "../../../src/auth/authenticate/transmitter/stream-duty.ts";
import { createTransmit, type TransmitSettings } from "../../../src/auth/authenticate/transmitter/transmit-duty.ts";
import { neededAfter, newTransmitMemory } from "../../../src/auth/authenticate/transmitter/transmit-memory.ts";
import { openSignalStream, signalVaultId } from "../../../src/broker/commands/vault.ts";
import type { DutyRun } from "../../../src/broker/core/messages.ts";
import { openProfiles } from "../../../src/broker/open-profiles.ts";
import type { BrokerState } from "../../../src/broker/state/broker-state.ts";
import type { SignalReceiverConfig } from "../../../src/config/index.ts";
import type { CommandRequest, CommandResult, Link, Position } from "../../../src/events/index.ts";
import type { PageOutcome } from "../../../src/replication/index.ts";
import { personKeyWrap, vaultKey } from "../../../src/replication/wire/index.ts";
import type { SimProcess } from "../process.ts";
import { Promises } from "../promises.ts";
import type { SimLog } from "../sim-log.ts";
import type { World } from "../world.ts";
import { receiverName } from "./provisioned-people.ts";
import { type SimSignals, signalRules } from "./sim-signals.ts";

export type SignalTransmissionParts = Readonly<{
  world: World;
  process: SimProcess;
  log: SimLog;
  secret: Uint8Array;
  ledger: () => BrokerState;
  leads: (run: DutyRun) => boolean;
  /** Events after a link, as the broker serves them. Undefined: not now. */
  readOwn: (after: Link, limit: number, answered: (outcome: PageOutcome | undefined) => void) => void;
  submit: (run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void) => void;
  ended: (run: DutyRun, outcome: "done" | "failed") => void;
}>;

const receiver: SignalReceiverConfig = {
  ...{ name: receiverName, audience: "https://watcher.example", tokenHash: null, client: null },
  events: ["session-revoked", "account-disabled", "account-enabled", "account-purged"],
  ...{ subjectFormat: "opaque", sessionSubject: "complex", subjects: "all", groups: null, claims: [], pushUrls: [] },
  ...{ minVerificationMs: 60_000, inactivityMs: null },
};
const wayMs = [5, 400] as const;

export class SignalTransmission {
  readonly #parts: SignalTransmissionParts;
  readonly #promises: Promises;
  readonly #memory = newTransmitMemory();
  readonly #transmit: ReturnType<typeof createTransmit>;
  readonly #running = new Map<number, AbortController>();

  constructor(parts: SignalTransmissionParts, signals: SimSignals) {
    const { world, process } = parts;
    this.#parts = parts;
    this.#promises = new Promises(world, process);
    const random = world.random(`transmission/${process.name}`);
    const note = (level: string) => (fields: object, message: string) => {
      if (world.trace.keeps) world.note(process.name, `${level}: ${message} ${JSON.stringify(fields)}`);
    };
    const post = (_: unknown, token: string): Promise<PushAnswer> =>
      this.#promises.wait((answered) => {
        world.after(random.within(...wayMs), () => {
          const answer = signals.push(token);
          world.after(random.within(...wayMs), () => answered(answer));
        });
      });
    const settings: TransmitSettings = {
      ...{ receivers: [receiver], issuer: "https://cardea.example", memory: this.#memory, post },
      signer: Promise.resolve({ jwks: { keys: [] }, sign: async (claims) => JSON.stringify(claims) }),
      recordsOf: signalRecordsFor([signalRules]) ?? (() => []),
      sleep: (ms) => this.#promises.pass(ms),
      uuid: () => random.uuid(),
      log: { info: note("info"), warn: note("warn"), error: note("error") },
    };
    this.#transmit = createTransmit(() => settings);
  }

  /** The position after which the stream needs the log; null: it does not. */
  get neededAfter(): Position | null {
    return neededAfter(this.#memory, this.#parts.process.clock.wall());
  }

  run(run: DutyRun): void {
    const { ended } = this.#parts;
    const controller = new AbortController();
    this.#running.set(run.run, controller);
    this.#promises.begin(
      () => this.#transmit(this.#contextOf(run, controller.signal)),
      () => {
        this.#running.delete(run.run);
        ended(run, "done");
      },
    );
  }

  end({ run }: DutyRun): void {
    const controller = this.#running.get(run);
    if (controller !== undefined) this.#promises.abort(controller);
  }

  #contextOf(run: DutyRun, signal: AbortSignal): TransmitContext {
    const { process, log, secret, ledger, leads, submit, readOwn } = this.#parts;
    const promises = this.#promises;
    return {
      submit: (request) => promises.wait((answered) => submit(run, request, answered)),
      leads: () => leads(run),
      signal,
      get projection() {
        return ledger().projection;
      },
      clock: { monotonic: () => process.clock.monotonic(), wall: () => process.clock.wall() },
      profiles: (users) =>
        openProfiles(users, {
          log: { keys: (of) => promises.wait((answered) => log.keys(of, answered)) },
          wrappingKeys: [personKeyWrap(secret)],
          projection: ledger().projection,
        }),
      read: (after, limit) =>
        promises.wait((answered) =>
          readOwn(after, limit, (outcome) => answered(outcome ?? new Error("the broker does not answer"))),
        ),
      logBase: () => promises.wait((answered) => log.base(answered)),
      storedSignalStream: async (name) => {
        const stored = await promises.wait<Parameters<typeof openSignalStream>[0]>((answered) =>
          log.vault(signalVaultId(name), answered),
        );
        return openSignalStream(stored, [vaultKey(secret)]);
      },
    };
  }
}
