/**
 * GitHub source: members and teams of an organization, from the REST API.
 *
 * - A token sees hidden members and secret teams only with the right permission, and otherwise gets a shorter list
 *   without a word. So each run begins with a question that shows the permission.
 * - A team's members include those of the teams inside it.
 * - GitHub offers no changes since an earlier run. Answers are kept with their ETag: an unchanged one does not count
 *   against the rate limit.
 * - Lists have pages by number. If a member leaves meanwhile, the rest moves and one member is skipped. So the page
 *   before is requested once more, which is free if nothing has changed; otherwise the run is partial.
 * - GitHub vouches for no e-mail, and does not tell names in lists.
 */
import { LRUCache } from "lru-cache";
import * as z from "zod";
import { DirectoryError } from "../../directory-error.ts";
import type { DirectoryAnswer, DirectoryHttp, LimitOf } from "../../directory-fetch.ts";
import { plainText } from "../../page-check.ts";
import type { DirectoryPerson, DirectoryProblem, DirectorySource } from "../../source.ts";
import { type Listing, readListing, unknownGroup } from "../shared/listing.ts";
import { addressOf, linkInHeader, relativeLink } from "../shared/page-links.ts";

export type GithubOptions = Readonly<{
  http: DirectoryHttp;
  api: URL;
  organization: string;
  token: (signal: AbortSignal) => Promise<string>;
  /** GitHub refuses the token. */
  onRefusal: () => void;
  /** An app's permission is checked with its token; a person's token is checked by a membership. */
  asksMembership: boolean;
}>;

const id = z.number().int().positive().transform(String);
const account = z.object({ id, login: z.string().min(1).max(100), type: z.string().optional() });
const accounts = z.array(account).max(100);
const teams = z.array(z.object({ id, slug: z.string().min(1).max(256) })).max(100);
const organizationAnswer = z.object({ id, login: z.string() });
const membershipAnswer = z.object({ state: z.string() });

/** Bytes of answers that a source keeps. An organization of 20,000 members has about 20 MB of them. */
export const keptAnswersBytesMax = 32 * 1024 * 1024;
type KeptAnswer = Readonly<{ etag: string; answer: DirectoryAnswer }>;

export const githubHeaders = {
  accept: "application/vnd.github+json",
  "user-agent": "cardea",
  "x-github-api-version": "2022-11-28",
} as const;

export function createGithubSource(options: GithubOptions): DirectorySource {
  const { api } = options;
  const kept = new LRUCache<string, KeptAnswer>({
    maxSize: keptAnswersBytesMax,
    sizeCalculation: ({ answer }, key) => answer.body.byteLength + key.length + 512,
  });
  const call = (link: string, signal: AbortSignal): Promise<DirectoryAnswer> =>
    callGithub(options, kept, { link, signal });
  const nextOf = (answer: DirectoryAnswer): string | null => {
    const next = linkInHeader(answer.headers.get("link"), "next");
    return next === null ? null : relativeLink(next, api);
  };
  const name = encodeURIComponent(options.organization);

  async function problemsOf(
    answer: DirectoryAnswer,
    about: string | null,
    signal: AbortSignal,
  ): Promise<readonly DirectoryProblem[]> {
    const target = linkInHeader(answer.headers.get("link"), "prev");
    const link = target === null ? null : relativeLink(target, api);
    const before = link === null ? undefined : kept.get(keyOf(link));
    if (link === null || before === undefined) return [];
    const again = await call(link, signal);
    const isSame = again.status === 200 && Buffer.from(again.body).equals(before.answer.body);
    return isSame ? [] : [{ about, message: "the list changed while it was read" }];
  }

  const listing: Listing = {
    async begin({ signal }) {
      const { login, id: organizationId } = parse(organizationAnswer, await call(`orgs/${name}`, signal));
      if (login.toLowerCase() !== options.organization.toLowerCase())
        throw malformed("GitHub answered about another organization");
      if (options.asksMembership) await checkMembership(await call(`user/memberships/orgs/${name}`, signal));
      return organizationId;
    },
    end: () => null,
    async people(link, { signal }) {
      const answer = await call(link ?? `orgs/${name}/members?per_page=100&page=1`, signal);
      const problems = await problemsOf(answer, null, signal);
      return { people: parse(accounts, answer).map(personOf), problems, next: nextOf(answer) };
    },
    async groups(link, { signal }) {
      const answer = await call(link ?? `orgs/${name}/teams?per_page=100&page=1`, signal);
      const found = parse(teams, answer).map((team) => ({ id: team.id, name: plainText(team.slug) }));
      const problems = await problemsOf(answer, null, signal);
      return { groups: found, toRead: found.map((team) => team.id), problems, next: nextOf(answer) };
    },
    async members(teamId, link, { signal, start }) {
      const path = `organizations/${start}/team/${teamId}/members?per_page=100&page=1`;
      const answer = await call(link ?? path, signal);
      if (answer.status === 404) return unknownGroup(teamId);
      const problems = await problemsOf(answer, teamId, signal);
      return { people: parse(accounts, answer).map((each) => each.id), groups: [], problems, next: nextOf(answer) };
    },
  };

  return {
    read: (request) => readListing(listing, request),
    async close() {
      kept.clear();
    },
  };
}

