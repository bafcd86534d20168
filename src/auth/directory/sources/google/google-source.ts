/**
 * Google source: people, groups and members of a Google Workspace account, from the Directory API of the Admin SDK.
 *
 * - A service account with domain-wide delegation acts as an administrator who may read users and groups.
 * - Google offers no changes since an earlier run, so each run is full.
 * - A group may have everyone in the account as a member. Then people are listed once more, as members of a group that
 *   has the account's id.
 * - Google answers 403 for exhausted quotas as well as for missing permissions; the reason in the answer tells which.
 */
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryAnswer, DirectoryHttp } from "../../directory-fetch.ts";
import { plainText } from "../../page-check.ts";
import {
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  type DirectorySource,
  emptyPage,
} from "../../source.ts";
import { type Listing, type ListingContext, readListing, unknownGroup } from "../shared/listing.ts";
import type { AccessTokens } from "../shared/oauth-client.ts";
import { addressOf, pathPart } from "../shared/page-links.ts";

export type GoogleOptions = Readonly<{
  http: DirectoryHttp;
  api: URL;
  tokens: AccessTokens;
  customer: string;
}>;

const id = z.string().min(1).max(128);
const pageToken = z.string().min(1).max(2_048).optional();
const user = z.object({
  id,
  primaryEmail: z.string(),
  name: z.object({ fullName: z.string().optional() }).optional(),
  suspended: z.boolean().optional(),
  archived: z.boolean().optional(),
});
const usersAnswer = z.object({
  kind: z.literal("admin#directory#users"),
  nextPageToken: pageToken,
  users: z.array(user).max(500).default([]),
});
const group = z.object({ id, email: z.string().min(1) });
const groupsAnswer = z.object({
  kind: z.literal("admin#directory#groups"),
  nextPageToken: pageToken,
  groups: z.array(group).max(200).default([]),
});
const membersAnswer = z.object({
  kind: z.literal("admin#directory#members"),
  nextPageToken: pageToken,
  members: z
    // A member of another organisation may have no id.
    .array(z.object({ id: id.optional(), type: z.string().optional() }))
    .max(200)
    .default([]),
});

const userFields = "id,primaryEmail,name/fullName,suspended,archived";
/** Marks the list of people that are members of the account's own group. */
const everyone = "everyone:";

export function createGoogleSource(options: GoogleOptions): DirectorySource {
  const call = (path: string, query: Readonly<Record<string, string>>, signal: AbortSignal): Promise<DirectoryAnswer> =>
    callGoogle({ options, path, query, signal });

  const listing: Listing = {
    begin: async () => "",
    end: () => null,
    async people(link, { signal }) {
      const query = { customer: options.customer, maxResults: "500", projection: "basic", ...withToken(link) };
      const answer = parse(
        usersAnswer,
        await call("users", { ...query, fields: `kind,nextPageToken,users(${userFields})` }, signal),
      );
      return { people: answer.users.map(personOf), next: answer.nextPageToken ?? null };
    },
    async groups(link, { signal }) {
      const query = { customer: options.customer, maxResults: "100", ...withToken(link) };
      const answer = parse(
        groupsAnswer,
        await call("groups", { ...query, fields: "kind,nextPageToken,groups(id,email)" }, signal),
      );
      const groups = answer.groups.map((each) => ({ id: each.id, name: plainText(each.email).toLowerCase() }));
      return { groups, toRead: groups.map((each) => each.id), next: answer.nextPageToken ?? null };
    },
    members: (groupId, link, context) => readMembers(groupId, link, { ...context, call, customer: options.customer }),
  };

  return {
    read: (request) => readListing(listing, request),
    readPerson: (personId, signal) => readPerson(personId, { call, signal }),
    close: async () => {},
  };
}

