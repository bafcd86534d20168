/**
 * Deliveries: ends of responses and requests that this process has written, and that the kernel may still hold. Pure.
 */

/** A cut that takes time. It calls one of the two, once: no further byte can leave, or it cannot be known. A promise is one. */
export type CutUnderWay = Readonly<{ then(done: () => void, failed: (error: unknown) => void): unknown }>;

/** The end of a response, or of a request on its way to an upstream, that may still be in the kernel's send queue. */
export type Delivery = Readonly<{
  /** None of it can leave any more: the caller's kernel has all of it, the upstream was sent all of it, or the connection is gone. */
  isDone(): boolean;
  /** Done, or a short wait is over: most callers acknowledge within a round trip. */
  soon(): CutUnderWay;
  /** Discards it, with the connection, unless it is done. */
  reset(): void;
  /** An older response that this one stands for is not done. */
  holdsOlder(): boolean;
}>;

/** Several ends as one. */
export function together(all: readonly Delivery[]): Delivery {
  const then: CutUnderWay["then"] = (done, failed) => whenAllSoon(all, done, failed);
  return {
    isDone: () => all.every((one) => one.isDone()),
    soon: () => ({ then }),
    reset() {
      for (const one of all) one.reset();
    },
    holdsOlder: () => all.some((one) => one.holdsOlder()),
  };
}

/** Calls one of the two, once. */
function whenAllSoon(all: readonly Delivery[], done: () => void, failed: (error: unknown) => void): void {
  let left = all.length;
  const onDone = (): void => {
    left -= 1;
    if (left === 0) done();
  };
  const onFailed = (error: unknown): void => {
    if (left > 0) failed(error);
    left = 0;
  };
  for (const one of all) one.soon().then(onDone, onFailed);
}

/** Others share the connection, so it has a moment for what it holds. */
export function resetSoon(unsent: Delivery): CutUnderWay {
  const then: CutUnderWay["then"] = (done, failed) =>
    unsent.soon().then(() => {
      try {
        unsent.reset();
      } catch (error) {
        failed(error);
        return;
      }
      done();
    }, failed);
  return { then };
}
