/**
 * GitLab source: members of a group and of its subgroups, from the REST API.
 *
 * - Each group is read with the members that it inherits or that were invited as a group, as they count in GitLab.
 * - Lists of groups and members have pages by number. If an entry goes meanwhile, the rest moves and one is skipped.
 *   The total of each page shows it, up to 10,000 entries; the run is then partial.
 * - With `all_users`, for administrators of their own GitLab, everyone in the installation is listed, by keyset pages.
 * - GitLab offers no changes since an earlier run, so each run is full.
 */
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryAnswer, DirectoryHttp, LimitOf } from "../../directory-fetch.ts";
import { plainText } from "../../page-check.ts";
import type { DirectoryPerson, DirectorySource } from "../../source.ts";
import { type Listing, type ListingContext, readListing, unknownGroup } from "../shared/listing.ts";
import { addressOf, linkInHeader, relativeLink } from "../shared/page-links.ts";

export type GitlabOptions = Readonly<{
  http: DirectoryHttp;
  api: URL;
  /** Id or full path. Null: every group of the installation. */
  group: string | null;
  token: string;
  listsAllUsers: boolean;
}>;

const id = z.number().int().positive().transform(String);
const text = z.string().nullish();
const account = z.object({
  id,
  username: z.string().min(1).max(320),
  name: text,
  state: z.string(),
  /** In lists of members: only of people that the organization manages. In lists of users: for administrators. */
  email: text,
  confirmed_at: text,
});
const accounts = z.array(account).max(100);
/** A member whose invitation waits for approval has no access yet. */
const members = z.array(account.extend({ membership_state: text })).max(100);
const group = z.object({ id, full_path: z.string().min(1).max(4_096) });
const groups = z.array(group).max(100);

export function createGitlabSource(options: GitlabOptions): DirectorySource {
  const { api } = options;
  const call = (link: string, signal: AbortSignal): Promise<DirectoryAnswer> => callGitlab(options, link, signal);
  const nextOf = (answer: DirectoryAnswer): string | null => {
    const next = linkInHeader(answer.headers.get("link"), "next");
    return next === null ? null : relativeLink(next, api);
  };

  async function readMembers(
    groupId: string,
    link: string | null,
    { signal }: ListingContext,
  ): Promise<Awaited<ReturnType<Listing["members"]>>> {
    const present = parsePosition(link ?? `groups/${groupId}/members/all?per_page=100`);
    const answer = await call(present.path, signal);
    if (answer.status === 404) return unknownGroup(groupId);
    const listed = parse(members, answer);
    const { next, hasMoved } = nextPosition(present, { answer, count: listed.length, next: nextOf(answer) });
    const active = listed.filter(({ membership_state }) => (membership_state ?? "active") === "active");
    return {
      people: active.map((each) => each.id),
      groups: [],
      ...(!options.listsAllUsers && { persons: active.map((each) => personOf(each, "managed")) }),
      problems: hasMoved ? [{ about: groupId, message: moved }] : [],
      next,
    };
  }

  const listing: Listing = {
    async begin({ signal }) {
      if (options.group === null) return "";
      return parse(group, await call(`groups/${encodeURIComponent(options.group)}?with_projects=false`, signal)).id;
    },
    end: () => null,
    async people(link, { signal }) {
      if (!options.listsAllUsers) return { people: [], next: null };
      const query = "pagination=keyset&order_by=id&sort=asc&per_page=100&humans=true";
      const answer = await call(link ?? `users?${query}`, signal);
      return { people: parse(accounts, answer).map((each) => personOf(each, "listed")), next: nextOf(answer) };
    },
    async groups(link, { signal, start }) {
      if (link === null && start !== "") {
        const own = parse(group, await call(`groups/${start}?with_projects=false`, signal));
        return { groups: [groupOf(own)], toRead: [own.id], next: `groups/${start}/descendant_groups?per_page=100` };
      }
      const present = parsePosition(link ?? "groups?all_available=true&order_by=id&sort=asc&per_page=100");
      const answer = await call(present.path, signal);
      const found = parse(groups, answer).map(groupOf);
      const { next, hasMoved } = nextPosition(present, { answer, count: found.length, next: nextOf(answer) });
      const problems = hasMoved ? [{ about: null, message: moved }] : [];
      return { groups: found, toRead: found.map((each) => each.id), problems, next };
    },
    members: readMembers,
  };

  return { read: (request) => readListing(listing, request), close: async () => {} };
}

