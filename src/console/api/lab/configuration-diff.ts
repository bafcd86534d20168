/**
 * Difference of two configurations: `GET /configurations/{a}/diff/{b}`. What changed by path, and who gains or loses a
 * route, counted among the people that this server knows now.
 *
 * It works in slices, and has bounds in bytes and in time: what it leaves out is counted.
 */
import {
  type AccessState,
  describePerson,
  evaluateAccess,
  evaluateAnonymous,
  type PastConfiguration,
  type PastRoute,
  readStoredConfiguration,
} from "../../../audit/index.ts";
import type { RoutePolicy } from "../../../auth/index.ts";
import { canonicalJson } from "../../../config/index.ts";
import { configTextOf, type UserId } from "../../../events/index.ts";
import { findConfiguration } from "../operator-configurations.ts";
import type { OperatorApiDeps, RegisterRoute } from "../operator-route.ts";
import { type ConfigChanges, ConfigDiffer } from "./config-changes.ts";
import { createSlices } from "./replay-run.ts";

type RouteRef = Readonly<{ id: string; name: string; from: string }>;
export type RouteEffect = Readonly<{
  route: RouteRef;
  people: number;
  /** Of them, those whose answer depends on the request. */
  conditional: number;
  /** The first of them. */
  named: readonly Readonly<{ userId: UserId; email: string; name: string }>[];
}>;
export type ConfigurationDiff = ConfigChanges &
  Readonly<{
    a: string;
    b: string;
    routes: Readonly<{
      added: readonly RouteRef[];
      removed: readonly RouteRef[];
      changed: readonly (RouteRef & Readonly<{ keys: readonly string[] }>)[];
    }>;
    gains: readonly RouteEffect[];
    loses: readonly RouteEffect[];
    notes: readonly Readonly<{ route: string; note: string }>[];
    unchecked: number;
    applied: number;
  }>;

const effectMsMax = 10_000;
const namedMax = 20;
const routesMax = 1_000;

export function registerConfigurationDiff(route: RegisterRoute, deps: OperatorApiDeps): void {
  let isRunning = false;
  route("GET /configurations/:a/diff/:b", async (request, reply) => {
    const { a, b } = request.params as { a: string; b: string };
    const [from, to] = [await findConfiguration(deps, a), await findConfiguration(deps, b)];
    if ("error" in from) return reply.code(from.status).send({ error: `${a}: ${from.error}` });
    if ("error" in to) return reply.code(to.status).send({ error: `${b}: ${to.error}` });
    if (isRunning)
      return reply.code(503).header("retry-after", "2").send({
        error: "another comparison of configurations runs on this server: try again",
        code: "diff-busy",
      });
    isRunning = true;
    const gone = new AbortController();
    const leave = (): void => gone.abort();
    reply.raw.once("close", leave);
    try {
      const pause = createSlices(deps, gone.signal);
      const [before, after] = [JSON.parse(configTextOf(from.stored.body)), JSON.parse(configTextOf(to.stored.body))];
      const written = await compareTexts(before, after, pause);
      const effect = await compareAccess(deps, {
        from: readStoredConfiguration(from.stored),
        to: readStoredConfiguration(to.stored),
        pause,
      });
      const hashes = { a: from.view.configHash, b: to.view.configHash };
      const answer: ConfigurationDiff = { ...hashes, ...written, ...effect };
      return answer;
    } finally {
      isRunning = false;
      reply.raw.off("close", leave);
    }
  });
}

type Text = Readonly<{ routes?: readonly Readonly<Record<string, unknown>>[] }>;

/** Route by route, because a configuration may have ten thousand. */
async function compareTexts(
  { routes: before = [], ...from }: Text,
  { routes: after = [], ...to }: Text,
  pause: () => Promise<void>,
): Promise<ConfigChanges & Pick<ConfigurationDiff, "routes">> {
  const differ = new ConfigDiffer();
  const byId = (list: typeof before): ReadonlyMap<string, Readonly<Record<string, unknown>>> =>
    new Map(list.map((route) => [String(route["id"]), route]));
  const [old, fresh] = [byId(before), byId(after)];
  const added: RouteRef[] = [];
  const removed: RouteRef[] = [];
  const changed: (RouteRef & { keys: readonly string[] })[] = [];
  for (const id of new Set([...old.keys(), ...fresh.keys()])) {
    await pause();
    const [one, other] = [old.get(id), fresh.get(id)];
    if (one !== undefined && other !== undefined) {
      const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter(
        (key) => canonicalJson(one[key]) !== canonicalJson(other[key]),
      );
      if (keys.length > 0) changed.push({ ...refOf(other), keys });
    } else if (other !== undefined) added.push(refOf(other));
    else if (one !== undefined) removed.push(refOf(one));
    differ.compare(`routes[${id}]`, one, other);
  }
  differ.compare("", from, to);
  const few = <T>(list: readonly T[]): readonly T[] => list.slice(0, routesMax);
  return { ...differ.result(), routes: { added: few(added), removed: few(removed), changed: few(changed) } };
}

