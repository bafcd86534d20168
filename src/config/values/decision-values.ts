/**
 * Value types of the decision API: templates that map a resource and an action to a request, similar to RFC 6570.
 *
 *   {id}   {resource.owner}   {action.soft}   a value, percent-encoded; without the value there is no request
 *   {+id}                                     the same, without encoding the separators of a URL
 *   {/resource.status}                        `/` and the value; nothing if it is absent
 */
import { formatValue, isPlainObject, type Refuse, type RefusedValue, type ValueType, valueType } from "./value-type.ts";

export type TemplatePart =
  | string
  | Readonly<{ of: "id" | "resource" | "action"; name: string; form: "value" | "reserved" | "segment" }>;
export type RequestTemplate = Readonly<{
  method: string;
  scheme: "http" | "https";
  authority: string;
  /** Path and query. */
  parts: readonly TemplatePart[];
}>;
/** Templates by resource type, then by action name. */
export type ResourceTemplates = Readonly<Record<string, Readonly<Record<string, RequestTemplate>>>>;

const remedy = "write a method and an address, such as GET https://app.example.com/todos/{id}";

export const resourceTemplates = (): ValueType<ResourceTemplates> =>
  valueType(
    {
      label: "mapping of type to action to request",
      json: { type: "object", additionalProperties: { type: "object", additionalProperties: { type: "string" } } },
    },
    (value, refuse) => {
      if (!isPlainObject(value)) return refuse("is not a mapping", `${remedy}, under a type and an action`);
      const types: [string, Readonly<Record<string, RequestTemplate>>][] = [];
      for (const [type, actions] of Object.entries(value)) {
        if (!isPlainObject(actions)) return refuse("is not a mapping", `${remedy}, under an action`, [type]);
        const read: [string, RequestTemplate][] = [];
        for (const [action, text] of Object.entries(actions)) {
          const template = parseTemplate(text, (problem, how) => refuse(problem, how, [type, action]));
          if (!("method" in template)) return template;
          read.push([action, template]);
        }
        types.push([type, Object.fromEntries(read)]);
      }
      return Object.fromEntries(types);
    },
  );

function parseTemplate(text: unknown, refuse: Refuse): RequestTemplate | RefusedValue {
  const [, method, scheme, authority, rest] =
    /^([A-Z][A-Z-]{0,31}) +(https?):\/\/([A-Za-z0-9.:[\]-]+)((?:[/{].*)?)$/.exec(
      typeof text === "string" ? text : "",
    ) ?? [];
  if (method === undefined || authority === undefined || (scheme !== "http" && scheme !== "https"))
    return refuse(`${formatValue(text)} is not a request`, remedy);
  const parts: TemplatePart[] = [];
  for (const piece of (rest || "/").split(/(\{[^{}]*\})/)) {
    if (!/[{}]/.test(piece)) {
      if (piece !== "") parts.push(piece);
      continue;
    }
    const [, sign, of, name = ""] =
      /^\{([+/]?)(id|(?:resource|action)(?=\.))(?:\.([A-Za-z0-9_-]+))?\}$/.exec(piece) ?? [];
    const isWhole = of === "id" ? name === "" : name !== "";
    if (!isWhole || (of !== "id" && of !== "resource" && of !== "action"))
      return refuse(`${formatValue(piece)} is not a known placeholder`, "write {id}, {resource.name} or {action.name}");
    parts.push({ of, name, form: sign === "+" ? "reserved" : sign === "/" ? "segment" : "value" });
  }
  return { method, scheme, authority, parts };
}
