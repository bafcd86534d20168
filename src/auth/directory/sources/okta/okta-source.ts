/**
 * Okta source: people, groups and members of an Okta organization, from its management API.
 *
 * - A full run lists everyone who is not deactivated. A later run requests what has changed since the earlier one
 *   began, by Okta's own clock, and in the minute before: Okta's index may lag.
 * - A changed group is read with all its members. The next full run finds deleted people and groups. Okta deletes only
 *   people who were deactivated before, and a later run finds a deactivation.
 * - Okta has no groups inside groups.
 */
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryAnswer, DirectoryHttp, LimitOf } from "../../directory-fetch.ts";
import { plainText } from "../../page-check.ts";
import {
  type DirectoryGroup,
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  type DirectorySource,
  emptyPage,
} from "../../source.ts";
import { type Listing, readListing, unknownGroup } from "../shared/listing.ts";
import { addressOf, linkInHeader, pathPart, relativeLink } from "../shared/page-links.ts";

export type OktaOptions = Readonly<{
  http: DirectoryHttp;
  api: URL;
  /** The value of `Authorization`. */
  authorization: (signal: AbortSignal) => Promise<string>;
  /** Okta refuses the credentials. */
  onRefusal: () => void;
}>;

const id = z.string().min(1).max(128);
const text = z.string().nullish();
const user = z.object({
  id,
  status: z.string(),
  profile: z.object({ login: text, email: text, displayName: text, firstName: text, lastName: text }),
});
const group = z.object({ id, profile: z.object({ name: z.string() }) });
const users = z.array(user).max(1_000);
const groups = z.array(group).max(1_000);
const ids = z.array(z.object({ id })).max(1_000);

/** Okta recommends at most 200. */
const pageSize = "200";
/** Ids of a page of groups must fit into a cursor. */
const groupsPageSize = "100";
const overlapMs = 60_000;
const deactivated = "DEPROVISIONED";
/** A locked account or an expired password is a problem of the person, not a decision of the organization. */
const inactive = new Set(["SUSPENDED", deactivated, "STAGED"]);

export function createOktaSource(options: OktaOptions): DirectorySource {
  const { api } = options;
  const call = (link: string, signal: AbortSignal): Promise<DirectoryAnswer> => callOkta(options, link, signal);
  const nextOf = (answer: DirectoryAnswer): string | null => {
    const next = linkInHeader(answer.headers.get("link"), "next");
    return next === null ? null : relativeLink(next, api);
  };

  const listing: Listing = {
    async begin({ signal }) {
      const answer = await call(`users?${new URLSearchParams({ limit: "1" })}`, signal);
      const date = Date.parse(answer.headers.get("date") ?? "");
      if (Number.isNaN(date)) throw malformed("Okta does not say what time it is");
      return new Date(date - overlapMs).toISOString();
    },
    end: ({ start }) => start,
    async people(link, { since, signal }) {
      const query = { limit: pageSize, ...(since !== null && { filter: `lastUpdated gt "${instant(since)}"` }) };
      const answer = await call(link ?? `users?${new URLSearchParams(query)}`, signal);
      const next = nextOf(answer);
      const isLast = next === null && (since === null || link?.includes(deactivated) === true);
      return {
        people: parse(users, answer).map(personOf),
        next: isLast ? null : (next ?? deactivatedSince(since ?? "")),
      };
    },
    async groups(link, { since, signal }) {
      const changed = (time: string): string => `lastUpdated gt "${time}" or lastMembershipUpdated gt "${time}"`;
      const query = { limit: groupsPageSize, ...(since !== null && { filter: changed(instant(since)) }) };
      const answer = await call(link ?? `groups?${new URLSearchParams(query)}`, signal);
      const found = parse(groups, answer).map(groupOf);
      return { groups: found, toRead: found.map((each) => each.id), next: nextOf(answer) };
    },
    async members(groupId, link, { signal }) {
      const answer = await call(link ?? `groups/${pathPart(groupId)}/users?limit=${pageSize}`, signal);
      if (answer.status === 404) return unknownGroup(groupId);
      return { people: parse(ids, answer).map((each) => each.id), groups: [], next: nextOf(answer) };
    },
  };

  return {
    read: (request) => readListing(listing, request),
    readPerson: (personId, signal) => readPerson(personId, { call, nextOf, signal }),
    close: async () => {},
  };
}

