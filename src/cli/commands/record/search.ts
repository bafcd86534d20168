/** `cardea search` and `cardea cluster watch`: what the console's search finds, and what its pages watch. */
import type { SearchHit } from "../../../console/index.ts";
import { maskUnsafe } from "../../operator/audit-line.ts";
import { withOperator } from "../../operator/operator-client.ts";
import { operatorOptions, parse } from "../../terminal/arguments.ts";
import type { CliCommand } from "../../terminal/command.ts";

export const search: CliCommand = {
  name: "search",
  usage: "TEXT",
  summary: "find people, groups and routes by name, and whatever an id names",
  help: "TEXT is a part of a name, e-mail, group or route, or a whole id: of a person, session, request or command, a link, the position of a change, or the hash of a configuration. At most 20 are found. Exit 1: nothing is found.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const [text = ""] = parsed.positionals;
      const answer = (await client.get(`/search?${new URLSearchParams({ q: text })}`)) as { hits: SearchHit[] };
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(answer)}\n`);
      else
        for (const { kind, id, name, detail } of answer.hits) {
          const shown = [kind.padEnd(14), name, detail, name === id || detail === id ? "" : id];
          terminal.out(`${maskUnsafe(shown.filter((part) => part !== "").join("  "))}\n`);
        }
      return answer.hits.length === 0 ? 1 : 0;
    }),
};

export const clusterWatch: CliCommand = {
  name: "cluster watch",
  usage: "[--topics status,counts]",
  summary: "print the state of the cluster and the counts as they change, as JSON lines",
  help: "Each line is {topic, data}; `alive` comes every five seconds, with the link that the server has applied. It ends when you interrupt it, or with your right to watch (exit 3).",
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, topics: { type: "string" } }, { min: 0, max: 0 }),
      terminal,
      async (client, parsed) => {
        const topics = parsed.text("topics") ?? "status,counts";
        const stop = new AbortController();
        const onInterrupt = (): void => stop.abort();
        process.once("SIGINT", onInterrupt);
        const onEvent = (data: string, _id: string, topic: string): void =>
          terminal.out(`${JSON.stringify({ topic, data: JSON.parse(data) })}\n`);
        try {
          await client.stream(`/live?${new URLSearchParams({ topics })}`, null, onEvent, stop.signal);
        } finally {
          process.removeListener("SIGINT", onInterrupt);
        }
        return stop.signal.aborted ? 0 : 3;
      },
    ),
};
