/** Test mutants of the live cut: new decisions, cuts and later checks of exchanges (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

const decideTest = "test/auth/authorize/decide.test.ts";
const decide = "src/auth/authorize/decide.ts";
const exchangesTest = "test/proxy/enforce/exchanges.test.ts";
const exchanges = "src/proxy/enforce/exchanges.ts";
const outletTest = "test/proxy/http1/outlet-socket.test.ts";
const projectionTest = "test/events/projection/projection.test.ts";
const projection = "src/events/projection/projection.ts";
const cutTest = "test/proxy/cut.test.ts";
const whoAsks = "src/proxy/request/identify-caller.ts";

export const liveTestMutants: Readonly<Record<string, TestMutant>> = {
  "expiry-unread": {
    section: 5,
    meaning: "the lookup of a caller finds a session after its expiry",
    test: "test/auth/authorize/caller.test.ts",
    changes: [
      {
        file: "src/auth/authorize/caller.ts",
        take: 'if (session.expiresAt <= now) return anonymous("session-expired", credentialInHeader);',
        put: "void now;",
      },
    ],
  },
  "expiry-undecided": {
    section: 5,
    meaning: "a decision counts a session after its expiry",
    test: decideTest,
    changes: [
      {
        file: decide,
        take: "caller.principal.session.expiresAt > now ? caller.principal : null;",
        put: "now > 0 ? caller.principal : null;",
      },
    ],
  },
  "until-unset": {
    section: 5,
    meaning: "a permit does not end with its session",
    test: decideTest,
    changes: [
      {
        file: decide,
        take: "let until = principal === null ? null : endOf(principal);",
        put: "let until: UnixMs | null = null as UnixMs | null;",
      },
    ],
  },
  "until-unwatched": {
    section: 5,
    meaning: "an exchange continues after time alone has ended its permit",
    test: exchangesTest,
    changes: [
      {
        file: exchanges,
        take: "return this.#until === null || wall < this.#until || this.redecide();",
        put: "return this.#until === null || wall >= 0;",
      },
    ],
  },
  "refresh-untouched": {
    section: 5,
    meaning: "new claims of a session affect nothing that it has open",
    test: projectionTest,
    changes: [
      {
        file: projection,
        take: '        return [sessionStream(event.sessionId)];\n      case "LogoutRecorded":',
        put: '        return event.type === "SessionRefreshed" ? [] : [sessionStream(event.sessionId)];\n      case "LogoutRecorded":',
      },
    ],
  },
  "replaced-untouched": {
    section: 5,
    meaning: "the groups that a refresh replaces affect no open exchange",
    test: projectionTest,
    changes: [
      {
        file: projection,
        take: "new Set(event.groupIds));\n        return [userStream(event.userId)];",
        put: "new Set(event.groupIds));\n        return [];",
      },
    ],
  },
  "rebuilt-not-redecided": {
    section: 5,
    meaning: "open exchanges are not decided again when another projection replaces the one that permitted them",
    test: exchangesTest,
    changes: [
      {
        file: exchanges,
        take: "if (change.rebuilt) this.redecideAll(settled);",
        put: "if (change.rebuilt) settled(null);",
      },
    ],
  },
  "file-not-enforced": {
    section: 3,
    meaning: "a new configuration takes effect without a new decision about open exchanges",
    test: exchangesTest,
    changes: [
      {
        file: exchanges,
        take: "this.#redecide([...this.#all.items(), ...this.#delivering.items()], settled);",
        put: "this.#redecide([], settled);",
      },
    ],
  },
  "older-answer-ignored": {
    section: 5,
    meaning: "a change spares a connection though an older answer, represented by a newer one, is not delivered",
    test: outletTest,
    changes: [
      {
        file: exchanges,
        take: 'if (this.#redecideNow() && delivery.hasUndeliveredOlder()) this.cut("not-permitted");',
        put: "this.#redecideNow();",
      },
    ],
  },
  "older-answer-taken-early": {
    section: 5,
    meaning: "an answer represents an older one for which a change is being enforced",
    test: outletTest,
    changes: [{ file: exchanges, take: "older.#redeciding > 0 || older.cutReason", put: "older.cutReason" }],
  },
  "older-answer-of-others": {
    section: 5,
    meaning: "an answer represents an older one of other facts on its connection",
    test: outletTest,
    changes: [
      { file: exchanges, take: " || !sameFacts(older.#reads, this.#reads)) return false;", put: ") return false;" },
    ],
  },
  "older-answer-outlived": {
    section: 5,
    meaning: "an answer that represents an older one does not end when time ends the older one's right",
    test: outletTest,
    changes: [
      {
        file: exchanges,
        take: "if (older.#until !== null) this.#until = Math.min(this.#until ?? Infinity, older.#until) as UnixMs;",
        put: "",
      },
    ],
  },
  "upload-left-behind": {
    section: 5,
    meaning: "an exchange leaves while a connection to an upstream has unsent bytes of its request",
    test: outletTest,
    changes: [
      {
        file: exchanges,
        take: "if (this.#unsent === nothing) return answer;",
        put: "if (this.kind !== undefined) return answer;",
      },
    ],
  },
  "upload-uncut": {
    section: 5,
    meaning: "a cut forgets a connection to an upstream that has unsent bytes of the request",
    test: outletTest,
    changes: [
      {
        file: exchanges,
        take: "if (!unsent.isDone()) this.#registry.trackCut(resetAfterWait(unsent));",
        put: "void unsent, resetSoon;",
      },
    ],
  },
  "earlier-route-ignored": {
    section: 3,
    meaning: "an open exchange is decided by its own route alone, though another route precedes it now",
    test: "test/proxy/routing/compiled-route.test.ts",
    changes: [
      {
        file: "src/proxy/routing/compiled-route.ts",
        take: "return same === undefined ? [] : [compiledRouteOf(found), compiledRouteOf(same)];",
        put: "return same === undefined ? [] : [compiledRouteOf(same)];",
      },
    ],
  },
  "sticky-unread": {
    section: 6,
    meaning: "the lookup of a caller ignores the denials that a node keeps of a lost history",
    test: cutTest,
    changes: [
      {
        file: whoAsks,
        take: "const denied = replica.isDeniedLocally(session) || replica.isDeniedLocally(user);",
        put: "const denied = replica.isDeniedLocally(session) && session === user;",
      },
    ],
  },
  "terms-kept": {
    section: 3,
    meaning: "an exchange keeps the grace of the configuration that permitted it",
    test: exchangesTest,
    changes: [{ file: exchanges, take: "if (verdict.limits !== undefined) this.#grant(verdict.limits);", put: "" }],
  },
  "sticky-person-unread": {
    section: 6,
    meaning: "the lookup ignores a person's denial that a node keeps of a lost history",
    test: cutTest,
    changes: [
      {
        file: whoAsks,
        take: "const denied = replica.isDeniedLocally(session) || replica.isDeniedLocally(user);",
        put: "const denied = replica.isDeniedLocally(session) && user !== session;",
      },
    ],
  },
  "cut-not-final": {
    section: 5,
    meaning: "an exchange that is being cut is decided again, and may continue",
    test: exchangesTest,
    changes: [
      {
        file: exchanges,
        take: "    if (this.cutReason !== undefined) return false;\n    const { clock, freshness }",
        put: "    const { clock, freshness }",
      },
    ],
  },
};
