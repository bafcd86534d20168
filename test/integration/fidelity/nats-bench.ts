/**
 * NATS bench: the operations that fidelity scripts perform on NATS, either the simulator's model or a real server.
 *
 * The observations of a connection are one list in its own order: "connected", "disconnected", and the messages.
 */

export type NatsBench = Readonly<{
  /** Resolves once connected: `seen` starts with "connected". `server`: the index of the server to try first. */
  connect: (options?: Readonly<{ server?: number; pausable?: true }>) => Promise<BenchConnection>;
  createStream: () => Promise<void>;
  deleteStream: () => Promise<void>;
  /**
   * The messages in the stream, oldest first.
   * @param last waits for at least this many; a server stores messages published without an acknowledgement a moment
   * later
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
  /**
   * Resolves once the server has everything published here, and every message it had for this connection has arrived.
   */
  flush: () => Promise<void>;
  /** Only for a pausable connection. */
  pause: () => Promise<void>;
  resume: () => Promise<void>;
}>;

export type StartNatsBench = (options: Readonly<{ servers: 1 | 3 }>) => Promise<NatsBench>;

/** Size (bytes) of a message as large as a batch. */
export const bigBytes = 64 * 1024;
