/** Value types of callers' certificates. Pure. */
import { RE2JS } from "re2js";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  type Refuse,
  type RefusedValue,
  type ValueType,
  valueType,
} from "./value-type.ts";

export type SubjectNameType = "dns" | "email" | "ip_address" | "uri" | "user_principal_name";

/** An RE2 expression that must match a whole name of this type. */
export type SubjectNamePattern = Readonly<{ type: SubjectNameType; pattern: string }>;

const types: readonly SubjectNameType[] = ["dns", "email", "ip_address", "uri", "user_principal_name"];

/** Name patterns in Pomerium's form, one key per item: `- dns: .*\.example\.com`. */
export const subjectNamePatterns = (): ValueType<readonly SubjectNamePattern[]> =>
  valueType({ label: "list of {type: expression}", json: { type: ["array", "string"] } }, (value, refuse) => {
    const list = typeof value === "string" ? parseJson(value) : value;
    if (!Array.isArray(list)) return refuse("is not a list", "write - dns: expression, one per line");
    const found: SubjectNamePattern[] = [];
    let refused: RefusedValue | undefined;
    list.forEach((item: unknown, i) => {
      const pattern = readPattern(item, (problem, remedy) => refuse(problem, remedy, [i]));
      if (isRefused(pattern)) refused = pattern;
      else found.push(pattern);
    });
    return refused ?? found;
  });

function readPattern(item: unknown, refuse: Refuse): SubjectNamePattern | RefusedValue {
  const [entry, ...more] = isPlainObject(item) ? Object.entries(item) : [];
  const type = types.find((each) => each === entry?.[0].toLowerCase());
  const pattern = entry?.[1];
  if (type === undefined || more.length > 0 || typeof pattern !== "string")
    return refuse(
      `${formatValue(item)} is not {type: expression}`,
      `write one of ${types.join(", ")} with an expression`,
    );
  try {
    RE2JS.compile(pattern);
  } catch (error) {
    const why = error instanceof Error ? error.message : "it cannot be read";
    return refuse(`${formatValue(pattern)} is not a regular expression: ${why}`, "write it in RE2's syntax");
  }
  return { type, pattern };
}
