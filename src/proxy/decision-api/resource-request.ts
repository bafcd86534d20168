/**
 * Resource address: the HTTP request that an action on a resource maps to. Pure.
 *
 *   route   the address itself, host and path, and an HTTP method       others   as `decision_api.resources` says
 *
 * A query that lacks a value of the template, or contains more than it can express, has no address. The reason is
 * returned.
 */
import type { DecisionApiConfig, TemplatePart } from "../../config/index.ts";
import type { Action, AuthzenRequest, Entity } from "./authzen-parser.ts";
import type { DescribedRequest } from "./described-request.ts";

export type ResourceAddress = Pick<DescribedRequest, "method" | "scheme" | "authority" | "target">;
type ResourceTemplates = DecisionApiConfig["resources"];

export const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** Whether the resource type is known. */
export function isKnownType(type: string, words: ResourceTemplates): boolean {
  return type === "route" || Object.hasOwn(words, type);
}

/** Names of the actions of a resource type. */
export function actionsOf(type: string, words: ResourceTemplates): readonly string[] {
  if (Object.hasOwn(words, type)) return Object.keys(words[type] ?? {});
  return type === "route" ? methods : [];
}

/** @returns the address, or the reason why there is none */
export function resourceAddressOf(
  { action, resource }: Pick<AuthzenRequest, "action" | "resource">,
  words: ResourceTemplates,
): ResourceAddress | string {
  if (!Object.hasOwn(words, resource.type)) {
    return resource.type === "route" ? routeAddress(action.name, resource.id) : "resource-type";
  }
  const actions = words[resource.type] ?? {};
  const template = Object.hasOwn(actions, action.name) ? actions[action.name] : undefined;
  if (template === undefined) return "action-name";
  let target = "";
  for (const part of template.parts) {
    const text = typeof part === "string" ? part : expand(part, action, resource);
    if (text === undefined) return "resource-properties";
    target += text;
  }
  const { method, scheme, authority } = template;
  return { method, scheme, authority, target };
}

function routeAddress(method: string, id: string): ResourceAddress | string {
  const [, scheme, authority, rest = ""] = /^(?:(https?):\/\/)?([^/?#]+)([^#]*)$/.exec(id) ?? [];
  if (authority === undefined) return "resource-id";
  const target = rest === "" ? "/" : rest;
  return { method, scheme: scheme === "http" || scheme === "https" ? scheme : null, authority, target };
}

/** @returns the text for a part of the template; undefined: the query lacks a valid value for it */
function expand(
  { of, name, form }: Exclude<TemplatePart, string>,
  action: Action,
  resource: Entity,
): string | undefined {
  const from = of === "action" ? action.properties : resource.properties;
  const value = of === "id" ? resource.id : Object.hasOwn(from, name) ? from[name] : undefined;
  if (value === undefined && form === "segment") return "";
  const text = typeof value === "number" || typeof value === "boolean" ? String(value) : value;
  if (typeof text !== "string" || text === "" || !text.isWellFormed()) return undefined;
  if (form === "reserved") return encodeURI(text);
  return `${form === "segment" ? "/" : ""}${encodeURIComponent(text)}`;
}
