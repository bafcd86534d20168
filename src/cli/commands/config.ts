/** `cardea config list|show`: what the configurations said that the log names by their hash. */
import type { ConfigurationAnswer, ConfigurationView } from "../../console/index.ts";
import { connectOperator } from "../operator/operator-client.ts";
import { operatorOptions, parse } from "../terminal/arguments.ts";
import { type Command, UsageError } from "../terminal/command.ts";
import { printable, table } from "../terminal/print.ts";

export const configList: Command = {
  name: "config list",
  usage: "",
  summary: "the configurations that nodes run or have run, by their hash",
  help: `STORED is when what it says was first kept; absent: a node runs it, and no body of it is kept (its databroker is of an older version, or it
is too long: the node's log says). Exit 1 when that is so of one that runs.`,
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
      else terminal.out(table(["CONFIG", "STORED", "BYTES", "NODES"], rows));
      return configurations.some(({ recordedAt }) => recordedAt === null) ? 1 : 0;
    } finally {
      await client.close();
    }
  },
};

export const configShow: Command = {
  name: "config show",
  usage: "HASH",
  summary: "what a configuration says, without its secrets",
  help: `HASH as decision records and cluster status have it, or 8 characters of its beginning. Prints the configuration as it was in force, defaults
filled in, as JSON. In the place of a secret stands a digest under a key that follows from shared_secret: equal secrets have equal digests,
and nothing can be guessed from one. Exit 3 when there is no such configuration, or what it says is not kept.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 1, max: 1 });
    const [hash = ""] = parsed.positionals;
    if (!/^[0-9a-f]{8,64}$/.test(hash))
      throw new UsageError(`${printable(hash)} is not a hash, or the beginning of one`);
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
  return JSON.stringify(configuration, null, 2).split("\n").map(printable).join("\n");
}