function refOf({ id, name, from }: Readonly<Record<string, unknown>>): RouteRef {
  const text = (value: unknown): string => (typeof value === "string" ? value.slice(0, 500) : "");
  return { id: text(id), name: text(name), from: text(from) };
}

type Compared = { readonly ref: RouteRef; readonly before: RoutePolicy | null; readonly after: RoutePolicy | null };
type Counted = { people: number; conditional: number; named: RouteEffect["named"][number][] };

async function compareAccess(
  { replica, now }: OperatorApiDeps,
  { from, to, pause }: Readonly<{ from: PastConfiguration; to: PastConfiguration; pause: () => Promise<void> }>,
): Promise<Pick<ConfigurationDiff, "gains" | "loses" | "notes" | "unchecked" | "applied">> {
  const notes: { route: string; note: string }[] = [];
  const compared = comparedRoutes(from, to, notes);
  const { projection, places, applied: link } = replica;
  const at = now();
  const state: AccessState = { at, link, projection, places, open: replica.open.bind(replica) };
  const [gained, lost] = [new Map<Compared, Counted>(), new Map<Compared, Counted>()];
  const answerOf = (policy: RoutePolicy | null, described: Parameters<typeof evaluateAccess>[1]): number =>
    policy === null ? 0 : rank[evaluateAccess(policy, described, at).result];
  const endsAt = now() + effectMsMax;
  let unchecked = 0;
  if (compared.length > 0)
    for (const user of projection.users()) {
      if (unchecked > 0 || now() >= endsAt) {
        unchecked += 1;
        continue;
      }
      await pause();
      const described = describePerson(state, user);
      if (described === undefined || described.principal === null) continue;
      for (const [index, route] of compared.entries()) {
        if (index % 50 === 49) await pause();
        const [before, after] = [answerOf(route.before, described), answerOf(route.after, described)];
        if (before === after) continue;
        const counts = after > before ? gained : lost;
        const counted = counts.get(route) ?? { people: 0, conditional: 0, named: [] };
        counts.set(route, counted);
        counted.people += 1;
        if (Math.min(before, after) > 0 || Math.max(before, after) === 1) counted.conditional += 1;
        const { email = "", name = "" } = described.profile ?? {};
        if (counted.named.length < namedMax) counted.named.push({ userId: user.userId, email, name });
      }
    }
  const listed = (counts: ReadonlyMap<Compared, Counted>): readonly RouteEffect[] =>
    [...counts]
      .map(([{ ref: route }, counted]) => ({ route, ...counted }))
      .sort((a, b) => b.people - a.people || (a.route.id < b.route.id ? -1 : 1))
      .slice(0, routesMax);
  return {
    gains: listed(gained),
    loses: listed(lost),
    notes: notes.slice(0, routesMax),
    unchecked,
    applied: link.position,
  };
}

const rank = { deny: 0, conditional: 1, permit: 2 } as const;

/** The routes whose rules differ, or that only one of the two has. */
function comparedRoutes(
  from: PastConfiguration,
  to: PastConfiguration,
  notes: { route: string; note: string }[],
): readonly Compared[] {
  return [...new Set([...from.routes.keys(), ...to.routes.keys()])].flatMap((id): Compared[] => {
    const [one, other] = [from.routes.get(id), to.routes.get(id)];
    if (one !== undefined && other !== undefined && rulesOf(one) === rulesOf(other)) return [];
    const known = other ?? one;
    if (known === undefined) return [];
    const problem = [one, other].find((each) => each !== undefined && each.policy === null)?.problem;
    if (problem !== undefined) {
      notes.push({ route: id, note: `the policy cannot be evaluated: ${problem ?? ""}` });
      return [];
    }
    const [before, after] = [one?.policy ?? null, other?.policy ?? null];
    const isOpen = (policy: RoutePolicy | null): boolean =>
      policy !== null && evaluateAnonymous(policy, 0 as never).result === "permit";
    if (isOpen(before) !== isOpen(after))
      notes.push({ route: id, note: isOpen(after) ? "it is open to everyone" : "it was open to everyone" });
    const { name, from: address } = known.route;
    return [{ ref: { id, name, from: String(address) }, before, after }];
  });
}

function rulesOf({ route }: PastRoute): string {
  const { policy, subPolicies, allowedUsers, allowedDomains, allowedIdpClaims, requiresClientCertificate } = route;
  const { allowPublicUnauthenticatedAccess, allowAnyAuthenticatedUser, corsAllowPreflight } = route;
  return canonicalJson([
    ...[policy?.ppl ?? null, subPolicies.map((sub) => sub.policy?.ppl ?? null)],
    ...[allowedUsers, allowedDomains, allowedIdpClaims, requiresClientCertificate],
    ...[allowPublicUnauthenticatedAccess, allowAnyAuthenticatedUser, corsAllowPreflight],
  ]);
}
