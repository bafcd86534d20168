/**
 * Changed people: the users that an index has to read again, read in small steps so that requests are not held up.
 *
 * - `settled` resolves once every marked user has been read.
 * - A user who cannot be read is reported; the others are read.
 */
import type { UserId } from "../../../events/index.ts";

const stepPeople = 200;

export class ChangedPeople {
  readonly #read: (userId: UserId) => void;
  readonly #pause: () => Promise<void>;
  readonly #onError: (userId: UserId, error: unknown) => void;
  readonly #changed = new Set<UserId>();
  #draining: Promise<void> | undefined;

  /** @param parts.pause lets other work go first */
  constructor(
    parts: Readonly<{
      read: (userId: UserId) => void;
      pause: () => Promise<void>;
      onError: (userId: UserId, error: unknown) => void;
    }>,
  ) {
    this.#read = parts.read;
    this.#pause = parts.pause;
    this.#onError = parts.onError;
  }

  get isEmpty(): boolean {
    return this.#changed.size === 0;
  }

  mark(userId: UserId): void {
    this.#changed.add(userId);
  }

  clear(): void {
    this.#changed.clear();
  }

  settled(): Promise<void> {
    if (this.#changed.size === 0) return this.#draining ?? Promise.resolve();
    this.#draining ??= this.#drain().finally(() => {
      this.#draining = undefined;
    });
    return this.#draining;
  }

  async #drain(): Promise<void> {
    while (this.#changed.size > 0) {
      const some: UserId[] = [];
      for (const userId of this.#changed) {
        some.push(userId);
        if (some.length >= stepPeople) break;
      }
      for (const userId of some) {
        this.#changed.delete(userId);
        try {
          this.#read(userId);
        } catch (error) {
          this.#onError(userId, error);
        }
      }
      if (this.#changed.size > 0) await this.#pause();
    }
  }
}
