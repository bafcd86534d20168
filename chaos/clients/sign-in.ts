/** Sign-in: a person in a browser without scripts, from a route through the identity provider and back. */
import { decodeJwt } from "jose";
import { type Dispatcher, request } from "undici";
import { type Link, type Position, parseEpoch, parseHash, parsePosition } from "../../src/events/index.ts";

export type SignedIn = Readonly<{ session: string; cookie: string; needs: Link & Readonly<{ position: Position }> }>;
type SignIn = Readonly<{
  dispatcher: Dispatcher;
  url: URL;
  user: string;
  cookieName: string;
  /** The ports of hosts whose name leads to the nearest region; the others listen at their own. */
  nearest: ReadonlyMap<string, number>;
}>;

const hopsMax = 12;

/** @throws Error naming the step that failed */
export async function signIn({ dispatcher, url: start, user, cookieName, nearest }: SignIn): Promise<SignedIn> {
  const jar = new Map<string, Map<string, string>>();
  let url = start;
  let form: URLSearchParams | undefined;
  for (let hop = 0; hop < hopsMax; hop++) {
    const { statusCode, headers, body } = await request(
      `http://127.0.0.1:${nearest.get(url.hostname) ?? url.port}${url.pathname}${url.search}`,
      {
        dispatcher,
        method: form === undefined ? "GET" : "POST",
        headers: headersFor(url, jar.get(url.hostname), form),
        ...(form !== undefined && { body: form.toString() }),
      },
    );
    await body.dump();
    for (const line of [headers["set-cookie"] ?? []].flat()) keep(jar, url.hostname, line);
    const handle = jar.get(start.hostname)?.get(cookieName);
    if (handle !== undefined) return signedIn(handle, cookieName);
    const { location } = headers;
    if (typeof location === "string") {
      url = new URL(location, url);
      form = undefined;
    } else if (url.pathname.startsWith("/interaction/") && form === undefined && statusCode === 200) {
      form = new URLSearchParams({ user });
    } else throw new Error(`signing in ended with ${statusCode} at ${url.host}${url.pathname}`);
  }
  throw new Error(`signing in goes round: ${url.host}${url.pathname}`);
}

/** Requests a page. Every host is on loopback, so the Host header selects it. */
function headersFor(url: URL, cookies: ReadonlyMap<string, string> | undefined, form: URLSearchParams | undefined) {
  const cookie = [...(cookies ?? [])].map(([name, value]) => `${name}=${value}`).join("; ");
  return {
    host: url.host,
    accept: "text/html",
    "sec-fetch-mode": "navigate",
    ...(cookie !== "" && { cookie }),
    ...(form !== undefined && { origin: url.origin, "content-type": "application/x-www-form-urlencoded" }),
  };
}

function keep(jar: Map<string, Map<string, string>>, host: string, line: string): void {
  const pair = line.split(";", 1)[0] ?? "";
  const cookies = jar.get(host) ?? new Map<string, string>();
  jar.set(host, cookies);
  const [name, value] = [pair.slice(0, pair.indexOf("=")).trim(), pair.slice(pair.indexOf("=") + 1).trim()];
  if (value === "" || /max-age=0(?:;|$)/i.test(line)) cookies.delete(name);
  else cookies.set(name, value);
}

/** Reads the handle without its key, only to compare it with the log. */
function signedIn(handle: string, cookieName: string): SignedIn {
  const claims = decodeJwt(handle);
  return {
    session: claims.jti ?? "",
    cookie: `${cookieName}=${handle}`,
    needs: {
      epoch: parseEpoch(claims["databroker_server_version"]),
      position: parsePosition(claims["databroker_record_version"]),
      hash: parseHash(claims["databroker_record_hash"]),
    },
  };
}
