/** Settings: a mapping of known keys inside a value, such as one entry of a list. Pure. */
import type { z } from "zod";
import { refuseUnknownKey } from "./named-mapping.ts";
import type { Refuse, RefusedValue, Shape } from "./value-type.ts";

export type SettingsOf<S extends Shape> = { readonly [Key in keyof S]: z.output<S[Key]> };

/** Reads every key, so that each wrong one is reported. @param how.known further keys, which the caller reads */
export function readSettings<S extends Shape>(
  shape: S,
  written: Record<string, unknown>,
  how: Readonly<{ refuse: Refuse; known?: readonly string[] }>,
): SettingsOf<S> | RefusedValue {
  const { refuse, known = [] } = how;
  const strange = refuseUnknownKey(written, [...Object.keys(shape), ...known], refuse);
  if (strange !== undefined) return strange;
  const values: Record<string, unknown> = {};
  let refused: RefusedValue | undefined;
  for (const [key, schema] of Object.entries(shape)) {
    const parsed = schema.safeParse(written[key]);
    if (parsed.success) values[key] = parsed.data;
    for (const issue of parsed.error?.issues ?? []) {
      const { remedy = "" } = "params" in issue ? (issue.params as Readonly<{ remedy?: string }>) : {};
      refused = refuse(issue.message, remedy, [key, ...issue.path.filter((step) => typeof step !== "symbol")]);
    }
  }
  return refused ?? (values as SettingsOf<S>); // key for key, as the shape says
}
