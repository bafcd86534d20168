/**
 * Fastify without JSON schemas: zod validates bodies here, so no Fastify instance loads its JSON-schema compilers (130
 * files). A route with a JSON schema is refused at registration.
 */
function refuse(): never {
  throw new TypeError("routes have no JSON schemas here: check what comes with a schema of zod");
}

/** The value of the option `schemaController` of every Fastify instance. */
export const withoutJsonSchemas = { compilersFactory: { buildValidator: refuse, buildSerializer: refuse } };
