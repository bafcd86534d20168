/** `cardea audit witness`: has the tree over all seals co-signed by an outside witness. */
import { formatNoteKey, originOf, parseNoteKey, signCheckpoint, treeOver } from "../../../audit/index.ts";
import { auditCheckpointPair } from "../../../replication/wire/index.ts";
import { readLocalConfig } from "../../build/local-config.ts";
import { operatorOptions, parse } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../../terminal/command.ts";
import { writeWhole } from "../../terminal/text-output.ts";
import { loadSeals, sealOptions } from "./load-seals.ts";
import { leavesOfSeals, requestCosignature } from "./witness-checkpoint.ts";

export const auditWitness: CliCommand = {
  name: "audit witness",
  usage:
    "-c cardea.yaml --witness-url URL --witness-key KEY --output FILE [--from-server] [--seals FILE] | --print-key",
  summary: "have the seals of audit records co-signed by an outside witness",
  help: `Signs a checkpoint over all seals of the log (C2SP tlog-checkpoint), sends it to the witness with a proof that it continues what the
witness has signed before (C2SP tlog-witness), and saves it with the cosignature. KEY is the public key of the witness (name+hash+base64).
--print-key prints ours, with which the witness is configured. Run it by a timer: nothing waits for it. cardea audit verify --witness FILE
checks the saved checkpoint. Exit 3: the witness did not sign; the last saved file stays.`,
  async run(args, terminal) {
    const options = {
      ...operatorOptions,
      ...sealOptions,
      "witness-url": { type: "string" },
      "witness-key": { type: "string" },
      "print-key": { type: "boolean" },
      output: { type: "string" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 0 });
    const config = parsed.text("config");
    if (config === undefined)
      throw new UsageError("name the configuration with -c: the checkpoint is signed with the cluster's key");
    const { sharedSecret, broker } = readLocalConfig(config, terminal);
    const pair = auditCheckpointPair(sharedSecret);
    const origin = originOf(broker.clusterName);
    if (parsed.flag("print-key")) {
      terminal.out(`${formatNoteKey(origin, pair)}\n`);
      return 0;
    }
    const [address, keyText, output] = [parsed.text("witness-url"), parsed.text("witness-key"), parsed.text("output")];
    if (address === undefined || keyText === undefined || output === undefined)
      throw new UsageError("name the witness with --witness-url and --witness-key, and the file with --output");
    const url = addCheckpointUrl(address);
    const key = parseNoteKey(keyText);
    if (typeof key === "string") throw new UsageError(`--witness-key: ${key}`);
    const { all } = await loadSeals(parsed, terminal, { keys: [], keep: ({ opened }) => opened });
    const leaves = leavesOfSeals(all);
    if (leaves.length === 0) throw new CannotError("the log has no seals yet");
    const { size, root } = treeOver(leaves);
    const note = await requestCosignature({ url, key, leaves, note: signCheckpoint({ origin, size, root }, pair) });
    await writeWhole(output, note);
    terminal.out(`${key.name} has co-signed ${size} seals\n`);
    return 0;
  },
};

/** The submission prefix of the witness, with the operation. */
function addCheckpointUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(`${text.replace(/\/$/, "")}/add-checkpoint`) : undefined;
  const isLocal = url !== undefined && /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(url.hostname);
  if (url === undefined || !(url.protocol === "https:" || (url.protocol === "http:" && isLocal)))
    throw new UsageError(`--witness-url ${text}: a witness is called over https, or on this machine`);
  return url;
}
