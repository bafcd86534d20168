/** `cardea config list|show`: the stored texts of the configurations that the log names by hash. */
import type { ConfigurationAnswer, ConfigurationView } from "../../console/index.ts";
import { connectOperator } from "../operator/operator-client.ts";
import { operatorOptions, parse } from "../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../terminal/command.ts";
import { formatTable, maskControlCharacters } from "../terminal/print.ts";

export const configList: CliCommand = {
  name: "config list",
  usage: "",
  summary: "list the configurations that nodes run or have run, by hash",
  help: `STORED is the time at which its text was first stored. absent: a node runs it, but its text is not stored, because the databroker has an older
version or the text is too long (see the node's log). Exit 1: a running configuration is absent.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    const client = await connectOperator(parsed, terminal);
    try {
      const { configurations } = (await client.get("/configurations")) as {
        configurations: readonly ConfigurationView[];
      };
      const rows = configurations.map(({ configHash, recordedAt, bytes, nodes }) => [
        configHash.slice(0, 12),
        recordedAt === null ? "absent" : new Date(recordedAt).toISOString(),
        bytes === null ? "" : String(bytes),
        nodes.join(" "),
      ]);
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(configurations)}\n`);
      else terminal.out(formatTable(["CONFIG", "STORED", "BYTES", "NODES"], rows));
      return configurations.some(({ recordedAt }) => recordedAt === null) ? 1 : 0;
    } finally {
      await client.close();
    }
  },
};

export const configShow: CliCommand = {
  name: "config show",
  usage: "HASH",
  summary: "print a configuration without its secrets",
  help: `HASH is what decision records and cluster status show, or its first 8 characters. Prints the configuration as JSON, with defaults filled in.
Each secret is replaced by a digest under a key derived from shared_secret: equal secrets have equal digests, and a digest reveals
nothing about its secret. Exit 3: there is no such configuration, or its text is not stored.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 1, max: 1 });
    const [hash = ""] = parsed.positionals;
    if (!/^[0-9a-f]{8,64}$/.test(hash))
      throw new UsageError(`${maskControlCharacters(hash)} is not a hash, nor its first 8 characters or more`);
    const client = await connectOperator(parsed, terminal);
    try {
      const answer = (await client.get(`/configurations/${hash}`)) as ConfigurationAnswer;
      terminal.out(`${parsed.flag("json") ? JSON.stringify(answer) : textOf(answer.configuration)}\n`);
      return 0;
    } finally {
      await client.close();
    }
  },
};

function textOf(configuration: unknown): string {
  return JSON.stringify(configuration, null, 2).split("\n").map(maskControlCharacters).join("\n");
}
