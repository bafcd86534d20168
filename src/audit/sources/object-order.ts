/**
 * Object order: the order in which the objects of a node are read, so that the numbers of each boot ascend. Pure.
 *
 * An object lies in the hour of its first record, and the time of a record may be a little before that of the record
 * before it. Around a full hour, an object with later numbers can thus lie in an earlier hour. So the objects of an
 * hour are read together with those of the next hour that belong between them.
 */
import { type RecordsKey, recordsKeyOf } from "../sinks/object-key.ts";

type Named = RecordsKey & Readonly<{ key: string }>;

/** Of two hours. If there are more, those that are known are read. */
const namesMax = 50_000;

/** @param keys of one node, ascending; keys of no objects of records are left out */
export async function* inNumberOrder(keys: AsyncIterable<string>): AsyncGenerator<string> {
  let earlier: readonly Named[] = [];
  let present: Named[] = [];
  for await (const key of keys) {
    const of = recordsKeyOf(key);
    if (of === undefined) continue;
    const hour = present[0]?.folder ?? of.folder;
    if (of.folder !== hour || earlier.length + present.length >= namesMax) {
      const { ready, rest } = split(earlier, present);
      yield* ready;
      [earlier, present] = [rest, []];
    }
    present.push({ ...of, key });
  }
  const { ready, rest } = split(earlier, present);
  yield* ready;
  yield* inOrder(rest);
}

/** `ready`: the earlier ones, and those that belong between them. */
function split(
  earlier: readonly Named[],
  present: readonly Named[],
): Readonly<{ ready: readonly string[]; rest: readonly Named[] }> {
  const newest = new Map<string, number>();
  for (const { boot, first } of earlier) newest.set(boot, Math.max(first, newest.get(boot) ?? 0));
  const belongsBefore = ({ boot, first }: Named): boolean => first <= (newest.get(boot) ?? 0);
  return {
    ready: inOrder([...earlier, ...present.filter(belongsBefore)]),
    rest: present.filter((one) => !belongsBefore(one)),
  };
}

function inOrder(named: readonly Named[]): readonly string[] {
  const byNumber = (a: Named, b: Named): number => {
    if (a.boot !== b.boot) return a.boot < b.boot ? -1 : 1;
    return a.first - b.first || a.last - b.last || (a.key < b.key ? -1 : 1);
  };
  return named.toSorted(byNumber).map(({ key }) => key);
}
