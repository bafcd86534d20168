/** User lists: people by number, each with the first and the last of a list of records, and texts by number. Pure. */
import type { UserId } from "./brand.ts";
import { grown } from "./byte-arena.ts";
import { ownText } from "./own-text.ts";
import { none } from "./record-table.ts";

/** People by number, each with a list of records. A person without a record is forgotten. */
export class UserLists {
  readonly #numbers = new Map<UserId, number>();
  readonly #ids: (UserId | undefined)[] = [];
  readonly #free: number[] = [];
  #first = new Uint32Array(1024);
  #last = new Uint32Array(1024);

  find(userId: UserId): number {
    return this.#numbers.get(userId) ?? none;
  }

  numberOf(userId: UserId): number {
    return this.#numbers.get(userId) ?? this.#add(ownText(userId));
  }

  /** @param userId no slice of a longer text, which would be held as long */
  numberOfOwn(userId: UserId): number {
    return this.#numbers.get(userId) ?? this.#add(userId);
  }

  #add(own: UserId): number {
    const user = this.#free.pop() ?? this.#ids.length;
    if (user === this.#first.length) {
      this.#first = grown(this.#first);
      this.#last = grown(this.#last);
    }
    this.#ids[user] = own;
    this.#first[user] = none;
    this.#last[user] = none;
    this.#numbers.set(own, user);
    return user;
  }

  idOf(user: number): UserId {
    return this.#ids[user] ?? ("" as UserId);
  }
  first(user: number): number {
    return this.#first[user] ?? none;
  }
  last(user: number): number {
    return this.#last[user] ?? none;
  }

  added(user: number, record: number): void {
    if (this.#first[user] === none) this.#first[user] = record;
    this.#last[user] = record;
  }

  removed(
    user: number,
    { record, previous, next }: Readonly<{ record: number; previous: number; next: number }>,
  ): void {
    if (this.#first[user] === record) this.#first[user] = next;
    if (this.#last[user] === record) this.#last[user] = previous;
    if (this.#first[user] !== none) return;
    this.#numbers.delete(this.idOf(user));
    this.#ids[user] = undefined;
    this.#free.push(user);
  }
}

/** A few texts that come again and again. */
export class Interned {
  readonly #numbers = new Map<string, number>();
  readonly #texts: string[] = [];

  numberOf(text: string): number {
    const known = this.#numbers.get(text);
    if (known !== undefined) return known;
    const own = ownText(text);
    this.#texts.push(own);
    this.#numbers.set(own, this.#texts.length - 1);
    return this.#texts.length - 1;
  }

  textOf(number: number): string {
    return this.#texts[number] ?? "";
  }
}
