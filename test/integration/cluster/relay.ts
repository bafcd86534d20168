/**
 * Relay: a TCP relay between two parts of a cluster that can delay, hold back or cut what passes.
 *
 * The order of bytes never changes. Only bytes from the target are delayed or held.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export type Relay = Readonly<{
  port: number;
  /** Sets the targets of new connections, used in turn. */
  setTargets(targets: readonly number[]): void;
  /** From now on delays what the target sends. */
  delay(ms: number): void;
  /** Buffers what the target sends, until `release`. @returns a function that returns how many bytes are buffered */
  hold(): () => number;
  release(): void;
  /**
   * Forwards nothing in either direction, until `thaw`: connections stay open, new ones are accepted and not served.
   */
  freeze(): void;
  thaw(): void;
  /** Breaks every connection and refuses new ones, until `restore`. */
  cut(): void;
  restore(): void;
  close(): Promise<void>;
}>;

type Connection = { down: Socket; up: Socket | undefined; buffered: Buffer[]; timers: Set<NodeJS.Timeout> };

export async function startRelay(options: Readonly<{ targets: readonly number[]; port?: number }>): Promise<Relay> {
  const pairs = new Set<Connection>();
  let { targets } = options;
  let nextTarget = 0;
  let delayMs = 0;
  let mode: "open" | "holding" | "frozen" | "cut" = "open";

  function flush(pair: Connection): void {
    for (const chunk of pair.buffered.splice(0)) pair.down.write(chunk);
  }

  function connectUp(pair: Connection): void {
    const port = targets[nextTarget++ % Math.max(1, targets.length)];
    if (port === undefined) return void pair.down.destroy();
    const up = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    pair.up = up;
    pair.down.pipe(up);
    up.on("data", (chunk: Buffer) => {
      if (delayMs > 0) {
        const timer = setTimeout(() => {
          pair.timers.delete(timer);
          pass(chunk);
        }, delayMs);
        pair.timers.add(timer);
      } else pass(chunk);
    });
    const pass = (chunk: Buffer): void => {
      if (mode === "holding" || mode === "frozen" || pair.buffered.length > 0) pair.buffered.push(chunk);
      else pair.down.write(chunk);
    };
    up.on("end", () => pair.down.end());
    up.on("error", () => pair.down.destroy());
    up.on("close", () => pair.down.destroy());
  }

  const server = createServer({ noDelay: true, allowHalfOpen: true, pauseOnConnect: true }, (down) => {
    if (mode === "cut") return void down.destroy();
    const pair: Connection = { down, up: undefined, buffered: [], timers: new Set() };
    pairs.add(pair);
    down.on("error", () => down.destroy());
    down.on("close", () => {
      pairs.delete(pair);
      for (const timer of pair.timers) clearTimeout(timer);
      pair.up?.destroy();
    });
    if (mode !== "frozen") {
      connectUp(pair);
      down.resume();
    }
  });
  server.listen(options.port ?? 0, "127.0.0.1");
  await once(server, "listening");

  return {
    port: (server.address() as AddressInfo).port,
    setTargets(next) {
      targets = next;
    },
    delay(ms) {
      delayMs = ms;
    },
    hold() {
      mode = "holding";
      return () =>
        [...pairs].reduce((sum, pair) => sum + pair.buffered.reduce((bytes, each) => bytes + each.length, 0), 0);
    },
    release() {
      mode = "open";
      for (const pair of pairs) flush(pair);
    },
    freeze() {
      mode = "frozen";
      for (const { down, up } of pairs) if (up !== undefined) down.unpipe(up).pause();
    },
    thaw() {
      mode = "open";
      for (const pair of pairs) {
        if (pair.up === undefined) connectUp(pair);
        else pair.down.pipe(pair.up);
        pair.down.resume();
        flush(pair);
      }
    },
    cut() {
      mode = "cut";
      for (const { down } of pairs) down.destroy();
    },
    restore() {
      mode = "open";
    },
    async close() {
      for (const { down } of pairs) down.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