const moved = "the list changed while it was read";

/** A page of a list by numbers. `total`: as the earlier pages stated it. `seen`: the entries of the earlier pages. */
type ListPosition = Readonly<{ path: string; total: number | null; seen: number }>;

function parsePosition(link: string): ListPosition {
  const found = /^(\d*) (\d+) (.+)$/.exec(link);
  if (found === null) return { path: link, total: null, seen: 0 };
  const [, total = "", seen = "0", path = ""] = found;
  return { path, total: total === "" ? null : Number(total), seen: Number(seen) };
}

/** The link to the next page, and whether the pages so far are of one list. */
function nextPosition(
  { total, seen }: ListPosition,
  { answer, count, next }: Readonly<{ answer: DirectoryAnswer; count: number; next: string | null }>,
): Readonly<{ next: string | null; hasMoved: boolean }> {
  const stated = totalOf(answer);
  const isWhole = next !== null || stated === null || seen + count === stated;
  return {
    next: next === null ? null : `${stated ?? ""} ${seen + count} ${next}`,
    hasMoved: (total !== null && stated !== total) || !isWhole,
  };
}

/** GitLab states no total beyond 10,000. */
function totalOf(answer: DirectoryAnswer): number | null {
  const written = answer.headers.get("x-total") ?? "";
  return /^\d{1,9}$/.test(written) ? Number(written) : null;
}

function personOf(
  { id: personId, username, name, state, email, confirmed_at }: z.infer<typeof account>,
  from: "managed" | "listed",
): DirectoryPerson {
  // In a list of users, an address counts once the person has confirmed it.
  const vouched = from === "managed" || typeof confirmed_at === "string" ? plainText(email ?? "") : "";
  return {
    id: personId,
    userName: plainText(username),
    email: vouched === "" ? null : vouched,
    name: plainText(name ?? ""),
    active: state === "active",
  };
}

function groupOf({ id: groupId, full_path }: z.infer<typeof group>): Readonly<{ id: string; name: string }> {
  const name = plainText(full_path);
  // A cut path could be that of another group.
  return { id: groupId, name: name.length > 256 || name === "" ? groupId : name };
}

/** 429 with the second at which the limit ends, by GitLab's clock; `Retry-After` comes first. */
export const gitlabLimit: LimitOf = ({ status, headers }) => {
  if (status !== 429 || headers.get("retry-after") !== null) return undefined;
  const reset = Number(headers.get("ratelimit-reset") ?? Number.NaN) * 1_000;
  const date = Date.parse(headers.get("date") ?? "");
  return Number.isNaN(reset) || Number.isNaN(date) ? undefined : Math.max(1_000, reset - date);
};

/** An answer of 200 or 404. @throws DirectoryError */
async function callGitlab(options: GitlabOptions, link: string, signal: AbortSignal): Promise<DirectoryAnswer> {
  const url = addressOf(link, options.api);
  const headers = { "private-token": options.token };
  const answer = await options.http.request({ url, headers, signal, accept: [401, 403, 404] });
  if (answer.status === 401) throw new DirectoryError("GitLab refuses the token", { kind: "unauthorized" });
  if (answer.status === 403)
    throw new DirectoryError("GitLab refuses: the token needs the scope read_api, and to see the group", {
      kind: "forbidden",
    });
  return answer;
}

function parse<T>(schema: z.ZodType<T>, answer: DirectoryAnswer): T {
  if (answer.status === 404) throw malformed("GitLab does not know the group, or hides it from the token");
  const parsed = schema.safeParse(answer.json());
  if (parsed.success) return parsed.data;
  throw malformed(`the answer of GitLab lacks what is needed: ${parsed.error.issues[0]?.path.join(".") ?? ""}`);
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
