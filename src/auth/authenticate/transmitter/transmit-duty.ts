/**
 * Transmit duty: a duty of the leader that delivers our signals to their receivers.
 *
 * One run lasts as long as this process leads and the configuration stays. Each receiver has a loop of its own, so a
 * slow one holds up no other.
 */
import type { SignalReceiverConfig } from "../../../config/index.ts";
import { type RecordsOf, RestoredPeople } from "./restored-people.ts";
import { StreamDuty, type StreamDutyDeps, type TransmitContext } from "./stream-duty.ts";

export type TransmitSettings = Readonly<{ receivers: readonly SignalReceiverConfig[] }> &
  Omit<StreamDutyDeps, "signer" | "restored"> &
  Readonly<{
    signer: Promise<StreamDutyDeps["signer"]>;
    recordsOf: RecordsOf;
    sleep: (ms: number) => Promise<void>;
  }>;

/** The log is looked at this often. */
const lookMs = 100;
/** After a failure of the store. */
const failedMs = 2_000;
/** Requests in progress get this time when the run ends. */
const lastAnswersMs = 2_000;

/** @param settings those in force; another object ends the run, and the next one uses it */
export function createTransmit(settings: () => TransmitSettings | null): (context: TransmitContext) => Promise<void> {
  return async (context) => {
    const current = settings();
    if (current === null || current.receivers.length === 0) return;
    const { projection, clock, profiles } = context;
    const restored = new RestoredPeople({
      projection,
      recordsOf: current.recordsOf,
      open: profiles,
      now: () => clock.wall(),
      salt: current.uuid(),
    });
    const deps = { ...current, restored, signer: await current.signer };
    const { state, reports } = deps.memory;
    state.loaded = false;
    state.loadingSince = context.clock.wall();
    reports.clear();
    const isCurrent = (): boolean => !context.signal.aborted && settings() === current;
    const loaded = new Set<string>();
    const onLoaded = (name: string): void => {
      loaded.add(name);
      if (loaded.size === current.receivers.length) state.loaded = true;
    };
    await Promise.all(current.receivers.map((receiver) => serve(receiver, { deps, context, isCurrent, onLoaded })));
    state.loaded = false;
    state.loadingSince = null;
    reports.clear(); // another process knows more from now on
  };
}

async function serve(
  receiver: SignalReceiverConfig,
  run: Readonly<{
    deps: StreamDutyDeps & Pick<TransmitSettings, "sleep">;
    context: TransmitContext;
    isCurrent: () => boolean;
    onLoaded: (name: string) => void;
  }>,
): Promise<void> {
  const { deps, context, isCurrent, onLoaded } = run;
  const duty = new StreamDuty(deps, receiver, context);
  let woken = Promise.withResolvers<void>();
  duty.onAnswer(() => woken.resolve());
  while (isCurrent()) {
    let pauseMs = lookMs;
    try {
      await duty.turn();
      onLoaded(receiver.name);
    } catch (error) {
      if (!isCurrent()) break;
      deps.log.warn({ err: error, receiver: receiver.name }, "could not serve a stream of signals; trying again");
      pauseMs = failedMs;
    }
    await Promise.race([deps.sleep(pauseMs), woken.promise]);
    woken = Promise.withResolvers();
  }
  const endsAt = context.clock.monotonic() + lastAnswersMs;
  while (duty.isBusy && context.clock.monotonic() < endsAt && context.leads()) await deps.sleep(50);
  await duty.finish().catch((error: unknown) => {
    deps.log.warn({ err: error, receiver: receiver.name }, "could not record what a stream has delivered");
  });
}
