/**
 * Command table: a map by command id, for ids that are new each time. Pure.
 *
 * - A `Map` interns each text that it looks up: it copies an id of a new command to the old generation of the heap.
 *   This table has a map by a hash of the id, and each value names its own id.
 * - A value whose hash belongs to another one is in a map by its id. So ids that were chosen to collide cost what they
 *   would cost without hashes.
 */
import type { CommandId } from "../../events/index.ts";

/** The characters of an id that are hashed, from its end: the random ones of a UUID. */
const hashedMax = 12;

export function hashCommandId(id: CommandId): number {
  let hash = 0;
  for (let n = Math.max(0, id.length - hashedMax); n < id.length; n += 1)
    hash = Math.imul(hash ^ id.charCodeAt(n), 0x0100_0193);
  return hash;
}

export class CommandTable<Value extends object> {
  readonly #idOf: (value: Value) => CommandId;
  readonly #byHash = new Map<number, Value>();
  /** Null: no two values have had one hash. */
  #others: Map<CommandId, Value> | null = null;

  constructor(idOf: (value: Value) => CommandId) {
    this.#idOf = idOf;
  }

  get size(): number {
    return this.#byHash.size + (this.#others?.size ?? 0);
  }

  /** @param hash of this id, as in the other calls */
  get(id: CommandId, hash = hashCommandId(id)): Value | undefined {
    const found = this.#byHash.get(hash);
    return found !== undefined && this.#idOf(found) === id ? found : this.#others?.get(id);
  }

  /** Sets the value of the id that it names. */
  set(value: Value, hash = hashCommandId(this.#idOf(value))): void {
    const id = this.#idOf(value);
    const found = this.#byHash.get(hash);
    const isOther = this.#others?.has(id) === true;
    if (!isOther && (found === undefined || this.#idOf(found) === id)) {
      this.#byHash.set(hash, value);
      return;
    }
    this.#others ??= new Map();
    this.#others.set(id, value);
  }

  delete(id: CommandId, hash = hashCommandId(id)): void {
    const found = this.#byHash.get(hash);
    if (found !== undefined && this.#idOf(found) === id) this.#byHash.delete(hash);
    else this.#others?.delete(id);
  }

  *values(): Generator<Value> {
    yield* this.#byHash.values();
    if (this.#others !== null) yield* this.#others.values();
  }

  clear(): void {
    this.#byHash.clear();
    this.#others = null;
  }
}

/** Keeps the newest values: between `max` and twice as many. */
export class RecentCommands<Value extends object> {
  readonly #max: number;
  readonly #idOf: (value: Value) => CommandId;
  #young: CommandTable<Value>;
  #old: CommandTable<Value>;

  constructor(max: number, idOf: (value: Value) => CommandId) {
    this.#max = max;
    this.#idOf = idOf;
    this.#young = new CommandTable(idOf);
    this.#old = new CommandTable(idOf);
  }

  get(id: CommandId, hash = hashCommandId(id)): Value | undefined {
    return this.#young.get(id, hash) ?? this.#old.get(id, hash);
  }

  set(value: Value, hash = hashCommandId(this.#idOf(value))): void {
    if (this.#young.size >= this.#max) {
      this.#old = this.#young;
      this.#young = new CommandTable(this.#idOf);
    }
    this.#young.set(value, hash);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
  }
}
