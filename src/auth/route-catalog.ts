/**
 * Route catalog: the routes of a configuration, searched for one person.
 *
 * - Pure. A search is a generator that yields after each route, so that its caller can let other work run in between:
 *   with 10,000 routes it takes far longer than one turn of the event loop may.
 * - A page needs only as many decisions as it takes to fill it.
 * - A cursor that names a route which the person may not see counts as none: it would tell where the route stands.
 * - A route that refuses the person appears only if its configuration makes it `discoverable`. To everyone else it does
 *   not exist, as in Pomerium: neither its name nor that there is one.
 */
import type { RouteConfig } from "../config/index.ts";
import { type Policies, requirementsOf } from "./authorize/compile.ts";
import type { Decision } from "./authorize/decide.ts";
import type { RouteRequirements } from "./authorize/requirements.ts";
import { createRouteProbe, type ListedRoute, type ListRoutesQuery, listedRouteOf } from "./route-list.ts";

/** How a person opens a route. */
export type RouteKind = "web" | "tcp" | "udp" | "ssh" | "kubernetes";

export type FoundRoute = ListedRoute &
  Readonly<{
    kind: RouteKind;
    /** Where a browser opens it; null: not in a browser, or the address is a pattern. */
    url: string | null;
    /** What to type in a terminal; null: nothing. */
    command: string | null;
  }>;

export type RefusedRoute = FoundRoute &
  Readonly<{
    reasons: readonly string[];
    /** What the route requires. */
    explain: RouteRequirements | null;
    /** Set where the person can ask for access (`request_access`). */
    canRequest?: true;
  }>;

export type RouteSearch = Readonly<{
  /** Every word must occur in the name, the description, the address or the owner. */
  text: string;
  show: "permitted" | "refused";
  /** Only these routes; null: all. */
  ids: ReadonlySet<string> | null;
  /** Continue behind this route, in the order of names; null: from the first. */
  after: string | null;
  limit: number;
}>;

export type RouteSearchResult = Readonly<{
  routes: readonly (FoundRoute | RefusedRoute)[];
  /** The last route of this page, if there are more. */
  next: string | null;
}>;

export type RouteCatalog = Readonly<{
  /** Every permitted route, in the order of the configuration file. */
  list(query: ListRoutesQuery): Generator<undefined, readonly ListedRoute[]>;
  /** In the order of names. */
  search(query: ListRoutesQuery, search: RouteSearch): Generator<undefined, RouteSearchResult>;
}>;

/** Longest search text (characters), and most words of it. */
const textCharsMax = 200;
const wordsMax = 10;

export function createRouteCatalog({
  routes,
  policies,
}: Readonly<{ routes: readonly RouteConfig[]; policies: Policies }>): RouteCatalog {
  const entries = routes
    .map((route) => ({ route, words: wordsOf(route), key: route.name.toLowerCase() }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const indexOf = new Map(entries.map(({ route }, index) => [route.id, index]));
  return {
    *list(query) {
      const probe = createRouteProbe(policies, query);
      const found: ListedRoute[] = [];
      for (const route of routes) {
        if (probe(route).type === "permit") found.push(listedRouteOf(route, query.origin));
        yield undefined;
      }
      return found;
    },
    *search(query, { text, show, ids, after, limit }) {
      const probe = createRouteProbe(policies, query);
      const wanted = text
        .slice(0, textCharsMax)
        .toLowerCase()
        .split(/\s+/)
        .filter((word) => word !== "")
        .slice(0, wordsMax);
      const found: (FoundRoute | RefusedRoute)[] = [];
      const isShown = ({ route }: (typeof entries)[number], decision: Decision): boolean =>
        (decision.type === "permit") === (show === "permitted") && (show === "permitted" || route.discoverable);
      const last = after === null ? undefined : entries[indexOf.get(after) ?? -1];
      const start = last === undefined || !isShown(last, probe(last.route)) ? 0 : entries.indexOf(last) + 1;
      for (const entry of entries.slice(start)) {
        yield undefined;
        if (ids !== null && !ids.has(entry.route.id)) continue;
        if (show === "refused" && !entry.route.discoverable) continue;
        if (!wanted.every((word) => entry.words.includes(word))) continue;
        const decision = probe(entry.route);
        if (!isShown(entry, decision)) continue;
        if (found.length === limit) return { routes: found, next: found.at(-1)?.id ?? null };
        const route = foundRouteOf(entry.route, query.origin);
        found.push(
          decision.type === "permit"
            ? route
            : {
                ...route,
                reasons: decision.reasons,
                explain: requirementsOf(policies, route.id),
                ...canRequest(entry.route, query),
              },
        );
      }
      return { routes: found, next: null };
    },
  };
}

/** An approval would make no difference to a person who is in the group. */
function canRequest({ requestAccess }: RouteConfig, { principal }: ListRoutesQuery): Pick<RefusedRoute, "canRequest"> {
  return requestAccess === null || principal.groups.has(requestAccess.group) ? {} : { canRequest: true };
}

function wordsOf({ name, description, owner, from, tunnel, match }: RouteConfig): string {
  const targets = (tunnel?.targets ?? []).map(({ host, port }) => `${host}:${port}`);
  const path = match.kind === "regex" || match.value === "/" ? "" : match.value;
  return [name, description, owner, from.host, path, ...targets].join("\n").toLowerCase();
}

function foundRouteOf(route: RouteConfig, origin: URL): FoundRoute {
  const listed = listedRouteOf(route, origin);
  const kind = kindOf(route);
  // A pattern does not name one address.
  const isPattern = route.from.host.includes("*");
  const port = route.from.port === "" && origin.port !== "" ? `:${origin.port}` : "";
  if (listed.type === "http") {
    const start = `${route.from.origin}${port}`;
    const path = listed.address === undefined ? "/" : listed.address.slice(listed.from.length);
    const url = isPattern ? null : `${start}${path}`;
    return { ...listed, kind, url, command: kind === "kubernetes" && !isPattern ? kubectlCommand(start) : null };
  }
  return {
    ...listed,
    kind,
    url: null,
    command: kind === "ssh" ? sshCommand(route, port) : (listed.connect_command ?? null),
  };
}

function kindOf({ tunnel, kubernetes }: RouteConfig): RouteKind {
  if (tunnel === null) return kubernetes === null ? "web" : "kubernetes";
  const [first] = tunnel.targets;
  return tunnel.kind === "tcp" && first?.port === 22 ? "ssh" : tunnel.kind;
}

/** Null: the target is a pattern, and the person writes the host. */
function sshCommand({ from, tunnel }: RouteConfig, port: string): string | null {
  const host = tunnel?.targets[0]?.host ?? "";
  if (host === "" || host.includes("*")) return null;
  const own = `${from.origin}${port}`;
  const proxy = tunnel?.behindProxy === true || own !== `https://${host}` ? ` --proxy-url ${own}` : "";
  return `ssh -o ProxyCommand="cardea ssh-proxy %h %p${proxy}" ${host}`;
}

/** Three settings of kubectl, which then signs people in by itself. */
function kubectlCommand(server: string): string {
  const { host } = new URL(server);
  const credential = "--exec-api-version=client.authentication.k8s.io/v1 --exec-command=cardea";
  return [
    `kubectl config set-cluster ${host} --server=${server}`,
    `kubectl config set-credentials ${host} ${credential} --exec-arg=k8s --exec-arg=exec-credential --exec-arg=${server}`,
    `kubectl config set-context ${host} --cluster=${host} --user=${host}`,
  ].join(" && ");
}
