/**
 * GitHub API client: the profile of the owner of an access token, by GitHub's REST API.
 *
 * - The subject is the account's number. A login may be renamed, and then taken by another person.
 * - The e-mail is the primary address if GitHub has verified it, else another verified one, else none.
 * - `groups` are the teams (`org/team`), `organizations` the organizations that the person let this client see.
 * - A token counts as withdrawn only if GitHub says so when asked about it, not by one 401.
 */
import type { ProviderTokens } from "../../../events/index.ts";
import type { IssuerFetch } from "./issuer-fetch.ts";
import { profileOf } from "./oidc-profile.ts";
import type { ProviderDescription } from "./provider-client.ts";
import { ProviderError } from "./provider-error.ts";

type Json = Readonly<Record<string, unknown>>;
/** `link`: the header that names the next page; null: GitHub sent none, because the list fits into one. */
type Answer = Readonly<{ body: unknown; link: string | null }>;
/** Pages of 100 entries: 5,000 teams. A person with more cannot be described: a part of them would be a lie. */
const pagesMax = 50;
const perPage = 100;
const emailScopes = ["user:email", "user"];
const organizationScopes = ["read:org", "write:org", "admin:org"];
const headersOfAll = {
  accept: "application/vnd.github+json",
  "user-agent": "cardea",
  "x-github-api-version": "2022-11-28",
};

export type GitHubApi = Readonly<{
  /** @throws ProviderError; the refusal `invalid_grant` means that GitHub has withdrawn the token */
  describe(tokens: ProviderTokens): Promise<ProviderDescription>;
  /** @throws unless the API answers */
  check(): Promise<void>;
  revoke(tokens: ProviderTokens): Promise<void>;
}>;

/** @param options.web the address of GitHub's pages, without a slash at the end; also the issuer of its people */
export function createGitHubApi({
  web,
  clientId,
  clientSecret,
  fetch,
}: Readonly<{ web: string; clientId: string; clientSecret: string; fetch: IssuerFetch["fetch"] }>): GitHubApi {
  const api = apiOf(new URL(web));

  /**
   * @param scopes each of them is enough; null in the answer: the token has none of them, or may not do this
   * @throws ProviderError when GitHub does not answer the question
   */
  async function request(path: string, accessToken: string, scopes: readonly string[] = []): Promise<Answer | null> {
    const headers = { ...headersOfAll, authorization: `Bearer ${accessToken}` };
    const response = await fetch(`${api}${path}`, { headers }).catch((cause: unknown): never => {
      throw new ProviderError("GitHub does not answer", { kind: "silent" }, { cause });
    });
    if (response.status === 200) return { body: await response.json(), link: response.headers.get("link") };
    await response.body?.cancel();
    if (response.status === 401) {
      if (await isWithdrawn(accessToken))
        throw new ProviderError("GitHub does not accept the session's token any more", {
          kind: "refused",
          error: "invalid_grant",
        });
    } else if (scopes.length > 0 && isNotAllowed(response, scopes)) return null;
    throw new ProviderError(`GitHub answered with status ${response.status}`, { kind: "silent" });
  }

  /** GitHub's REST API, "Check a token": only 404 says that the token does not count any more. */
  async function isWithdrawn(accessToken: string): Promise<boolean> {
    return (await tokenRequest("POST", accessToken)) === 404;
  }

  /** @returns the status; 0: no answer */
  async function tokenRequest(method: "POST" | "DELETE", accessToken: string): Promise<number> {
    try {
      const response = await fetch(`${api}/applications/${encodeURIComponent(clientId)}/token`, {
        method,
        headers: {
          ...headersOfAll,
          authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString("base64")}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ access_token: accessToken }),
      });
      await response.body?.cancel();
      return response.status;
    } catch {
      return 0; // the health record has counted it
    }
  }

  async function list(path: string, accessToken: string, scopes: readonly string[]): Promise<readonly Json[]> {
    const all: Json[] = [];
    for (let page = 1; page <= pagesMax; page++) {
      const found = await request(`${path}?per_page=${perPage}&page=${page}`, accessToken, scopes);
      if (found === null) return all;
      const { body, link } = found;
      if (!Array.isArray(body)) throw new ProviderError(`GitHub's answer to ${path} is no list`, { kind: "silent" });
      all.push(...body.filter(isRecord));
      // A page may have fewer entries than asked for, and more may follow.
      const isLast = link === null ? body.length < perPage : !/;\s*rel="next"/.test(link);
      if (isLast) return all;
    }
    throw new ProviderError(`GitHub lists more than ${pagesMax * perPage} entries for ${path}`, { kind: "silent" });
  }

  async function describe({ accessToken }: ProviderTokens): Promise<ProviderDescription> {
    if (accessToken === null) throw new ProviderError("there is no access token of GitHub", { kind: "untrue" });
    const [user, emails, teams, organizations] = await Promise.all([
      request("/user", accessToken),
      list("/user/emails", accessToken, emailScopes),
      list("/user/teams", accessToken, organizationScopes),
      list("/user/orgs", accessToken, organizationScopes),
    ]);
    return descriptionOf(web, { user: user?.body, emails, teams, organizations });
  }

  return {
    describe,
    async check() {
      const response = await fetch(`${api}/rate_limit`, { headers: headersOfAll });
      await response.body?.cancel();
      if (response.status >= 500) throw new ProviderError("GitHub's API does not answer", { kind: "silent" });
    },
    async revoke({ accessToken }) {
      if (accessToken !== null) await tokenRequest("DELETE", accessToken);
    },
  };
}

