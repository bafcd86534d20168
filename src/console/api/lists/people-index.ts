/**
 * People index: the people of the projection by name and by e-mail, with the text that a search reads.
 *
 * It holds names in clear, as the opened profiles do. An erased person leaves it with the event that erases them.
 */
import { parseStream, type UserId } from "../../../events/index.ts";
import { isRecord, profileOfUser } from "../operator-views.ts";
import { type IndexParts, KeptIndex } from "./kept-index.ts";
import { OrderedIds, type Place } from "./ordered-ids.ts";
import { foldText } from "./search-text.ts";

export type PeopleOrder = "name" | "email";
type Entry = Readonly<{ name: string; email: string; subject: string }>;

const nameChars = 200;
const emailChars = 254;
const subjectChars = 200;
const unknownPerson: Entry = { name: "", email: "", subject: "" };

export class PeopleListIndex {
  readonly #parts: IndexParts;
  readonly #index: KeptIndex<UserId>;
  readonly #entries = new Map<UserId, Entry>();
  readonly #byName = new OrderedIds<string, UserId>();
  readonly #byEmail = new OrderedIds<string, UserId>();
  /** People whose profile this node could not open: their keys may arrive later. */
  readonly #unread = new Set<UserId>();

  constructor(parts: IndexParts) {
    this.#parts = parts;
    this.#index = new KeptIndex(parts, {
      *all() {
        for (const { userId } of parts.replica.projection.users()) yield userId;
      },
      touchedBy: ({ touched }) => this.#touchedBy(touched),
      read: (userId) => this.#read(userId),
      clear: () => this.#clear(),
    });
  }

  async settled(): Promise<void> {
    await this.#index.settled();
    for (const userId of [...this.#unread].slice(0, 100)) this.#read(userId);
  }

  get size(): number {
    return this.#entries.size;
  }

  after(order: PeopleOrder, place: Place<string, UserId> | null, isDescending: boolean, count: number) {
    return this.#orderOf(order).after(place, isDescending, count);
  }

  locate(order: PeopleOrder, userId: UserId): Place<string, UserId> {
    return { key: keyOf(order, this.#entries.get(userId) ?? unknownPerson), id: userId };
  }

  /** Whether the person's name, e-mail, subject or id has the text. @param q folded (search-text.ts) */
  matches(userId: UserId, q: string): boolean {
    const entry = this.#entries.get(userId);
    if (entry === undefined) return userId.includes(q);
    const { name, email, subject } = entry;
    return name.includes(q) || email.includes(q) || subject.includes(q) || userId.includes(q);
  }

  people(): IterableIterator<UserId> {
    return this.#entries.keys();
  }

  #orderOf(order: PeopleOrder): OrderedIds<string, UserId> {
    return order === "name" ? this.#byName : this.#byEmail;
  }

  *#touchedBy(touched: ReadonlySet<Parameters<typeof parseStream>[0]>): Generator<UserId> {
    for (const stream of touched) {
      const parsed = parseStream(stream);
      if (parsed.kind !== "user") continue;
      // Personal data leaves at once, not before the next page.
      if (this.#parts.replica.projection.user(parsed.id)?.status === "erased") this.#remove(parsed.id);
      yield parsed.id;
    }
  }

  #read(userId: UserId): void {
    const { replica } = this.#parts;
    const user = replica.projection.user(userId);
    const profile = profileOfUser(replica, userId);
    if (user === undefined || isRecord(replica, userId)) {
      this.#remove(userId);
      return;
    }
    if (user.profile !== null && profile === undefined) this.#unread.add(userId);
    else this.#unread.delete(userId);
    const before = this.#entries.get(userId);
    const entry: Entry = {
      name: foldText(profile?.name ?? "", nameChars),
      email: foldText(profile?.email ?? "", emailChars),
      subject: foldText(profile?.subject ?? "", subjectChars),
    };
    if (before !== undefined && entry.name === before.name && entry.email === before.email) {
      if (entry.subject !== before.subject) this.#entries.set(userId, entry);
      return;
    }
    this.#remove(userId);
    if (user.profile !== null && profile === undefined) this.#unread.add(userId);
    this.#entries.set(userId, entry);
    this.#byName.insert(keyOf("name", entry), userId);
    this.#byEmail.insert(keyOf("email", entry), userId);
  }

  #remove(userId: UserId): void {
    this.#unread.delete(userId);
    const entry = this.#entries.get(userId);
    if (entry === undefined) return;
    this.#entries.delete(userId);
    this.#byName.delete(keyOf("name", entry), userId);
    this.#byEmail.delete(keyOf("email", entry), userId);
  }

  #clear(): void {
    this.#entries.clear();
    this.#unread.clear();
    this.#byName.clear();
    this.#byEmail.clear();
  }
}

/** People without the one have the other; people without both come last. */
function keyOf(order: PeopleOrder, { name, email }: Entry): string {
  const [first, second] = order === "name" ? [name, email] : [email, name];
  return first || second || "\u{10ffff}";
}
