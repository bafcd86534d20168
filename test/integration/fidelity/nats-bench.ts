/**
 * NATS bench: what a script of the fidelity tests may do to NATS, be it the simulator's model or a real server.
 *
 * What a connection has seen is one list in its own order: "connected", "disconnected", and the messages.
 */

export type NatsBench = Readonly<{
  /** Made and told: `seen` begins with "connected". `server`: which one it asks first. */
  connect: (options?: Readonly<{ server?: number; pausable?: true }>) => Promise<BenchConnection>;
  createStream: () => Promise<void>;
  deleteStream: () => Promise<void>;
  /**
   * What the stream holds, oldest first.
   * @param last waits for this many first: a server stores what is published without an answer a moment later
   */
  streamed: (last?: number) => Promise<readonly string[]>;
  kill: (server: number) => Promise<void>;
  start: (server: number) => Promise<void>;
  /** Waits for a condition. */
  until: (what: string, isSo: () => boolean) => Promise<void>;
  dispose: () => Promise<void>;
}>;

export type BenchConnection = Readonly<{
  seen: () => readonly string[];
  publish: (text: string) => void;
  /** "stored 3", "duplicate of 2", "refused, last is 7", "no answer". */
  publishToStream: (text: string, condition?: Readonly<{ id?: string; expectedLast?: number }>) => Promise<string>;
  /** The server has taken everything that was published here, and everything that it had for us is here. */
  flush: () => Promise<void>;
  /** Only of a pausable one. */
  pause: () => Promise<void>;
  resume: () => Promise<void>;
}>;

export type StartNatsBench = (options: Readonly<{ servers: 1 | 3 }>) => Promise<NatsBench>;

/** A message as big as a batch: its number, and nothing that matters. */
export const bigBytes = 64 * 1024;
