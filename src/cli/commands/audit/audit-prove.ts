/**
 * `cardea audit prove`, `cardea audit prove-consistency`, `cardea audit verify-proof`: proofs about sealed audit
 * records, for a person who has neither the records nor the log.
 */
import {
  CannotProveError,
  type ConsistencyProof,
  checkProof,
  type InclusionProof,
  type KeptSeal,
  proveConsistency,
  proveInclusion,
} from "../../../audit/index.ts";
import { connectOperator } from "../../operator/operator-client.ts";
import { linesOf, namedSources, placeOptions } from "../../operator/record-places.ts";
import { operatorOptions, type Parsed, parse } from "../../terminal/arguments.ts";
import { type CliCommand, type Terminal, UsageError } from "../../terminal/command.ts";
import { maskControlCharacters } from "../../terminal/print.ts";
import { readText } from "../../terminal/read-text.ts";
import { writeWhole } from "../../terminal/text-output.ts";
import { trustedKeys } from "../receipts.ts";
import { loadSeals, receiptProblem, sealOptions } from "./load-seals.ts";

const proveOptions = {
  ...operatorOptions,
  ...sealOptions,
  ...placeOptions,
  input: { type: "string", multiple: true },
  "no-receipt": { type: "boolean" },
  output: { type: "string" },
} as const;

const proveHelp = `Records come from --input (a file with its rotated ones, or several in their order), --spool or where -c says; seals from --seals, the log or a server, as for
cardea audit verify. A signed receipt of the seal, from the server, shows that the log has it; --no-receipt leaves it out.`;

