/**
 * More than a thousand live streams of a hundred users: a user that leaves a group loses exactly the streams that the
 * group permitted. chaos/live-cut.ts repeats it with 10,000.
 */
import { test } from "node:test";
import { cutAmong, leaseEnds, lifetimeEnds } from "./live/check.ts";

test("removing one user from one group closes exactly that user's streams on its routes, each with its protocol's reason", () =>
  cutAmong(1_600));

test("the end of the lease closes every stream of a route that denies without one, and no more messages are forwarded", () =>
  leaseEnds());

test("max_stream_lifetime closes every stream of a node that has lost its brokers", () => lifetimeEnds());
