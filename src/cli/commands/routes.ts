/** `cardea routes list`: the routes that a person may use. */
import { parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";
import { parseProxy } from "../tunnel/destination.ts";
import type { ProxyResponse } from "../tunnel/proxy-client.ts";
import { accessHelp, accessOptions, createAccess, proxyUrlOf } from "../tunnel/tunnel-access.ts";

export const routesList: CliCommand = {
  name: "routes list",
  usage: "<https://proxy | host> [--no-browser]",
  summary: "list the routes that you may use, and how to reach each",
  help: `Name any host of the proxy that has a route. --json prints the routes as JSON, with Pomerium's field names.\n${accessHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, accessOptions, { min: 0, max: 1 });
    const given = parsed.positionals[0] ?? proxyUrlOf(parsed, terminal);
    if (given === undefined) throw new UsageError("name the proxy");
    const proxy = parseProxy(given.includes("://") ? given : `https://${given}`);
    const answer = await createAccess(parsed, terminal).request(new URL("/.pomerium/api/v1/routes", proxy));
    const problem = problemOf(answer);
    if (problem !== null) {
      terminal.err(`${proxy.origin} does not list its routes: ${problem} (${answer.status})\n`);
      return answer.status === 503 ? 3 : 1;
    }
    const routes = routesOf(answer.text);
    if (routes === undefined) throw new CannotError(`${proxy.origin} did not answer with a list of routes`);
    if (parsed.flag("json")) terminal.out(`${JSON.stringify(routes)}\n`);
    else if (routes.length === 0) terminal.out("there is no route that you may use\n");
    else terminal.out(formatTable(["NAME", "TYPE", "ADDRESS", "CONNECT WITH", "DESCRIPTION"], routes.map(rowOf)));
    return 0;
  },
};

function problemOf({ status }: ProxyResponse): string | null {
  if (status === 200) return null;
  if (status === 401 || (status >= 300 && status < 400)) return "it does not accept your sign-in";
  if (status === 404) return "it has no list of routes, or runtime_flags.routes_portal is off";
  return status === 503 ? "it cannot answer right now" : "it did not understand the request";
}

type ListedRoute = Readonly<Record<string, unknown>>;

function routesOf(text: string): readonly ListedRoute[] | undefined {
  try {
    const body: unknown = JSON.parse(text);
    const routes = typeof body === "object" && body !== null && "routes" in body ? body.routes : undefined;
    return Array.isArray(routes) && routes.every((one) => typeof one === "object" && one !== null) ? routes : undefined;
  } catch {
    return undefined;
  }
}

function rowOf(route: ListedRoute): readonly string[] {
  const text = (name: string): string => (typeof route[name] === "string" ? route[name] : "");
  const address = text("address") || text("from");
  return [text("name"), text("type"), address, text("connect_command"), text("description")].map(maskControlCharacters);
}
