/**
 * AuthZEN queries, parsed from JSON. Pure. Unknown members are ignored; a missing member or one of another type is an
 * error.
 */

/** The query is not valid: 400, with this text. */
export class AuthzenError extends Error {
  override readonly name = "AuthzenError";
}

/** This node does not know enough to decide: 503, with this text. */
export class AuthzenUnavailableError extends Error {
  override readonly name = "AuthzenUnavailable";
}

export type Json = Readonly<Record<string, unknown>>;
export type Entity = Readonly<{ type: string; id: string; properties: Json }>;
export type Action = Readonly<{ name: string; properties: Json }>;
export type AuthzenRequest = Readonly<{ subject: Entity; action: Action; resource: Entity; context: Json }>;

/** @throws AuthzenError */
export function parseAuthzenRequest(given: Json): AuthzenRequest {
  return {
    subject: entityOf(given["subject"], "subject"),
    action: actionOf(given["action"]),
    resource: entityOf(given["resource"], "resource"),
    context: contextOf(given),
  };
}

export function contextOf({ context = {} }: Json): Json {
  return objectOf(context, "context");
}

export function actionOf(value: unknown): Action {
  const { name, properties = {} } = objectOf(value, "action");
  return { name: textOf(name, "action.name"), properties: objectOf(properties, "action.properties") };
}

export function entityOf(value: unknown, name: string): Entity {
  const { type, id, properties = {} } = objectOf(value, name);
  return {
    type: textOf(type, `${name}.type`),
    id: textOf(id, `${name}.id`),
    properties: objectOf(properties, `${name}.properties`),
  };
}

export function objectOf(value: unknown, name: string): Json {
  if (value === undefined) throw new AuthzenError(`${name} is missing`);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new AuthzenError(`${name} is not an object`);
  return value as Json;
}

export function textOf(value: unknown, name: string): string {
  if (value === undefined) throw new AuthzenError(`${name} is missing`);
  if (typeof value !== "string" || value === "") throw new AuthzenError(`${name} is not text`);
  return value;
}
