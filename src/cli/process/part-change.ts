/**
 * Part change: the parts of one process of which a single one runs. The next part starts once the former has stopped,
 * because both use the same files and connections.
 *
 * - A part that does not stop is named in the log until it does. The process has no part then, and is not ready.
 * - If a part cannot start, the process has none, and the caller changes again.
 */
import type { Logger } from "../../replication/index.ts";

export type StoppablePart = Readonly<{ stop(): Promise<void> }>;

const slowStopMs = 5_000;

export class PartChange<Role extends string, Part extends StoppablePart> {
  readonly #start: (role: Role) => Promise<Part>;
  readonly #logger: Logger;
  #current: Readonly<{ role: Role; part: Part }> | null = null;
  #stopping: Promise<void> = Promise.resolve();

  constructor(start: (role: Role) => Promise<Part>, logger: Logger) {
    this.#start = start;
    this.#logger = logger;
  }

  /** Null: the process changes its part. */
  get current(): Readonly<{ role: Role; part: Part }> | null {
    return this.#current;
  }

  /** Not concurrently. @throws the error of the part that starts */
  async change(role: Role): Promise<Part> {
    await this.stop();
    const part = await this.#start(role);
    this.#current = { role, part };
    return part;
  }

  /** Stops the current part, if there is one, and waits for it and for the one before. */
  async stop(): Promise<void> {
    const before = this.#current;
    this.#current = null;
    if (before !== null) this.#stopping = this.#ended(before);
    await this.#stopping;
  }

  async #ended({ role, part }: Readonly<{ role: Role; part: Part }>): Promise<void> {
    const startedAt = performance.now();
    const late = setInterval(() => {
      const waitedMs = Math.round(performance.now() - startedAt);
      this.#logger.error({ role, waitedMs }, "the former part of this broker does not stop; the next one waits for it");
    }, slowStopMs);
    try {
      await part.stop();
    } catch (err) {
      this.#logger.warn({ err, role }, "the former part of this broker did not stop cleanly");
    } finally {
      clearInterval(late);
    }
  }
}