/** @throws ProviderError if the answer names no account */
function descriptionOf(
  issuer: string,
  said: Readonly<{ user: unknown; emails: readonly Json[]; teams: readonly Json[]; organizations: readonly Json[] }>,
): ProviderDescription {
  const { user, emails, teams, organizations } = said;
  const id = isRecord(user) ? user["id"] : undefined;
  if (!isRecord(user) || !Number.isSafeInteger(id) || typeof user["login"] !== "string")
    throw new ProviderError("GitHub's answer names no account", { kind: "untrue" });
  const email = verifiedEmail(emails);
  const claims = {
    iss: issuer,
    sub: String(id),
    login: user["login"],
    preferred_username: user["login"],
    ...(typeof user["name"] === "string" ? { name: user["name"] } : {}),
    ...(typeof user["avatar_url"] === "string" ? { picture: user["avatar_url"] } : {}),
    ...(email === undefined ? {} : { email, email_verified: true }),
    groups: teams.flatMap((team) => teamName(team) ?? []),
    organizations: organizations.flatMap(({ login }) => (typeof login === "string" ? [login] : [])),
  };
  return { profile: profileOf(issuer, String(id), claims), isFromUserinfo: (claim) => Object.hasOwn(claims, claim) };
}

/** Where GitHub documents its REST API: on github.com, with data residency, on an Enterprise server. */
function apiOf({ protocol, host, hostname, href }: URL): string {
  if (hostname === "github.com") return "https://api.github.com";
  return hostname.endsWith(".ghe.com") ? `${protocol}//api.${host}` : `${href.replace(/\/$/, "")}/api/v3`;
}

/**
 * Whether a 403 or 404 says that the person or the organization did not allow this. GitHub answers 403 also to a client
 * that asks too often; a membership must not end by that.
 */
function isNotAllowed(
  { status, headers }: Readonly<{ status: number; headers: Readonly<{ get(name: string): string | null }> }>,
  scopes: readonly string[],
): boolean {
  if (status !== 403 && status !== 404) return false;
  const granted = headers.get("x-oauth-scopes"); // OAuth apps
  if (granted !== null && granted.trim() !== "")
    return !granted.split(",").some((scope) => scopes.includes(scope.trim()));
  return headers.get("x-accepted-github-permissions") !== null; // GitHub Apps
}

function verifiedEmail(emails: readonly Json[]): string | undefined {
  const verified = emails.filter(({ email, verified: isVerified }) => isVerified === true && typeof email === "string");
  const found = verified.find(({ primary }) => primary === true) ?? verified[0];
  return typeof found?.["email"] === "string" ? found["email"] : undefined;
}

function teamName({ slug, organization }: Json): string | undefined {
  const owner = isRecord(organization) ? organization["login"] : undefined;
  return typeof slug === "string" && typeof owner === "string" ? `${owner}/${slug}` : undefined;
}

function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
