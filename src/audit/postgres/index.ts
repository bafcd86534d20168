/** Entry point of audit records in Postgres: their schema, and the sink that stores them. */
export { AuditConnection, AuditDatabaseError } from "./audit-connection.ts";
export { daysBackMax, quoteName, type SchemaRoles, schemaName, schemaScript } from "./audit-schema.ts";
export { createPostgresAuditSink, type PostgresSinkOptions } from "./postgres-audit-sink.ts";
