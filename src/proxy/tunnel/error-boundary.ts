/**
 * Contain: what is thrown in the events of one exchange ends that exchange, and nothing else.
 *
 * Upgrades and tunnels do what they do in events of two sockets, where nobody of ours stands above a listener and a throw would end
 * the process, and with it everybody's exchanges. So it is caught where events are told, in one place for all listeners.
 */
import type { EventEmitter } from "node:events";
import type { ForwardFailure } from "../forward/http-forwarder.ts";

/** Ends the exchange, whatever state it is in; throws nothing. */
export type EndByFault = (error: unknown) => void;

/** @param fail answers where nothing was answered yet; @returns false: something was */
export function endByFault(
  onFault: (error: unknown) => void,
  fail: (failure: ForwardFailure) => boolean,
  destroy: () => void,
): EndByFault {
  return (error) => {
    onFault(error);
    try {
      if (fail({ type: "error", error })) return;
    } catch (worse) {
      onFault(worse);
    }
    destroy();
  };
}

/** Of everything that listens to this, now and later. */
export function contain(emitter: EventEmitter, end: EndByFault): void {
  const { emit } = emitter;
  emitter.emit = (...told: Parameters<EventEmitter["emit"]>): boolean => {
    try {
      return emit.apply(emitter, told);
    } catch (error) {
      end(error);
      return true;
    }
  };
}

/** What is called by a timer or when an answer has come, and not by an event. */
export function contained<Args extends readonly unknown[]>(
  callback: (...args: Args) => void,
  end: EndByFault,
): (...args: Args) => void {
  return (...args) => {
    try {
      callback(...args);
    } catch (error) {
      end(error);
    }
  };
}
