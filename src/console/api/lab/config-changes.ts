/**
 * Configuration changes: what differs between two stored configurations, by path. Pure, and bounded.
 *
 * - Routes and other entries with an id or a name are compared by it, other lists without their equal beginning and
 *   end.
 * - Secrets are digests in the stored text. A changed one is shown as `secret`, without either digest.
 */
import { canonicalJson } from "../../../config/index.ts";

export type ConfigChange = Readonly<{
  path: string;
  kind: "added" | "removed" | "changed" | "secret";
  /** Null where it was added, or is a secret. */
  from: unknown;
  to: unknown;
}>;
export type ConfigChanges = Readonly<{ changes: readonly ConfigChange[]; moreChanges: number }>;

const changesMax = 2_000;
/** Longest value that is shown whole, characters as JSON. */
const shownCharsMax = 2_000;
const secretText = "hmac-sha256:";
const redactedText = "(secret)";

type Tree = Readonly<Record<string, unknown>>;
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null && !Array.isArray(value);
const hasOwn = (of: Tree, key: string): boolean => Object.hasOwn(of, key);

export class ConfigDiffer {
  readonly #changes: ConfigChange[] = [];
  #more = 0;

  /** Adds the differences of two values; undefined: absent. */
  compare(path: string, from: unknown, to: unknown): void {
    if (isSame(from, to)) return;
    if (isTree(from) && isTree(to)) {
      for (const key of new Set([...Object.keys(from), ...Object.keys(to)]))
        this.compare(
          stepInto(path, key),
          hasOwn(from, key) ? from[key] : undefined,
          hasOwn(to, key) ? to[key] : undefined,
        );
    } else if (Array.isArray(from) && Array.isArray(to)) this.#compareLists(path, from, to);
    else this.#add(path, from, to);
  }

  result(): ConfigChanges {
    return { changes: this.#changes, moreChanges: this.#more };
  }

  #compareLists(path: string, from: readonly unknown[], to: readonly unknown[]): void {
    const named = [from, to].map(namesOf);
    const [before, after] = named;
    if (before !== null && before !== undefined && after !== null && after !== undefined) {
      for (const name of new Set([...before.keys(), ...after.keys()]))
        this.compare(`${path}[${name}]`, before.get(name), after.get(name));
      const order = (of: ReadonlyMap<string, unknown>, other: ReadonlyMap<string, unknown>): string =>
        JSON.stringify([...of.keys()].filter((name) => other.has(name)));
      if (order(before, after) !== order(after, before))
        this.#add(`${path} (order)`, [...before.keys()], [...after.keys()]);
      return;
    }
    let start = 0;
    while (start < Math.min(from.length, to.length) && isSame(from[start], to[start])) start += 1;
    let end = 0;
    const most = Math.min(from.length, to.length) - start;
    while (end < most && isSame(from[from.length - 1 - end], to[to.length - 1 - end])) end += 1;
    const [old, fresh] = [from.slice(start, from.length - end), to.slice(start, to.length - end)];
    for (let i = 0; i < Math.max(old.length, fresh.length); i += 1)
      this.compare(`${path}[${start + i}]`, old[i], fresh[i]);
  }

  #add(path: string, from: unknown, to: unknown): void {
    if (this.#changes.length >= changesMax) {
      this.#more += 1;
      return;
    }
    const kind = isSecret(from) || isSecret(to) ? "secret" : kindOf(from, to);
    const shown = (value: unknown): unknown => (kind === "secret" ? null : shownOf(value));
    this.#changes.push({ path: path === "" ? "(all)" : path, kind, from: shown(from), to: shown(to) });
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || (a !== undefined && b !== undefined && canonicalJson(a) === canonicalJson(b));
}

function stepInto(path: string, key: string): string {
  const step = /^[A-Za-z_][\w-]*$/.test(key) ? key : JSON.stringify(key);
  return path === "" ? step : `${path}.${step}`;
}

/** The entries of a list by id or name; null: not every one has one of its own. */
function namesOf(list: readonly unknown[]): ReadonlyMap<string, unknown> | null {
  const named = new Map<string, unknown>();
  for (const entry of list) {
    if (!isTree(entry)) return null;
    const { id, name, type } = entry;
    const own = [id, name, type].find((one) => typeof one === "string" && one !== "");
    if (typeof own !== "string" || named.has(own)) return null;
    named.set(own, entry);
  }
  return named;
}

function kindOf(from: unknown, to: unknown): "added" | "removed" | "changed" {
  if (from === undefined) return "added";
  return to === undefined ? "removed" : "changed";
}

const isSecret = (value: unknown): boolean => typeof value === "string" && value.includes(secretText);

/** A whole entry that was added or removed may have secrets inside. */
function shownOf(value: unknown): unknown {
  if (value === undefined) return null;
  const shown = withoutDigests(value);
  const text = JSON.stringify(shown);
  return text.length <= shownCharsMax ? shown : `${text.slice(0, shownCharsMax)}…`;
}

function withoutDigests(value: unknown): unknown {
  if (isSecret(value)) return redactedText;
  if (Array.isArray(value)) return value.map(withoutDigests);
  if (!isTree(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, withoutDigests(inner)]));
}