/** Okta leaves deactivated people out of lists that do not ask for them. */
function deactivatedSince(since: string): string {
  const filter = `status eq "${deactivated}" and lastUpdated gt "${instant(since)}"`;
  return `users?${new URLSearchParams({ limit: pageSize, filter })}`;
}

type PersonRequest = Readonly<{
  call: (link: string, signal: AbortSignal) => Promise<DirectoryAnswer>;
  nextOf: (answer: DirectoryAnswer) => string | null;
  signal: AbortSignal;
}>;

async function readPerson(personId: string, { call, nextOf, signal }: PersonRequest): Promise<DirectoryPage | null> {
  const answer = await call(`users/${pathPart(personId)}`, signal);
  if (answer.status === 404) return null;
  const person = personOf(parse(user, answer));
  // Okta also finds a person by login.
  if (person.id !== personId) throw malformed("Okta answered about another person");
  const found: DirectoryGroup[] = [];
  let link: string | null = `users/${pathPart(personId)}/groups?limit=${pageSize}`;
  for (let pages = 0; link !== null; pages++) {
    if (pages >= personPagesMax) throw malformed("a person is in more groups than are read");
    const page: DirectoryAnswer = await call(link, signal);
    found.push(...parse(groups, page).map(groupOf));
    link = nextOf(page);
  }
  const members = found.map(({ id: groupId }): DirectoryMembers => ({ groupId, people: [personId], groups: [] }));
  return { ...emptyPage, people: [person], groups: found, members };
}

const personPagesMax = 20;

/** 429 with the second at which the limit ends, by Okta's clock. */
export const oktaLimit: LimitOf = ({ status, headers }) => {
  const reset = Number(headers.get("x-rate-limit-reset") ?? Number.NaN);
  if (status !== 429 || !Number.isFinite(reset)) return undefined;
  const date = Date.parse(headers.get("date") ?? "");
  return Number.isNaN(date) ? null : Math.max(1_000, reset * 1_000 - date);
};

function personOf({ id: personId, status, profile }: z.infer<typeof user>): DirectoryPerson {
  const email = plainText(profile.email ?? "");
  const name = profile.displayName ?? [profile.firstName ?? "", profile.lastName ?? ""].join(" ");
  return {
    id: personId,
    userName: plainText(profile.login ?? "") || email || personId,
    email: email === "" ? null : email,
    name: plainText(name),
    active: !inactive.has(status),
  };
}

function groupOf({ id: groupId, profile }: z.infer<typeof group>): DirectoryGroup {
  return { id: groupId, name: plainText(profile.name).slice(0, 256) || groupId };
}

/** @throws DirectoryError: the text is no time, so it is not put into a filter */
function instant(written: string): string {
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(written)) return written;
  throw new DirectoryError("the delta is of another version", { kind: "deltaExpired" });
}

/** An answer of 200 or 404. @throws DirectoryError */
async function callOkta(options: OktaOptions, link: string, signal: AbortSignal): Promise<DirectoryAnswer> {
  const url = addressOf(link, options.api);
  const headers = { authorization: await options.authorization(signal) };
  const answer = await options.http.request({ url, headers, signal, accept: [401, 403, 404] });
  if (answer.status === 401) {
    options.onRefusal();
    throw new DirectoryError("Okta refuses the credentials", { kind: "unauthorized" });
  }
  if (answer.status === 403)
    throw new DirectoryError(
      "Okta refuses: grant okta.users.read and okta.groups.read, and a role that may see all users and groups",
      { kind: "forbidden" },
    );
  return answer;
}

function parse<T>(schema: z.ZodType<T>, answer: DirectoryAnswer): T {
  if (answer.status === 404) throw malformed("Okta answers with the status 404");
  const parsed = schema.safeParse(answer.json());
  if (parsed.success) return parsed.data;
  throw malformed(`the answer of Okta lacks what is needed: ${parsed.error.issues[0]?.path.join(".") ?? ""}`);
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
