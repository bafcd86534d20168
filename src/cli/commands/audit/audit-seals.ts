/** `cardea audit seals`: exports the seals of audit records, so that records can be checked without the log. */
import { formatEvidence, type KeptSeal } from "../../../audit/index.ts";
import { formatLink } from "../../../events/index.ts";
import { connectOperator } from "../../operator/operator-client.ts";
import { operatorOptions, parse } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand } from "../../terminal/command.ts";
import { writeWhole } from "../../terminal/text-output.ts";
import { loadSeals, sealOptions } from "./load-seals.ts";

export const auditSeals: CliCommand = {
  name: "audit seals",
  usage: "[-c cardea.yaml | --from-server] [--receipts] [--output FILE]",
  summary: "export the seals of audit records, to check records without the log",
  help: `Prints a line of JSON for each seal in the log: the event with the link before it, and so the signature of its node. With -c the log is
read from its store and its whole chain is verified (a log in a file belongs to one process: stop the server, or use --from-server).
--receipts adds a signed receipt for the newest seal of each boot, from the server: it shows an outsider that the log has the seal.`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      { ...operatorOptions, ...sealOptions, receipts: { type: "boolean" }, output: { type: "string" } },
      { min: 0, max: 0 },
    );
    const { seals, notes } = await loadSeals(parsed, terminal, { keys: [], keep: (seal) => seal });
    for (const note of notes) terminal.err(`${note}\n`);
    const receipts = new Map<KeptSeal, string>();
    if (parsed.flag("receipts")) {
      const client = await connectOperator(parsed, terminal);
      try {
        for (const newest of newestOfBoots(seals)) {
          const answer = await client.get(`/receipts/link:${formatLink(newest.opened.link)}`);
          const signed = typeof answer === "object" && answer !== null && "signed" in answer ? answer.signed : null;
          if (typeof signed !== "string") throw new CannotError("the server gave no signed receipt");
          receipts.set(newest, signed);
        }
      } finally {
        await client.close();
      }
    }
    const path = parsed.text("output");
    const lines = linesOf(seals, receipts);
    if (path !== undefined) await writeWhole(path, lines);
    else for (const line of lines) terminal.out(line);
    if (path !== undefined) terminal.err(`${seals.length} seals written to ${path}\n`);
    return 0;
  },
};

function* linesOf(seals: readonly KeptSeal[], receipts: ReadonlyMap<KeptSeal, string>): Generator<string> {
  for (const one of seals) {
    const receipt = receipts.get(one) ?? one.evidence.receipt;
    yield `${JSON.stringify(formatEvidence({ ...one.evidence, receipt }))}\n`;
  }
}

function newestOfBoots(seals: readonly KeptSeal[]): readonly KeptSeal[] {
  const newest = new Map<string, KeptSeal>();
  for (const one of seals) {
    const { node, boot, size, final } = one.opened.seal;
    const key = JSON.stringify([node, boot]);
    const known = newest.get(key)?.opened.seal;
    if (known === undefined || known.size < size || (known.size === size && final)) newest.set(key, one);
  }
  return [...newest.values()];
}
