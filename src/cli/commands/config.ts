/** `cardea config list|show|history|diff`: the stored texts of the configurations that the log names by hash. */
import type {
  ConfigurationAnswer,
  ConfigurationDiff,
  ConfigurationHistory,
  ConfigurationView,
  RouteEffect,
} from "../../console/index.ts";
import { connectOperator, withOperator } from "../operator/operator-client.ts";
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

export const configHistory: CliCommand = {
  name: "config history",
  usage: "",
  summary: "show since when each node runs which configuration, and when each was in force",
  help: `Read from the announcements in the log, as far back as it goes. Exit 1: nodes run more than one configuration.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 0, max: 0 });
    return withOperator(parsed, terminal, async (client) => {
      const history = (await client.get("/configurations/history")) as ConfigurationHistory;
      const { configurations, nodes, drift } = history;
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(history)}\n`);
      else {
        const running = nodes.map((one) => [one.node, one.configHash?.slice(0, 12) ?? "unknown", one.since ?? ""]);
        const times = configurations.map((one) => [
          one.configHash.slice(0, 12),
          one.firstSeenAt ?? "unknown",
          one.nodes.length > 0 ? "now" : (one.lastSeenAt ?? "unknown"),
        ]);
        terminal.out(`${formatTable(["NODE", "CONFIG", "SINCE"], running)}\n`);
        terminal.out(formatTable(["CONFIG", "FIRST", "LAST"], times));
      }
      return drift ? 1 : 0;
    });
  },
};

export const configDiff: CliCommand = {
  name: "config diff",
  usage: "A B",
  summary: "compare two stored configurations: what changed, and who gains or loses which route",
  help: `A and B are hashes, or their first 8 characters. People are counted as they are now. ~ means that the answer depends on the request.
A changed secret is shown without its value. Exit 0: they are equal; 1: they differ; 3: the text of one is not stored.`,
  async run(args, terminal) {
    const parsed = parse(args, operatorOptions, { min: 2, max: 2 });
    const [a = "", b = ""] = parsed.positionals;
    for (const hash of [a, b])
      if (!/^[0-9a-f]{8,64}$/.test(hash))
        throw new UsageError(`${maskControlCharacters(hash)} is not a hash, nor its first 8 characters or more`);
    return withOperator(parsed, terminal, async (client) => {
      const diff = (await client.get(`/configurations/${a}/diff/${b}`, diffMs)) as ConfigurationDiff;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(diff)}\n` : diffText(diff));
      return diff.changes.length + diff.moreChanges > 0 ? 1 : 0;
    });
  },
};

const diffMs = 60_000;

function diffText({ changes, moreChanges, gains, loses, notes, unchecked }: ConfigurationDiff): string {
  const shown = (value: unknown): string => JSON.stringify(value);
  const lines = changes.flatMap(({ path, kind, from, to }) => {
    if (kind === "secret") return [`${path}: secret changed`];
    return [
      path,
      ...(kind === "added" ? [] : [`  - ${shown(from)}`]),
      ...(kind === "removed" ? [] : [`  + ${shown(to)}`]),
    ];
  });
  if (moreChanges > 0) lines.push(`and ${moreChanges} more changes`);
  const effect = (word: string, list: readonly RouteEffect[]): readonly string[] =>
    list.flatMap(({ route: { id, name }, people, conditional, named }) => [
      `route ${name === "" ? id : name}: ${people} ${people === 1 ? "person" : "people"} ${word} it${conditional === 0 ? "" : ` (~ ${conditional})`}`,
      ...named.map(({ userId, email }) => `  ${email === "" ? userId : email}`),
      ...(people > named.length ? [`  and ${people - named.length} more`] : []),
    ]);
  lines.push(
    ...effect("gain", gains),
    ...effect("lose", loses),
    ...notes.map(({ route, note }) => `route ${route}: ${note}`),
  );
  if (unchecked > 0) lines.push(`${unchecked} people were not evaluated: that would have taken too long`);
  return lines.map((line) => `${maskControlCharacters(line)}\n`).join("") || "the configurations are equal\n";
}

function textOf(configuration: unknown): string {
  return JSON.stringify(configuration, null, 2).split("\n").map(maskControlCharacters).join("\n");
}
