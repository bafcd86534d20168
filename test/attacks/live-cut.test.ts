/**
 * A thousand live streams of a hundred people: who leaves a group loses exactly what the group opens. 10,000:
 * chaos/live-cut.ts.
 */
import { test } from "node:test";
import { cutAmong, leaseEnds, lifetimeEnds } from "./live/check.ts";

test("removing one person from one group closes exactly that person's streams on its routes, each in its own words", () =>
  cutAmong(1_600));

test("the end of the lease closes every stream of a route that denies without one, and nothing more is carried", () =>
  leaseEnds());

test("max_stream_lifetime closes every stream while nothing is heard of anybody", () => lifetimeEnds());
