/**
 * No JSON schemas: Fastify would check bodies by them. Here that is zod's work, so no Fastify here loads its compilers
 * of JSON schemas (130 files); a route that has a JSON schema all the same is refused when it is registered.
 */
function refuse(): never {
  throw new TypeError("routes have no JSON schemas here: check what comes with a schema of zod");
}

/** For the option `schemaController` of every Fastify. */
export const withoutJsonSchemas = { compilersFactory: { buildValidator: refuse, buildSerializer: refuse } };
