/** Operators: who has which role in the operator API. Pure. */
import type { Config } from "./config.ts";
import type { Globals } from "./schema/schema.ts";
import type { ProblemReporter } from "./source/source-locations.ts";
import type { OperatorEntry, RoleKey } from "./values/operator-entries.ts";

export function resolveOperators(
  globals: Globals,
  {
    report,
    routes,
  }: Readonly<{ report: ProblemReporter; routes: readonly Readonly<{ routeGroups: readonly string[] }>[] }>,
): Pick<Config, RoleKey> {
  const known = new Set(routes.flatMap(({ routeGroups }) => routeGroups));
  const resolve = (key: RoleKey): readonly OperatorEntry[] => {
    const entries = resolveEntries(globals[key], key, report);
    for (const [i, entry] of entries.entries()) warnOfUnknownGroups(entry, [key, i], { known, report });
    return entries;
  };
  return {
    administrators: resolve("administrators"),
    operators: resolve("operators"),
    viewers: resolve("viewers"),
  };
}

/** Prefixes that state the kind of an entry. */
const kinds = ["group:", "email:", "sub:"];

/**
 * Every entry must state its kind. A bare entry would match a group id, an e-mail address and a subject alike, so a
 * group named like a person would make that person an operator.
 * - A bare e-mail address beside typed entries is read as `email:`, with a warning.
 * - A list of only bare e-mail addresses is refused. Before v0.12, Pomerium had a key `administrators` with another
 *   meaning.
 */
function resolveEntries(
  entries: readonly OperatorEntry[],
  key: RoleKey,
  report: ProblemReporter,
): readonly OperatorEntry[] {
  const isTyped = (name: string): boolean => kinds.some((kind) => name.startsWith(kind));
  const hasTyped = entries.some((entry) => isTyped(nameOf(entry)));
  return entries.map((entry, i) => {
    const name = nameOf(entry);
    if (isTyped(name)) return entry;
    if (hasTyped && /^[^@\s]+@[^@\s]+$/.test(name)) {
      const wrong = "does not state its kind, and is read as an e-mail address";
      report.warn([key, i], wrong, `write email:${name}`);
      return typeof entry === "string" ? `email:${name}` : { ...entry, who: `email:${name}` };
    }
    const before =
      key === "administrators"
        ? " (in Pomerium before v0.12 this key named people who may impersonate others; here it names operators)"
        : "";
    report.error(
      [key, i],
      `does not state whether it is a group, an e-mail address or a subject${before}`,
      `write group:${name}, email:${name} or sub:${name}, or remove the key`,
    );
    return entry;
  });
}

const nameOf = (entry: OperatorEntry): string => (typeof entry === "string" ? entry : entry.who);

/** Only a warning: another process may have the routes. Such an entry gives no right to any route of this one. */
function warnOfUnknownGroups(
  entry: OperatorEntry,
  path: readonly (string | number)[],
  { known, report }: Readonly<{ known: ReadonlySet<string>; report: ProblemReporter }>,
): void {
  if (typeof entry === "string") return;
  const unknown = entry.routeGroups.filter((group) => !known.has(group));
  if (unknown.length === 0) return;
  const wrong = `names ${unknown.join(", ")}, and no route here belongs to such a group`;
  report.warn([...path, "route_groups"], wrong, "check the spelling, or give a route these route_groups");
}