type Call = (path: string, query: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<DirectoryAnswer>;

async function readMembers(
  groupId: string,
  link: string | null,
  { call, signal, customer }: ListingContext & Readonly<{ call: Call; customer: string }>,
): Promise<Awaited<ReturnType<Listing["members"]>>> {
  if (link?.startsWith(everyone) === true) return readEveryone(link, { call, signal, customer });
  const query = { maxResults: "200", ...withToken(link) };
  const answer = await call(
    `groups/${pathPart(groupId)}/members`,
    { ...query, fields: "kind,nextPageToken,members(id,type)" },
    signal,
  );
  if (answer.status === 404) return unknownGroup(groupId);
  if (answer.status === 403) {
    const problems = [{ about: groupId, message: "Google does not let us read the members" }];
    return { people: [], groups: [], problems, next: null };
  }
  const { members, nextPageToken } = parse(membersAnswer, answer);
  const idsOf = (type: string): readonly string[] =>
    members.flatMap((member) => (member.type === type && member.id !== undefined ? [member.id] : []));
  const hasEveryone = members.some(({ type }) => type === "CUSTOMER");
  const following = hasEveryone ? `${everyone}${nextPageToken ?? ""} ` : (nextPageToken ?? null);
  return { people: idsOf("USER"), groups: idsOf("GROUP"), next: following };
}

/**
 * People as members of a group that everyone belongs to. The link has the token of the members' next page, and that of
 * the present page of people.
 */
async function readEveryone(
  link: string,
  { call, signal, customer }: Readonly<{ call: Call; signal: AbortSignal; customer: string }>,
): Promise<Awaited<ReturnType<Listing["members"]>>> {
  const [rest = "", page = ""] = link.slice(everyone.length).split(" ");
  const query = { customer, maxResults: "500", projection: "basic", ...withToken(page === "" ? null : page) };
  const answer = parse(
    usersAnswer,
    await call("users", { ...query, fields: `kind,nextPageToken,users(${userFields})` }, signal),
  );
  const people = answer.users.map((each) => each.id);
  if (answer.nextPageToken !== undefined)
    return { people, groups: [], next: `${everyone}${rest} ${answer.nextPageToken}` };
  return { people, groups: [], next: rest === "" ? null : rest };
}

async function readPerson(
  personId: string,
  { call, signal }: Readonly<{ call: Call; signal: AbortSignal }>,
): Promise<DirectoryPage | null> {
  const answer = await call(`users/${pathPart(personId)}`, { projection: "basic", fields: userFields }, signal);
  if (answer.status === 404) return null;
  if (answer.status === 403) throw forbidden();
  const person = personOf(parse(user, answer));
  if (person.id !== personId) throw malformed("Google answered about another person");
  const groups: { id: string; name: string }[] = [];
  let token: string | undefined;
  for (let pages = 0; pages < personPagesMax; pages++) {
    const query = { userKey: personId, maxResults: "200", ...withToken(token ?? null) };
    const page = parse(
      groupsAnswer,
      await call("groups", { ...query, fields: "kind,nextPageToken,groups(id,email)" }, signal),
    );
    groups.push(...page.groups.map((each) => ({ id: each.id, name: plainText(each.email).toLowerCase() })));
    token = page.nextPageToken;
    if (token === undefined) {
      const members = groups.map(({ id: groupId }): DirectoryMembers => ({ groupId, people: [personId], groups: [] }));
      return { ...emptyPage, people: [person], groups, members };
    }
  }
  throw malformed("a person is in more groups than are read");
}

const personPagesMax = 20;

function personOf({ id: personId, primaryEmail, name, suspended, archived }: z.infer<typeof user>): DirectoryPerson {
  const email = plainText(primaryEmail);
  return {
    id: personId,
    userName: email,
    email: email === "" ? null : email,
    name: plainText(name?.fullName ?? ""),
    active: suspended !== true && archived !== true,
  };
}

function withToken(token: string | null): Readonly<Record<string, string>> {
  return token === null ? {} : { pageToken: token };
}

/** An answer of 200, 403 because of a permission, or 404. @throws DirectoryError */
async function callGoogle({
  options,
  path,
  query,
  signal,
}: Readonly<{
  options: GoogleOptions;
  path: string;
  query: Readonly<Record<string, string>>;
  signal: AbortSignal;
}>): Promise<DirectoryAnswer> {
  const url = addressOf(`admin/directory/v1/${path}`, options.api);
  url.search = new URLSearchParams(query).toString();
  const headers = { authorization: `Bearer ${await options.tokens.get(signal)}` };
  const answer = await options.http.request({ url, headers, signal, accept: [401, 403, 404] });
  if (answer.status === 401) {
    options.tokens.drop();
    throw new DirectoryError("Google refuses the access token", { kind: "unauthorized" });
  }
  if (answer.status === 403 && isQuota(answer))
    throw new DirectoryError("the quota of the Directory API is used up for now", { kind: "limited" });
  return answer;
}

const errorAnswer = z.object({ error: z.object({ errors: z.array(z.object({ reason: z.string() })).optional() }) });
const quotaReasons = new Set(["quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"]);

function isQuota(answer: DirectoryAnswer): boolean {
  const parsed = errorAnswer.safeParse(answer.json());
  return parsed.success && (parsed.data.error.errors ?? []).some(({ reason }) => quotaReasons.has(reason));
}

function parse<T>(schema: z.ZodType<T>, answer: DirectoryAnswer): T {
  if (answer.status === 403) throw forbidden();
  if (answer.status === 404) throw malformed("Google does not know the customer");
  const parsed = schema.safeParse(answer.json());
  if (parsed.success) return parsed.data;
  throw malformed(`the answer of Google lacks what is needed: ${parsed.error.issues[0]?.path.join(".") ?? ""}`);
}

function forbidden(): DirectoryError {
  return new DirectoryError(
    "Google refuses: enable the Admin SDK API, grant the service account the two scopes, and let the administrator read users and groups",
    { kind: "forbidden" },
  );
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
