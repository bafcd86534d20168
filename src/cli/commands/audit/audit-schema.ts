/** `cardea audit schema`: prints the SQL with which an administrator creates the tables of audit records. */
import { schemaScript } from "../../../audit/index.ts";
import { readLocalConfig } from "../../build/local-config.ts";
import { parse } from "../../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../../terminal/command.ts";

export const auditSchema: CliCommand = {
  name: "audit schema",
  usage: "-c cardea.yaml [--writer ROLE] [--reader ROLE]",
  summary: "print the SQL that creates the tables of audit records in Postgres",
  help: `Prints a script for psql. The role that runs it owns the tables. The role in the url of the configuration's Postgres sink may then be
limited: --writer grants it the right to insert and select, and to keep the partitions; --reader grants another the right to select.
Schema, cluster and retention come from the configuration. The roles must exist. See docs/audit-postgres.md.`,
  async run(args, terminal) {
    const options = {
      config: { type: "string", short: "c" },
      writer: { type: "string" },
      reader: { type: "string" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const path = parsed.text("config");
    if (path === undefined) throw new UsageError("name the configuration with -c");
    const { audit, broker } = readLocalConfig(path, terminal);
    if (audit.postgres === null) throw new UsageError(`${path} names no Postgres in audit.sinks`);
    const { schema, retentionDays } = audit.postgres;
    const roles = { writer: parsed.text("writer"), reader: parsed.text("reader") };
    if (Object.values(roles).some((role) => role?.trim() === "")) throw new UsageError("a role needs a name");
    terminal.out(schemaScript({ schema, cluster: broker.clusterName, retentionDays, roles }));
    return 0;
  },
};
