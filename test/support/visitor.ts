/**
 * Visitor: a browser without scripts, for tests.
 *
 * - It keeps cookies as browsers do (host, domain, path, age, `__Host-`).
 * - It follows redirects, or stops at each one.
 * - It connects `*.localhost` to loopback.
 */
import { Agent, type Dispatcher, request } from "undici";

export type VisitorResponse = Readonly<{
  url: URL;
  status: number;
  headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  body: string;
  setCookies: readonly string[];
  /** The target of a redirect; null: the response is not a redirect. */
  location: URL | null;
}>;

export type VisitorRequest = Readonly<{
  method?: string;
  headers?: Readonly<Record<string, string>>;
  form?: Readonly<Record<string, string>>;
  body?: string;
}>;

type Cookie = Readonly<{ name: string; value: string; host: string; hostOnly: boolean; path: string; line: string }>;

const hopsMax = 15;

export class Visitor {
  readonly #agent = new Agent({
    connect: {
      lookup: (_hostname, options, callback) =>
        options.all === true ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
    },
  });
  #cookies: Cookie[] = [];

  /** Sends one request without following redirects. Sends and stores cookies. */
  async request(
    target: string | URL,
    { method, headers = {}, form, body }: VisitorRequest = {},
  ): Promise<VisitorResponse> {
    const url = new URL(target);
    const cookie = this.cookieHeader(url);
    const sent = form === undefined ? body : new URLSearchParams(form).toString();
    const answer = await request(url, {
      dispatcher: this.#agent,
      method: (method ?? (form === undefined ? "GET" : "POST")) as Dispatcher.HttpMethod,
      headers: {
        accept: "text/html,application/xhtml+xml",
        ...(cookie === "" ? {} : { cookie }),
        ...(form === undefined ? {} : { "content-type": "application/x-www-form-urlencoded", origin: url.origin }),
        ...headers,
      },
      ...(sent === undefined ? {} : { body: sent }),
    });
    const lines = [answer.headers["set-cookie"] ?? []].flat();
    for (const line of lines) this.keep(url, line);
    const location = answer.headers["location"];
    return {
      url,
      status: answer.statusCode,
      headers: answer.headers as VisitorResponse["headers"],
      body: await answer.body.text(),
      setCookies: lines,
      location: typeof location === "string" ? new URL(location, url) : null,
    };
  }

  /**
   * Follows redirects until one leads to a URL that starts with `until`. Returns that redirect without following it.
   */
  async navigate(
    target: string | URL,
    options: VisitorRequest & Readonly<{ until?: string }> = {},
  ): Promise<VisitorResponse> {
    const { until, ...requestOptions } = options;
    let next: URL | null = new URL(target);
    let how: VisitorRequest = requestOptions;
    for (let hop = 0; hop < hopsMax; hop++) {
      const answer: VisitorResponse = await this.request(next, how);
      next = answer.location;
      if (next === null || (until !== undefined && next.href.startsWith(until))) return answer;
      how = requestOptions.headers === undefined ? {} : { headers: requestOptions.headers };
    }
    throw new Error(`more than ${hopsMax} redirects, the last to ${next.origin}${next.pathname}`);
  }

  keep(url: URL, line: string): void {
    const [pair = "", ...attributes] = line.split(";").map((part) => part.trim());
    const name = pair.slice(0, pair.indexOf("="));
    const value = pair.slice(pair.indexOf("=") + 1);
    const attribute = (wanted: string): string | undefined =>
      attributes.find((each) => each.toLowerCase().startsWith(`${wanted}=`))?.slice(wanted.length + 1);
    const domain = attribute("domain")?.replace(/^\./, "");
    const host = domain ?? url.hostname;
    if (host !== url.hostname && !url.hostname.endsWith(`.${host}`)) return;
    const path = attribute("path") ?? "/";
    const isHostCookie = name.startsWith("__Host-");
    if (isHostCookie && (url.protocol !== "https:" || domain !== undefined || path !== "/")) return;
    this.#cookies = this.#cookies.filter(
      (cookie) => !(cookie.name === name && cookie.host === host && cookie.path === path),
    );
    const expired = Number(attribute("max-age") ?? 1) <= 0;
    if (!expired) this.#cookies.push({ name, value, host, hostOnly: domain === undefined, path, line });
  }

  cookieHeader(url: URL): string {
    return this.#cookies
      .filter(({ host, hostOnly, path }) => {
        const hostFits = host === url.hostname || (!hostOnly && url.hostname.endsWith(`.${host}`));
        return hostFits && (url.pathname === path || url.pathname.startsWith(path.endsWith("/") ? path : `${path}/`));
      })
      .sort((a, b) => b.path.length - a.path.length)
      .map(({ name, value }) => `${name}=${value}`)
      .join("; ");
  }

  cookie(host: string, name: string): string | undefined {
    return this.#cookies.find((cookie) => cookie.host === host && cookie.name === name)?.value;
  }

  /** The whole `Set-Cookie` line of a stored cookie. */
  lineOf(host: string, name: string): string | undefined {
    return this.#cookies.find((cookie) => cookie.host === host && cookie.name === name)?.line;
  }

  cookieNames(host: string): readonly string[] {
    return this.#cookies.filter((cookie) => cookie.host === host).map(({ name }) => name);
  }

  forget(host: string, name?: string): void {
    this.#cookies = this.#cookies.filter(
      (cookie) => cookie.host !== host || (name !== undefined && cookie.name !== name),
    );
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}
