/**
 * Fastify without JSON schemas: zod validates bodies here, so no Fastify instance loads its JSON-schema compilers (130
 * files). A route with a JSON schema is refused at registration.
 */
function refuse(): never {
  throw new TypeError("routes must not have JSON schemas: validate bodies with zod");
}

/** The value of the option `schemaController` of every Fastify instance. */
export const withoutJsonSchemas = { compilersFactory: { buildValidator: refuse, buildSerializer: refuse } };