/** GitHub's links name the organization by its number. */
function keyOf(link: string): string {
  return link.replace(/^(?:orgs|organizations)\/[^/]+\//, "");
}

function personOf({ id: personId, login }: z.infer<typeof account>): DirectoryPerson {
  return { id: personId, userName: plainText(login), email: null, name: plainText(login), active: true };
}

async function checkMembership(answer: DirectoryAnswer): Promise<void> {
  const isMember = answer.status === 200 && parse(membershipAnswer, answer).state === "active";
  if (!isMember)
    throw new DirectoryError("the token's owner is not a member of the organization, or the token lacks read:org", {
      kind: "forbidden",
    });
}

/**
 * The primary limit sets `x-ratelimit-remaining: 0`, the secondary one `retry-after`. Both come with 403 or 429.
 * https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
 */
export const githubLimit: LimitOf = ({ status, headers }) => {
  if (status !== 403 && status !== 429) return undefined;
  const retryAfter = headers.get("retry-after");
  if (retryAfter !== null && /^\d{1,6}$/.test(retryAfter)) return Number(retryAfter) * 1_000;
  if (headers.get("x-ratelimit-remaining") !== "0") return status === 429 ? secondaryLimitMs : undefined;
  const reset = Number(headers.get("x-ratelimit-reset") ?? Number.NaN) * 1_000;
  const date = Date.parse(headers.get("date") ?? "");
  return Number.isNaN(reset) || Number.isNaN(date) ? secondaryLimitMs : Math.max(1_000, reset - date);
};

/** GitHub asks for a minute if it names no time. */
const secondaryLimitMs = 60_000;
const refusal = z.object({ documentation_url: z.string().optional() });

/** An answer of 200 or 404. @throws DirectoryError */
async function callGithub(
  options: GithubOptions,
  kept: LRUCache<string, KeptAnswer>,
  { link, signal }: Readonly<{ link: string; signal: AbortSignal }>,
): Promise<DirectoryAnswer> {
  const url = addressOf(link, options.api);
  const known = kept.get(keyOf(link));
  const headers = {
    ...githubHeaders,
    authorization: `Bearer ${await options.token(signal)}`,
    ...(known !== undefined && { "if-none-match": known.etag }),
  };
  const answer = await options.http.request({ url, headers, signal, accept: [304, 401, 403, 404] });
  if (answer.status === 304) {
    if (known === undefined) throw malformed("GitHub says that an unknown answer has not changed");
    return known.answer;
  }
  if (answer.status === 401) {
    options.onRefusal();
    throw new DirectoryError("GitHub refuses the token", { kind: "unauthorized" });
  }
  if (answer.status === 403) throw refusalOf(answer);
  const etag = answer.headers.get("etag");
  if (answer.status === 200 && etag !== null && etag.length < 256) kept.set(keyOf(link), { etag, answer });
  return answer;
}

/** A secondary limit may come without any header; its answer then names the page about limits. */
function refusalOf(answer: DirectoryAnswer): DirectoryError {
  const parsed = refusal.safeParse(answer.json());
  if (parsed.success && /rate-?limit/i.test(parsed.data.documentation_url ?? ""))
    return new DirectoryError("GitHub accepts no more requests for now", {
      kind: "limited",
      retryAfterMs: secondaryLimitMs,
    });
  return new DirectoryError("GitHub refuses: the token needs read access to the organization's members", {
    kind: "forbidden",
  });
}

function parse<T>(schema: z.ZodType<T>, answer: DirectoryAnswer): T {
  if (answer.status === 404) throw malformed("GitHub does not know the organization, or hides it from the token");
  const parsed = schema.safeParse(answer.json());
  if (parsed.success) return parsed.data;
  throw malformed(`the answer of GitHub lacks what is needed: ${parsed.error.issues[0]?.path.join(".") ?? ""}`);
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
