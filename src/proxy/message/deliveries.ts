/** Deliveries: ends of responses and requests that this process has written and the kernel may still hold. Pure. */

/**
 * A cut in progress. It calls one of the two, once: no further byte can leave, or that is unknown. A promise is one.
 */
export type PendingCut = Readonly<{ then(done: () => void, failed: (error: unknown) => void): unknown }>;

/** The end of a response, or of a request on its way to an upstream, that may still be in the kernel's send queue. */
export type SocketDelivery = Readonly<{
  /**
   * None of it can leave any more: the caller's kernel has all of it, the upstream was sent all of it, or the
   * connection is gone.
   */
  isDone(): boolean;
  /** Done, or a short wait is over: most callers acknowledge within a round trip. */
  waitBriefly(): PendingCut;
  /** Discards it, with the connection, unless it is done. */
  reset(): void;
  /** An older response that this one replaced is not done. */
  hasUndeliveredOlder(): boolean;
}>;

/** Combines several deliveries. */
export function combineDeliveries(deliveries: readonly SocketDelivery[]): SocketDelivery {
  const then: PendingCut["then"] = (done, failed) => waitForAll(deliveries, done, failed);
  return {
    isDone: () => deliveries.every((one) => one.isDone()),
    waitBriefly: () => ({ then }),
    reset() {
      for (const one of deliveries) one.reset();
    },
    hasUndeliveredOlder: () => deliveries.some((one) => one.hasUndeliveredOlder()),
  };
}

/** Calls one of the two, once. */
function waitForAll(all: readonly SocketDelivery[], done: () => void, failed: (error: unknown) => void): void {
  let left = all.length;
  const onDone = (): void => {
    left -= 1;
    if (left === 0) done();
  };
  const onFailed = (error: unknown): void => {
    if (left > 0) failed(error);
    left = 0;
  };
  for (const one of all) one.waitBriefly().then(onDone, onFailed);
}

/** Other requests share the connection, so it gets a short wait to send what it holds. */
export function resetAfterWait(delivery: SocketDelivery): PendingCut {
  const then: PendingCut["then"] = (done, failed) =>
    delivery.waitBriefly().then(() => {
      try {
        delivery.reset();
      } catch (error) {
        failed(error);
        return;
      }
      done();
    }, failed);
  return { then };
}

/** When a flush began, monotonic milliseconds. */
export type FlushTime = Readonly<{ now: number }>;

/** An exchange, as the connection that carries its response sees it. */
export interface ExchangeHandle {
  /** @returns false: what was collected of the response must not leave */
  mayFlush(flush: FlushTime): boolean;
  /** Names the connection that carries the response. */
  setOutlet(outlet: Outlet): void;
  /** Makes this response stand for an older one of the same connection. @returns false: it cannot */
  standInFor(older: ExchangeHandle): boolean;
  /** @returns whether it has left the registry */
  leaveIfDelivered(): boolean;
}

/** A connection, as the exchanges see it whose responses it carries. */
export type Outlet = Readonly<{
  /** @returns undefined: nothing of the response can be in the kernel's send queue */
  deliver(exchange: ExchangeHandle): SocketDelivery | undefined;
}>;
