import assert from "node:assert/strict";
import { test } from "node:test";
import { DirectoryError } from "../../../../src/auth/directory/directory-error.ts";
import { type Listing, readListing } from "../../../../src/auth/directory/sources/shared/listing.ts";
import {
  addressOf,
  linkInHeader,
  pathPart,
  relativeLink,
} from "../../../../src/auth/directory/sources/shared/page-links.ts";
import { rejectsWith } from "../rejects-with.ts";

const signal = (): AbortSignal => AbortSignal.timeout(30_000);
const nothing: Listing = {
  begin: async () => "",
  people: async () => ({ people: [], next: null }),
  groups: async () => ({ groups: [], toRead: [], next: null }),
  members: async () => ({ people: [], groups: [], next: null }),
  end: () => null,
};
const read = (listing: Partial<Listing>, cursor: string | null) =>
  readListing({ ...nothing, ...listing }, { since: null, cursor, signal: signal() });

test("a list that names its present page as the next one is refused", async () => {
  const people: Listing["people"] = async () => ({ people: [], next: "users?page=2" });
  const first = await read({ people }, null);
  await rejectsWith(read({ people }, first.next), "malformed", /without end/);
});

test("a list of ever new pages is refused once the run has had its share", async () => {
  const people: Listing["people"] = async (link) => ({
    people: [],
    next: `users?page=${Number(link?.slice(11) ?? 0) + 1}`,
  });
  const first = await read({ people }, null);
  const last = JSON.stringify({ ...JSON.parse(first.next ?? ""), pages: 100_000 });
  await rejectsWith(read({ people }, last), "malformed", /more than 100000 pages/);
});

test("links and ids that do not fit into a cursor are refused", async () => {
  const long = (n: number): string => `${n}`.padEnd(256, "x");
  const groups: Listing["groups"] = async () => ({
    groups: [],
    toRead: Array.from({ length: 100 }, (_, n) => long(n)),
    next: null,
  });
  const first = await read({ groups }, null);
  await rejectsWith(read({ groups }, first.next), "malformed", /too long to continue/);
});

test("a page ends before a group that is limited, and the next page begins there", async () => {
  let isLimited = true;
  const groups: Listing["groups"] = async () => ({ groups: [], toRead: ["a", "b", "c"], next: null });
  const members: Listing["members"] = async (groupId) => {
    if (groupId === "b" && isLimited) throw new DirectoryError("slow down", { kind: "limited", retryAfterMs: 5 });
    return { people: [`of-${groupId}`], groups: [], next: null };
  };
  const listing = { groups, members };
  let page = await read(listing, null);
  page = await read(listing, page.next);
  page = await read(listing, page.next);
  assert.deepEqual(
    page.members.map(({ groupId }) => groupId),
    ["a"],
  );
  await rejectsWith(read(listing, page.next), "limited", /slow down/);
  isLimited = false;
  page = await read(listing, page.next);
  assert.deepEqual(
    page.members.map(({ groupId }) => groupId),
    ["b", "c"],
  );
  assert.equal(page.next, null);
});

test("a cursor that is none begins a full run", async () => {
  for (const cursor of ["", "x", "{}", '{"phase":"people","link":null,"after":null,"toRead":[],"pages":-1,"start":""}'])
    await rejectsWith(read({}, cursor), "deltaExpired", /another version/);
});

test("the next page in a Link header is found in every form, and nothing else is", () => {
  const next = (header: string): string | null => linkInHeader(header, "next");
  assert.equal(next('<https://a/1>; rel="self", <https://a/2?x=1,2>; rel="next"'), "https://a/2?x=1,2");
  assert.equal(next("<https://a/2>; rel=next"), "https://a/2");
  assert.equal(next('<https://a/2>; title="x, y"; rel="prev next"'), "https://a/2");
  assert.equal(next('<https://a/2>; REL="Next"'), "https://a/2");
  for (const header of [
    '<https://a/2>; rel="prev"',
    '<https://a/2>; rel="nextish"',
    '<https://a/2>; title="rel=next"',
    "",
    "<>",
  ])
    assert.equal(next(header), null, header);
  assert.throws(() => next(`<https://a/${"x".repeat(20_000)}>; rel="next"`), /too long/);
  // A header that makes a careless expression slow.
  const started = performance.now();
  next("<a>; ".repeat(3_000));
  assert.ok(performance.now() - started < 1_000);
});

test("a link stays below the API, wherever the directory wants to lead", () => {
  const base = new URL("https://api.example.com/v1/");
  assert.equal(relativeLink("https://api.example.com/v1/users?after=x", base), "users?after=x");
  assert.equal(relativeLink("/v1/users", base), "users");
  for (const link of [
    "https://evil.example/v1/users",
    "//evil.example/v1/users",
    "\\\\evil.example\\v1",
    "http://api.example.com/v1/users",
    "https://api.example.com:8443/v1/users",
    "https://user:pass@api.example.com/v1/users",
    "https://api.example.com/v2/users",
    "https://api.example.com/v1/../admin",
    "../admin",
    "javascript:alert(1)",
    `https://api.example.com/v1/${"x".repeat(5_000)}`,
  ])
    assert.throws(() => relativeLink(link, base), /next page that is not its own/, link);
  assert.equal(addressOf("users?x=1", base).href, "https://api.example.com/v1/users?x=1");
  assert.throws(() => addressOf("../admin", base), /leads out of the API/);
  assert.equal(addressOf("@evil.example/", base).hostname, "api.example.com");
});

test("an id that could name another resource is refused", () => {
  assert.equal(pathPart("00g1-a_b.c@x"), "00g1-a_b.c%40x");
  for (const id of ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\\b", "é", "x".repeat(200)])
    assert.throws(() => pathPart(id), /characters/, id);
});
