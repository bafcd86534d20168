/**
 * Demo control server: lets a test or a terminal change the groups of a demo user. It has its own listener on loopback,
 * so no request through the proxy can reach it.
 *
 *   curl -X PUT -H 'content-type: application/json' -d '["sales"]' http://127.0.0.1:…/demo/users/alice/groups
 */
import { createServer, type IncomingMessage } from "node:http";
import { isIP } from "node:net";
import { type DemoUser, parseGroups } from "./demo-users.ts";
import { type ListenAddress, listenServer } from "./listen-server.ts";

export type DemoControlOptions = Readonly<{
  listen: ListenAddress;
  users: () => readonly DemoUser[];
  setGroups: (user: string, groups: readonly string[]) => void;
}>;
export type DemoControl = Readonly<{ url: URL; close: () => Promise<void> }>;

const bodyBytesMax = 65_536;
const loopback = new Set(["127.0.0.1", "::1", "localhost"]);

export async function startDemoControl(options: DemoControlOptions): Promise<DemoControl> {
  if (!loopback.has(options.listen.host)) throw new TypeError("the demo control listens on loopback only");
  const server = createServer((request, response) => {
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
      response.end(`${JSON.stringify(body)}\n`);
    };
    handle(request, options).then(
      ([status, body]) => send(status, body),
      () => send(500, { error: "failed" }),
    );
  });
  const listening = await listenServer(server, options.listen);
  return { url: listening.url, close: listening.close };
}

async function handle(request: IncomingMessage, options: DemoControlOptions): Promise<readonly [number, unknown]> {
  // A page elsewhere can reach loopback: by a name of its own that resolves here, or by a form. Neither gets past these
  // two.
  if (!isLoopbackHost(request.headers.host)) return [403, { error: "use a loopback address" }];
  if (request.headers.origin !== undefined) return [403, { error: "not for browsers" }];
  if (request.method === "GET" && request.url === "/demo/users") return [200, options.users()];
  const user = /^\/demo\/users\/([\w.-]{1,100})\/groups$/.exec(request.url ?? "")?.[1];
  if (user === undefined) return [404, { error: "GET /demo/users or PUT /demo/users/<user>/groups" }];
  if (!options.users().some((known) => known.user === user)) return [404, { error: `there is no user ${user}` }];
  if (request.method !== "PUT") return [405, { error: "PUT a JSON list of group names" }];
  const groups = parseGroups(await readJson(request));
  if (groups === null) return [400, { error: "send a JSON list of group names" }];
  options.setGroups(user, groups);
  return [200, { user, groups }];
}

function isLoopbackHost(host: string | undefined): boolean {
  const hostname = URL.parse(`http://${host ?? ""}`)?.hostname.replace(/^\[|\]$/g, "");
  return (
    hostname !== undefined &&
    (hostname === "localhost" || hostname === "::1" || (isIP(hostname) === 4 && hostname.startsWith("127.")))
  );
}

/** Undefined when it is too long or no JSON. */
async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > bodyBytesMax) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    return undefined;
  }
}
