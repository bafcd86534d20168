/**
 * Naming rules of src: unique exported types, functions named by a verb, and no retired name. Counts may only fall
 * (recorded/).
 */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertRatchet, type Finding, numberedLines } from "./support/ratchet.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const sources = globSync("src/**/*.ts", { cwd: root }).sort();

/** Type names that may repeat in different packages. */
const repeatable = new Set(["Options", "Input", "Effect"]);
/** Functions that may have a name of one word. */
const oneWord = new Set(
  "step decide encode decode evolve explain genesis unreachable seal open sign verify parse format lift lower suggest redact upgrade parity html".split(
    " ",
  ),
);
const participles = /^(told|asked|made|kept|found|known|held|seen|taken)([A-Z]|$)/;
/** Names that terms of the field have replaced; docs/protocol.md has the glossary. */
const retired = new RegExp(
  `\\b(${[
    "Bell Tidings Neighbours Speakers Inbox FirstAnswers? Terms SeatWatch LeaseDesk ReceiptDesk Ledger LedgerKeeper newHandBack weightOf",
    "ReceiptOffice SnapshotOffice SnapshotShelf seatChanged isHopeless Earned VoidReason stoodStill olderBy Trail sharesPlace Stretch LogLoop",
    "LeaseSide LeaseTalk LocalCopy KeptDenials stickilyDenied ReadPace Visit leadTo tellEnds DecisionDesk takeOver ProxyPorts WhoAsks askingIn",
    "holderOf RoutePlan answerFor ExchangeTerms Http1Exchange Http2Exchange endByFault atTurnEnd mayLeave KeptBody fateOf letGo giveAway",
    "Beside sideOf withoutFacts createBox FairPlaces handOver rememberHere sayReasons Lane Journal sayEvent wholeNumber placeOf ownText FactPlaces",
    "SessionStanding carryOut tellOutcome accomplice",
  ]
    .join(" ")
    .replaceAll(" ", "|")})\\b`,
);

test("the name of an exported type is unique in src", () => {
  const declared = findIn(/^export (?:type|interface|class) (\w+)/);
  const counts = new Map<string, number>();
  for (const { text } of declared) counts.set(text, (counts.get(text) ?? 0) + 1);
  assertRatchet(
    "repeated-types",
    declared.filter(({ text }) => (counts.get(text) ?? 0) > 1 && !repeatable.has(text)),
  );
});

test("an exported function is named by a verb and its object, not by a participle", () => {
  assertRatchet(
    "unclear-functions",
    findIn(/^export (?:async )?function (\w+)/).filter(
      ({ text }) => participles.test(text) || (/^[a-z]+$/.test(text) && !oneWord.has(text)),
    ),
  );
});

test("no retired name is used", () => {
  assertRatchet("retired-names", findIn(retired));
});

function findIn(pattern: RegExp): Finding[] {
  return sources.flatMap((path) =>
    numberedLines(read(path)).flatMap(([line, text]) => {
      const name = pattern.exec(text)?.[1];
      return name === undefined ? [] : [{ path, line, text: name }];
    }),
  );
}