export const auditProve: CliCommand = {
  name: "audit prove",
  usage: "ID [--input FILE] [-c cardea.yaml | --from-server] [--seals FILE] [--no-receipt] [--output FILE]",
  summary: "prove that an audit record is one that was sealed into the log",
  help: `ID is the id of a record (\`<boot>:<number>\`). Prints JSON: the record's line, its path in the hash tree (RFC 9162), the signed root, and the
event of the log that seals it. Exit 1: it cannot be proven.
${proveHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, proveOptions, { min: 1, max: 1 });
    const id = parsed.positionals[0] ?? "";
    const at = id.lastIndexOf(":");
    const seq = Number(id.slice(at + 1));
    if (at < 1 || !Number.isSafeInteger(seq) || seq < 1)
      throw new UsageError(`${id} is not the id of a record: <boot>:<number>`);
    return prove(parsed, terminal, {
      boot: id.slice(0, at),
      make: (lines, seals, of) => proveInclusion(lines, { ...of, seq, seals }),
    });
  },
};

export const auditProveConsistency: CliCommand = {
  name: "audit prove-consistency",
  usage:
    "BOOT FIRST SECOND [--input FILE] [-c cardea.yaml | --from-server] [--seals FILE] [--no-receipt] [--output FILE]",
  summary: "prove that a later seal of a boot has the records of an earlier one unchanged",
  help: `FIRST and SECOND are the sizes of two seals of BOOT, as cardea audit seals lists them. Exit 1: it cannot be proven.
${proveHelp}`,
  async run(args, terminal) {
    const parsed = parse(args, proveOptions, { min: 3, max: 3 });
    const [boot = "", first, second] = parsed.positionals;
    const sizes = [Number(first), Number(second)] as const;
    if (!sizes.every((size) => Number.isSafeInteger(size) && size > 0))
      throw new UsageError("FIRST and SECOND are sizes of seals");
    return prove(parsed, terminal, {
      boot,
      make: (lines, seals, of) => proveConsistency(lines, { ...of, sizes, seals }),
    });
  },
};

export const auditVerifyProof: CliCommand = {
  name: "audit verify-proof",
  usage: "[FILE… | -] --jwks FILE… | --jwks-url URL | -c cardea.yaml  [--no-receipt] [--json]",
  summary: "check proofs of audit records, offline",
  help: `Checks the path, the signature of the node and the receipt of the log. Keys are those that verify receipts (cardea receipts keys).
--no-receipt accepts a proof whose seal has no receipt: then it shows what the node signed, and not that the log has it.
Exit 0: all are genuine; 1: one is not.`,
  async run(args, terminal) {
    const options = {
      config: operatorOptions.config,
      json: operatorOptions.json,
      jwks: { type: "string", multiple: true },
      "jwks-url": { type: "string" },
      "no-receipt": { type: "boolean" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 1_000 });
    const hasKeys = parsed.all("jwks").length > 0 || (parsed.text("jwks-url") ?? parsed.text("config")) !== undefined;
    const keys = parsed.flag("no-receipt") && !hasKeys ? [] : await trustedKeys(parsed, terminal);
    let isGenuine = true;
    for (const path of parsed.positionals.length === 0 ? ["-"] : parsed.positionals) {
      const checked = checkProof(jsonOf(await readText(path)));
      const problem = typeof checked === "string" ? checked : await problemOf(checked.seals);
      isGenuine &&= problem === undefined;
      const says = typeof checked === "string" ? null : checked.says;
      if (parsed.flag("json"))
        terminal.out(`${JSON.stringify({ file: path, ok: problem === undefined, problem: problem ?? null, says })}\n`);
      else if (problem !== undefined) terminal.err(`${path}: refused: ${maskControlCharacters(problem)}\n`);
      else if (typeof checked !== "string") {
        terminal.out(`genuine: ${maskControlCharacters(checked.says)}\n`);
        if (checked.record !== null) terminal.out(`  ${maskControlCharacters(checked.record)}\n`);
      }
    }
    return isGenuine ? 0 : 1;

    async function problemOf(seals: readonly KeptSeal["opened"][]): Promise<string | undefined> {
      for (const seal of seals) {
        if (seal.receipt === null && parsed.flag("no-receipt")) {
          if (!seal.own)
            return "a later boot has signed the seal, so only a receipt shows that it belongs to the cluster";
          continue;
        }
        const problem = await receiptProblem(seal, keys);
        if (problem !== undefined) return problem;
      }
      return undefined;
    }
  },
};

type Named = Readonly<{ node: KeptSeal["opened"]["seal"]["node"]; boot: KeptSeal["opened"]["seal"]["boot"] }>;
type Make = (
  lines: AsyncIterable<string>,
  seals: readonly KeptSeal[],
  of: Named,
) => Promise<InclusionProof | ConsistencyProof>;

async function prove(
  parsed: Parsed,
  terminal: Terminal,
  { boot, make }: Readonly<{ boot: string; make: Make }>,
): Promise<0 | 1> {
  const sources = await namedSources(parsed, terminal, { paths: parsed.all("input"), onProgress: () => undefined });
  const { seals } = await loadSeals(parsed, terminal, { keys: [], keep: (seal) => seal });
  const own = seals.filter(({ opened }) => opened.seal.boot === boot);
  const [named] = own;
  if (named === undefined) {
    terminal.err(`no seal of the boot ${maskControlCharacters(boot)} was found: its records may not be sealed yet\n`);
    return 1;
  }
  try {
    const proof = await make(linesOf(sources), own, named.opened.seal);
    const links = "seal" in proof ? [proof.seal.link] : [proof.first.link, proof.second.link];
    const receipts = parsed.flag("no-receipt") ? new Map() : await receiptsOf(links, parsed, terminal);
    const withReceipt = (line: InclusionProof["seal"]): InclusionProof["seal"] => {
      const receipt = receipts.get(line.link) ?? line.receipt;
      return receipt === undefined ? line : { ...line, receipt };
    };
    const whole =
      "seal" in proof
        ? { ...proof, seal: withReceipt(proof.seal) }
        : { ...proof, first: withReceipt(proof.first), second: withReceipt(proof.second) };
    const text = `${JSON.stringify(whole, null, 2)}\n`;
    const path = parsed.text("output");
    if (path === undefined) terminal.out(text);
    else await writeWhole(path, text);
    return 0;
  } catch (error) {
    if (!(error instanceof CannotProveError)) throw error;
    terminal.err(`${maskControlCharacters(error.message)}\n`);
    return 1;
  }
}

async function receiptsOf(
  links: readonly string[],
  parsed: Parsed,
  terminal: Terminal,
): Promise<ReadonlyMap<string, string>> {
  const client = await connectOperator(parsed, terminal);
  try {
    const receipts = new Map<string, string>();
    for (const link of links) {
      const answer = await client.get(`/receipts/link:${link}`);
      const signed = typeof answer === "object" && answer !== null && "signed" in answer ? answer.signed : null;
      if (typeof signed === "string") receipts.set(link, signed);
    }
    return receipts;
  } finally {
    await client.close();
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
