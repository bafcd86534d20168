/**
 * Error boundary: a throw in the events of one exchange ends that exchange and no other.
 *
 * Upgrades and tunnels run in events of two sockets. A throw in a listener would be uncaught and end the process, with
 * every exchange on it. So it is caught where the event is emitted, in one place for all listeners.
 */
import type { EventEmitter } from "node:events";
import type { ForwardFailure } from "../forward/forward-job.ts";

/** Ends the exchange in whatever state it is. Never throws. */
export type Abort = (error: unknown) => void;

/** @param fail answers the caller; returns false when a response had begun */
export function abortOnError(
  onFault: (error: unknown) => void,
  fail: (failure: ForwardFailure) => boolean,
  destroy: () => void,
): Abort {
  return (error) => {
    onFault(error);
    try {
      if (fail({ type: "error", error })) return;
    } catch (secondError) {
      onFault(secondError);
    }
    destroy();
  };
}

/** Catches what any listener of the emitter throws, now and later. */
export function guardEmitter(emitter: EventEmitter, end: Abort): void {
  const { emit } = emitter;
  emitter.emit = (...event: Parameters<EventEmitter["emit"]>): boolean => {
    try {
      return emit.apply(emitter, event);
    } catch (error) {
      end(error);
      return true;
    }
  };
}

/** Wraps a callback of a timer or a call. */
export function guardCallback<Args extends readonly unknown[]>(
  callback: (...args: Args) => void,
  end: Abort,
): (...args: Args) => void {
  return (...args) => {
    try {
      callback(...args);
    } catch (error) {
      end(error);
    }
  };
}
