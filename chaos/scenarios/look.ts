/** Look: one observation of the cluster: whether a condition holds, and what was seen. Pure. */

export type Look = Readonly<{ holds: boolean; seen: string }>;
/** Looks once. It never throws: what cannot be seen does not hold. */
export type Condition = () => Promise<Look>;

/** Holds when all of them do. */
export function allOf(...conditions: readonly Condition[]): Condition {
  return async () => {
    const looks = await Promise.all(conditions.map((condition) => condition()));
    const failed = looks.filter(({ holds }) => !holds);
    return {
      holds: failed.length === 0,
      seen: (failed.length === 0 ? looks : failed).map(({ seen }) => seen).join("; "),
    };
  };
}

/** Holds when the text is null. */
export async function seeing(look: () => Promise<string | null>, otherwise: string): Promise<Look> {
  try {
    const problem = await look();
    return { holds: problem === null, seen: problem ?? otherwise };
  } catch (error) {
    return { holds: false, seen: String(error) };
  }
}
