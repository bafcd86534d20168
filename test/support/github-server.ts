/**
 * GitHub, as far as its documentation describes OAuth apps and the REST API that sign-in uses: the web application flow
 * with PKCE, errors of the token endpoint with status 200, the person's account, e-mails, teams and organizations, and
 * the check and the deletion of a token.
 */
import { createHash, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

export type GitHubAccount = {
  id: number;
  login: string;
  name: string | null;
  emails: { email: string; primary: boolean; verified: boolean; visibility: "public" | "private" | null }[];
  teams: { slug: string; organization: string }[];
  organizations: string[];
};

export type GitHubServer = Readonly<{
  origin: URL;
  /** The account that is signed in at GitHub. */
  account: GitHubAccount;
  clientId: string;
  clientSecret: string;
  /** What a person grants, of what the client asks for. */
  state: {
    granted: readonly string[] | "all";
    apiStatus: number | null;
    rateLimited: boolean;
    sendsCode: boolean;
    /** As for a GitHub App: tokens expire, and a refresh token is valid once. */
    expires: boolean;
    /** Entries that each page of a list lacks. */
    missing: number;
  };
  tokens: Map<string, Readonly<{ scopes: readonly string[] }>>;
  /** Method and path of each request. */
  requests: string[];
}>;

type Reply = Readonly<{ status: number; body?: unknown; headers?: Readonly<Record<string, string>> }>;
type Grant = Readonly<{ challenge: string; redirectUri: string; scopes: readonly string[] }>;

export async function startGitHub(
  t: Pick<TestContext, "after">,
  { hostname = "github.localhost" }: Readonly<{ hostname?: string }> = {},
): Promise<GitHubServer> {
  const server = createServer((req, res) => void serve(req, res));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = new URL(`http://${hostname}:${(server.address() as AddressInfo).port}`);
  const github: GitHubServer = {
    origin,
    account: {
      ...{ id: 583_231, login: "octocat", name: "The Octocat", organizations: ["github"] },
      emails: [
        { email: "old@example.com", primary: false, verified: true, visibility: null },
        { email: "octocat@example.com", primary: true, verified: true, visibility: "private" },
      ],
      teams: [{ slug: "justice-league", organization: "github" }],
    },
    clientId: "Iv1.8a61f9b3a7aba766",
    clientSecret: "the client secret of an OAuth app",
    state: { granted: "all", apiStatus: null, rateLimited: false, sendsCode: true, expires: false, missing: 0 },
    tokens: new Map(),
    requests: [],
  };
  const codes = new Map<string, Grant>();
  const refreshTokens = new Set<string>();

  async function serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of req) text += String(chunk);
    const url = new URL(req.url ?? "/", origin);
    github.requests.push(`${req.method} ${url.pathname}`);
    const { status, body, headers } = answer(req, url, text);
    res.writeHead(status, { "content-type": "application/json; charset=utf-8", ...headers });
    res.end(body === undefined ? undefined : JSON.stringify(body));
  }

  function answer(req: IncomingMessage, url: URL, text: string): Reply {
    if (url.pathname === "/login/oauth/authorize") return authorize(url);
    if (url.pathname === "/login/oauth/access_token") return accessToken(req, new URLSearchParams(text));
    return url.pathname.startsWith("/api/v3/") ? api(req, url, text) : { status: 404, body: { message: "Not Found" } };
  }

  function authorize({ searchParams: query }: URL): Reply {
    const redirectUri = query.get("redirect_uri") ?? "";
    const to = new URL(redirectUri);
    to.searchParams.set("state", query.get("state") ?? "");
    if (query.get("client_id") !== github.clientId || query.get("code_challenge_method") !== "S256")
      return { status: 404 };
    if (!github.state.sendsCode) {
      to.searchParams.set("error", "access_denied");
      to.searchParams.set("error_description", "The user has denied your application access.");
      return { status: 302, headers: { location: to.href } };
    }
    const code = randomBytes(10).toString("hex");
    const asked = (query.get("scope") ?? "").split(" ");
    const { granted } = github.state;
    const scopes = granted === "all" ? asked : asked.filter((scope) => granted.includes(scope));
    codes.set(code, { challenge: query.get("code_challenge") ?? "", redirectUri, scopes });
    to.searchParams.set("code", code);
    return { status: 302, headers: { location: to.href } };
  }

  function accessToken({ headers }: IncomingMessage, form: URLSearchParams): Reply {
    if (!String(headers.accept).includes("application/json")) return { status: 200, body: "form-encoded by default" };
    // GitHub reports errors of this endpoint with status 200.
    const refuse = (error: string): Reply => ({
      status: 200,
      body: { error, error_description: "no", error_uri: "/" },
    });
    if (form.get("client_id") !== github.clientId || form.get("client_secret") !== github.clientSecret)
      return refuse("incorrect_client_credentials");
    if (form.get("grant_type") === "refresh_token")
      return refreshTokens.delete(form.get("refresh_token") ?? "")
        ? issue(["user:email", "read:org"])
        : refuse("bad_refresh_token");
    const grant = codes.get(form.get("code") ?? "");
    codes.delete(form.get("code") ?? "");
    const hash = createHash("sha256")
      .update(form.get("code_verifier") ?? "")
      .digest("base64url");
    if (grant === undefined || hash !== grant.challenge) return refuse("bad_verification_code");
    if (form.get("redirect_uri") !== grant.redirectUri) return refuse("redirect_uri_mismatch");
    return issue(grant.scopes);
  }

  function issue(scopes: readonly string[]): Reply {
    const token = `gho_${randomBytes(18).toString("base64url")}`;
    github.tokens.set(token, { scopes });
    const body = { access_token: token, scope: scopes.join(","), token_type: "bearer" };
    if (!github.state.expires) return { status: 200, body };
    const refreshToken = `ghr_${randomBytes(18).toString("base64url")}`;
    refreshTokens.add(refreshToken);
    const expiring = { expires_in: 28_800, refresh_token: refreshToken, refresh_token_expires_in: 15_897_600 };
    return { status: 200, body: { ...body, ...expiring } };
  }

  function api({ method, headers }: IncomingMessage, url: URL, text: string): Reply {
    const { apiStatus, rateLimited } = github.state;
    if (headers["user-agent"] === undefined) return { status: 403, body: { message: "no user agent" } };
    if (apiStatus !== null) return { status: apiStatus, body: { message: "…" } };
    if (url.pathname === "/api/v3/rate_limit") return { status: 200, body: { resources: {} } };
    if (url.pathname === `/api/v3/applications/${github.clientId}/token`) {
      const basic = `Basic ${Buffer.from(`${github.clientId}:${github.clientSecret}`).toString("base64")}`;
      if (headers.authorization !== basic) return { status: 401, body: { message: "Bad credentials" } };
      const { access_token: token = "" } = JSON.parse(text) as { access_token?: string };
      if (!github.tokens.has(token)) return { status: 404, body: { message: "Not Found" } };
      if (method === "DELETE") github.tokens.delete(token);
      return method === "DELETE" ? { status: 204 } : { status: 200, body: { token } };
    }
    const token = github.tokens.get(/^Bearer (.+)$/.exec(headers.authorization ?? "")?.[1] ?? "");
    if (token === undefined) return { status: 401, body: { message: "Bad credentials" } };
    const scoped = { "x-oauth-scopes": token.scopes.join(", ") };
    if (rateLimited && url.pathname !== "/api/v3/user")
      return { status: 403, body: { message: "You have exceeded a secondary rate limit." }, headers: scoped };
    const { headers: own, ...rest } = resource(url, token.scopes);
    return { ...rest, headers: { ...own, ...scoped } };
  }

  function resource({ pathname, searchParams }: URL, scopes: readonly string[]): Reply {
    const { id, login, name, emails, teams, organizations } = github.account;
    const page = <Entry>(entries: readonly Entry[], scope: string): Reply => {
      if (!scopes.includes(scope)) return { status: 404, body: { message: "Not Found" } };
      const size = Number(searchParams.get("per_page") ?? 30);
      const from = (Number(searchParams.get("page") ?? 1) - 1) * size;
      const linkTo = (rel: string, number: number): string =>
        `<${new URL(`${pathname}?per_page=${size}&page=${number}`, origin).href}>; rel="${rel}"`;
      const links = [
        ...(from > 0 ? [linkTo("prev", from / size)] : []),
        ...(from + size < entries.length ? [linkTo("next", from / size + 2)] : []),
      ];
      const headers: Record<string, string> = links.length === 0 ? {} : { link: links.join(", ") };
      // A page may have fewer entries than asked for.
      return { status: 200, body: entries.slice(from, from + size - github.state.missing), headers };
    };
    switch (pathname) {
      case "/api/v3/user":
        return { status: 200, body: { id, login, name, email: null, avatar_url: "https://avatars.example/u/1" } };
      case "/api/v3/user/emails":
        return page(emails, "user:email");
      case "/api/v3/user/teams":
        return page(
          teams.map(({ slug, organization }, i) => ({
            id: i,
            slug,
            name: slug,
            organization: { login: organization },
          })),
          "read:org",
        );
      case "/api/v3/user/orgs":
        return page(
          organizations.map((each, i) => ({ id: i, login: each })),
          "read:org",
        );
      default:
        return { status: 404, body: { message: "Not Found" } };
    }
  }

  return github;
}
