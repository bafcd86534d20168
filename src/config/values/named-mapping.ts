/** Named mappings: readers for values that map a name to an entry with keys of its own. Pure. */
import { unknownKeyRemedy } from "./suggest.ts";
import { isPlainObject, isRefused, parseJson, type Refuse, type RefusedValue } from "./value-type.ts";

/** Prefixes the path of a refusal. */
export const refuseInside =
  (refuse: Refuse, ...at: readonly (string | number)[]): Refuse =>
  (problem, remedy, path = []) =>
    refuse(problem, remedy, [...at, ...path]);

export function refuseUnknownKey(
  item: Record<string, unknown>,
  keys: readonly string[],
  refuse: Refuse,
): RefusedValue | undefined {
  const strange = Object.keys(item).find((key) => !keys.includes(key));
  if (strange === undefined) return undefined;
  const otherwise = `use ${keys.join(", ")}`;
  return refuse("is not a known key", unknownKeyRemedy(strange, { known: keys, written: item, otherwise }), [strange]);
}

/** Reads every entry, so that each wrong one is reported. In the environment the mapping is JSON. */
export function readNamedMapping<Entry>(
  value: unknown,
  how: Readonly<{
    refuse: Refuse;
    /** What to write instead of something that is no mapping. */
    example: string;
    read: (name: string, item: unknown, refuse: Refuse) => Entry | RefusedValue;
  }>,
): readonly Entry[] | RefusedValue {
  const map = typeof value === "string" ? parseJson(value) : value;
  if (!isPlainObject(map)) return how.refuse("is not a mapping", how.example);
  const found: Entry[] = [];
  let refused: RefusedValue | undefined;
  for (const [name, item] of Object.entries(map)) {
    const entry = how.read(name, item, refuseInside(how.refuse, name));
    if (isRefused(entry)) refused = entry;
    else found.push(entry);
  }
  return refused ?? found;
}
