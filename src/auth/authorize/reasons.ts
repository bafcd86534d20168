/**
 * Reasons: why a rule was met or not, as interned sets of words that are compared by identity.
 *
 * Merging reasons is most of the work of evaluating a policy. The union of two known sets is one map look-up and
 * allocates nothing. A table belongs to one compiled configuration.
 */

/** The words of Pomerium's log and API; docs/pomerium-behaviour.md §6.3. */
export type Reason =
  | "accept"
  | "claim-ok"
  | "claim-unauthorized"
  | "client-certificate-ok"
  | "client-certificate-required"
  | "client-certificate-unauthorized"
  | "cors-request"
  | "date-ok"
  | "date-unauthorized"
  | "day-of-week-ok"
  | "day-of-week-unauthorized"
  | "device-ok"
  | "device-unauthenticated"
  | "device-unauthorized"
  | "domain-ok"
  | "domain-unauthorized"
  | "email-ok"
  | "email-unauthorized"
  /** Ours: with its encoded slashes read as slashes the path would be answered otherwise. */
  | "encoded-separator"
  | "groups-ok"
  | "groups-unauthorized"
  | "http-method-ok"
  | "http-method-unauthorized"
  | "http-path-ok"
  | "http-path-unauthorized"
  | "invalid-client-certificate"
  | "mcp-not-a-tool-call"
  | "mcp-tool-match"
  | "mcp-tool-no-match"
  | "non-cors-request"
  /** Ours: without its path parameters the path would be answered otherwise. */
  | "path-parameters"
  | "record-ok"
  /** Ours: the data set could not be read. */
  | "record-unavailable"
  | "record-unauthorized"
  | "reject"
  /** Ours: the node's region revoked the session or the person by itself; the log does not have that yet. */
  | "revoked-by-region"
  | "route-not-found"
  /** Ours: the session was unused for an idle lifetime. */
  | "session-idle"
  | "source-ip-ok"
  | "source-ip-unauthorized"
  | "ssh-publickey-ok"
  | "ssh-publickey-unauthorized"
  | "ssh-username-ok"
  | "ssh-username-unauthorized"
  | "time-of-day-ok"
  | "time-of-day-unauthorized"
  | "user-ok"
  | "user-unauthenticated"
  | "user-unauthorized"
  | "valid-client-certificate";

/** One side of a decision as its record shows it. */
export type RecordedSide = Readonly<{ met: boolean; reasons: readonly string[] }>;

/** What a criterion or a combination of criteria answers. `recorded`: made once, because each request records it. */
export type PolicyOutcome = Readonly<{ met: boolean; reasons: Reasons; recorded: RecordedSide }>;

/** A set of reasons. `met` and `unmet` are the two outcomes that can carry it. */
export class Reasons {
  /** Sorted, without repeats. */
  readonly words: readonly Reason[];
  readonly met: PolicyOutcome;
  readonly unmet: PolicyOutcome;
  /** The words that decide more than a deny does, looked for once. */
  readonly requiresSignIn: boolean;
  readonly requiresCertificate: boolean;
  readonly requiresDevice: boolean;
  readonly recordsUnavailable: boolean;

  constructor(words: readonly Reason[]) {
    this.words = words;
    this.met = { met: true, reasons: this, recorded: { met: true, reasons: words } };
    this.unmet = { met: false, reasons: this, recorded: { met: false, reasons: words } };
    this.requiresSignIn = words.includes("user-unauthenticated");
    this.requiresCertificate =
      words.includes("client-certificate-required") || words.includes("invalid-client-certificate");
    this.requiresDevice = words.includes("device-unauthenticated");
    this.recordsUnavailable = words.includes("record-unavailable");
  }
}

/** Beyond this many sets and unions new ones are no longer remembered; a generation of policies has a few dozen. */
const setsMax = 10_000;

export class ReasonTable {
  readonly none = new Reasons([]);
  /** What a side without rules says: one and the same for every route. */
  readonly neverMet = (): PolicyOutcome => this.none.unmet;
  /** From a set to the set with one later word more: the path of sorted words from `none` is a set's only home. */
  readonly #extensions = new Map<Reasons, Map<Reason, Reasons>>();
  readonly #unions = new Map<Reasons, Map<Reasons, Reasons>>();
  #storedCount = 0;

  of(...words: Reason[]): Reasons {
    let set = this.none;
    for (const word of [...new Set(words)].sort()) {
      const longer = innerMap(this.#extensions, set);
      set = longer.get(word) ?? this.#store(longer, word, new Reasons([...set.words, word]));
    }
    return set;
  }

  union(a: Reasons, b: Reasons): Reasons {
    if (a === b || b === this.none) return a;
    if (a === this.none) return b;
    const unions = innerMap(this.#unions, a);
    return unions.get(b) ?? this.#store(unions, b, this.of(...a.words, ...b.words));
  }

  #store<Key>(map: Map<Key, Reasons>, key: Key, set: Reasons): Reasons {
    if (this.#storedCount < setsMax) {
      this.#storedCount++;
      map.set(key, set);
    }
    return set;
  }
}

function innerMap<Key>(outer: Map<Reasons, Map<Key, Reasons>>, set: Reasons): Map<Key, Reasons> {
  let map = outer.get(set);
  if (map === undefined) {
    map = new Map();
    outer.set(set, map);
  }
  return map;
}
