/** Criteria on time: when they hold, in which zone, and until when a decision is valid. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decide } from "../../../../src/auth/authorize/decide.ts";
import type { UnixMs } from "../../../../src/events/index.ts";
import { anonymous, compiled, decideOn, outcomeOf, request, route, source, summaryOf } from "../support.ts";

const at = (text: string): number => Temporal.Instant.from(text).epochMilliseconds;

type Case = readonly [criterion: object, moment: string, holds: boolean];
const cases: readonly Case[] = [
  [{ date: { after: "2026-01-02T16:20:00" } }, "2026-01-02T16:20:00Z", false],
  [{ date: { after: "2026-01-02T16:20:00" } }, "2026-01-02T16:20:00.001Z", true],
  [{ date: { before: "2026-01-02T16:20:00" } }, "2026-01-02T16:19:59.999Z", true],
  [{ date: { before: "2026-01-02T16:20:00" } }, "2026-01-02T16:20:00Z", false],
  [{ date: { after: "2026-01-02", before: "2026-01-03" } }, "2026-01-02T12:00:00Z", true],
  [{ date: { after: "2026-01-02", before: "2026-01-03" } }, "2026-01-03T12:00:00Z", false],
  [{ date: { after: "2026-01-02T12:00:00+02:00" } }, "2026-01-02T10:30:00Z", true],
  [{ date: { after: "2026-01-02T12:00:00+02:00" } }, "2026-01-02T09:30:00Z", false],
  [{ date: { after: "2026-07-02T12:00", timezone: "Europe/Berlin" } }, "2026-07-02T10:30:00Z", true],
  [{ date: { after: "2026-07-02T12:00", timezone: "Europe/Berlin" } }, "2026-07-02T09:30:00Z", false],
  [{ date: { after: "2026-01-02T12:00:00.0005Z" } }, "2026-01-02T12:00:00Z", false],
  [{ date: { after: "2026-01-02T12:00:00.0005Z" } }, "2026-01-02T12:00:00.001Z", true],
  [{ date: { before: "2026-01-02T12:00:00.0005Z" } }, "2026-01-02T12:00:00Z", true],
  // 2026-11-26 is a Thursday.
  [{ day_of_week: "*" }, "2026-11-26T12:00:00Z", true],
  [{ day_of_week: "thu" }, "2026-11-26T00:00:00Z", true],
  [{ day_of_week: "Thursday" }, "2026-11-26T23:59:59.999Z", true],
  [{ day_of_week: "thu" }, "2026-11-27T00:00:00Z", false],
  [{ day_of_week: "mon,wed" }, "2026-11-26T12:00:00Z", false],
  [{ day_of_week: "tue-fri" }, "2026-11-26T12:00:00Z", true],
  [{ day_of_week: "fri-mon" }, "2026-11-26T12:00:00Z", false],
  [{ day_of_week: "fri-mon" }, "2026-11-29T12:00:00Z", true],
  [{ day_of_week: "mon, wed-thu" }, "2026-11-26T12:00:00Z", true],
  [{ day_of_week: { days: "fri", timezone: "Asia/Tokyo" } }, "2026-11-26T16:00:00Z", true],
  [{ day_of_week: { days: "thu", timezone: "Asia/Tokyo" } }, "2026-11-26T16:00:00Z", false],
  [{ time_of_day: { timezone: "UTC", after: "2:20:00", before: "4:30PM" } }, "2026-11-26T02:20:00Z", false],
  [{ time_of_day: { timezone: "UTC", after: "2:20:00", before: "4:30PM" } }, "2026-11-26T02:20:00.001Z", true],
  [{ time_of_day: { timezone: "UTC", after: "2:20:00", before: "4:30PM" } }, "2026-11-26T16:29:59.999Z", true],
  [{ time_of_day: { timezone: "UTC", after: "2:20:00", before: "4:30PM" } }, "2026-11-26T16:30:00Z", false],
  [{ time_of_day: { timezone: "UTC", after: "12 AM" } }, "2026-11-26T00:00:01Z", true],
  [{ time_of_day: { timezone: "UTC", before: "12PM" } }, "2026-11-26T12:00:00Z", false],
  [{ time_of_day: { timezone: "UTC", before: "12:30 pm" } }, "2026-11-26T12:29:00Z", true],
  [{ time_of_day: { timezone: "UTC", before: "15:04:05.999999999" } }, "2026-11-26T15:04:05.999Z", true],
  [{ time_of_day: { timezone: "UTC", before: "15:04:05.999999999" } }, "2026-11-26T15:04:06Z", false],
  [{ time_of_day: { timezone: "America/New_York", after: "17:00" } }, "2026-07-01T21:30:00Z", true],
  [{ time_of_day: { timezone: "America/New_York", after: "17:00" } }, "2026-12-01T21:30:00Z", false],
  [{ time_of_day: { timezone: "Brazil/East", after: "17:00" } }, "2026-07-01T20:30:00Z", true],
  // A night needs two criteria, because a day ends at midnight.
  [{ time_of_day: { timezone: "UTC", after: "22:00", before: "6:00" } }, "2026-11-26T23:00:00Z", false],
];
for (const [criterion, moment, holds] of cases) {
  test(`${JSON.stringify(criterion)} ${holds ? "holds" : "does not hold"} at ${moment}`, () => {
    const [name = ""] = Object.keys(criterion);
    const word = `${name.replaceAll("_", "-")}-${holds ? "ok" : "unauthorized"}`;
    assert.equal(
      outcomeOf({ allow: { and: [criterion] } }, null, {}, at(moment)),
      holds ? `permit ${word}` : `deny 403 ${word}`,
    );
  });
}

test("a decision states until when it is valid, and it changes exactly then", () => {
  const stories: readonly (readonly [object, string, readonly string[]])[] = [
    [
      { date: { after: "2026-03-01", before: "2026-04-01" } },
      "2026-02-01T00:00:00Z",
      ["2026-03-01T00:00:00.001Z", "2026-04-01T00:00:00Z"],
    ],
    [{ day_of_week: "sat-sun" }, "2026-11-26T12:00:00Z", ["2026-11-28T00:00:00Z", "2026-11-30T00:00:00Z"]],
    [
      { time_of_day: { timezone: "Europe/Berlin", after: "9:00", before: "17:00" } },
      "2026-10-24T12:00:00Z",
      // Daylight saving time ends in the night to the 25th.
      ["2026-10-24T15:00:00Z", "2026-10-25T08:00:00.001Z", "2026-10-25T16:00:00Z"],
    ],
    // 2:30 occurs twice, at 00:30 and at 01:30 UTC.
    [
      { time_of_day: { timezone: "Europe/Berlin", after: "2:30" } },
      "2026-10-24T22:30:00Z",
      ["2026-10-25T00:30:00.001Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00.001Z", "2026-10-25T23:00:00Z"],
    ],
    // 2:30 does not occur: the clock goes from 2:00 to 3:00.
    [
      { time_of_day: { timezone: "Europe/Berlin", after: "2:30" } },
      "2026-03-29T00:30:00Z",
      ["2026-03-29T01:00:00Z", "2026-03-29T22:00:00Z"],
    ],
  ];
  for (const [criterion, start, changes] of stories) {
    const policy = source({ allow: { and: [criterion] } });
    const seen: string[] = [];
    let moment = at(start);
    let before = summaryOf(decideOn({ policy }, null, {}, { at: moment }));
    while (seen.length < changes.length) {
      const { until } = decideOn({ policy }, null, {}, { at: moment });
      assert(until !== null && until > moment);
      assert.equal(
        summaryOf(decideOn({ policy }, null, {}, { at: until - 1 })),
        before,
        "nothing changes before the stated time",
      );
      moment = until;
      const after = summaryOf(decideOn({ policy }, null, {}, { at: moment }));
      if (after !== before) seen.push(Temporal.Instant.fromEpochMilliseconds(moment).toString());
      before = after;
    }
    assert.deepEqual(seen, changes, JSON.stringify(criterion));
  }
});

test("one compiled policy decides for any moment, in any order", () => {
  const time = { time_of_day: { timezone: "Europe/Berlin", after: "9:00", before: "17:00" } };
  const policies = compiled(route({ policy: source({ allow: { and: [time, { day_of_week: "mon-fri" }] } }) }));
  const decideOn = (moment: string): string =>
    decide({ policies, routeId: "r", caller: anonymous, request: request(), now: at(moment) as UnixMs }).type;
  const moments = [
    ["2026-11-26T12:00:00Z", "permit"],
    ["2026-11-26T12:00:01Z", "permit"],
    ["2026-11-26T16:00:00Z", "deny"],
    ["2026-11-26T15:59:59Z", "permit"],
    ["2026-11-28T12:00:00Z", "deny"],
    ["2026-11-26T07:00:00Z", "deny"],
    ["2026-11-26T12:00:00Z", "permit"],
    ["2027-11-26T12:00:00Z", "permit"],
  ] as const;
  for (const [moment, expect] of moments) assert.equal(decideOn(moment), expect, moment);
});

test("an expired criterion never changes again, and a session's expiry precedes a later bound", () => {
  const on = { policy: source({ allow: { and: [{ date: { before: "2026-01-01" } }, { authenticated_user: true }] } }) };
  assert.equal(decideOn(on, null, {}, { at: at("2026-06-01T00:00:00Z") }).until, null);
  const noon = at("2025-06-01T12:00:00Z");
  assert.equal(decideOn(on, { expiresAt: noon + 5 }, {}, { at: noon }).until, noon + 5);
  assert.equal(
    decideOn(on, { expiresAt: at("2027-01-01T00:00:00Z") }, {}, { at: noon }).until,
    at("2026-01-01T00:00:00Z"),
  );
});
