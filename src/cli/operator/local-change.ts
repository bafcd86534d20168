/** Local change: prints a change that only one region accepted, and the receipt of that region. */
import type { LocalChangeAnswer } from "../../console/index.ts";
import type { LocalReceipt } from "../../replication/index.ts";
import { type LocalReceiptStatement, localStatementIn } from "../../replication/wire/index.ts";
import { type Parsed, parseWait } from "../terminal/arguments.ts";
import type { ExitCode, Terminal } from "../terminal/command.ts";
import { formatTable } from "../terminal/print.ts";
import { writeWhole } from "../terminal/text-output.ts";
import type { OperatorClient } from "./operator-client.ts";

export function isLocal(answer: object): answer is LocalChangeAnswer {
  return "accepted" in answer && answer.accepted === "region";
}

/**
 * @returns 1: the change is not in the log. With `--wait --region` 0 if the receipt of the region is complete: that is
 * what was asked for
 */
export async function printLocal(
  client: OperatorClient,
  parsed: Parsed,
  terminal: Terminal,
  answer: LocalChangeAnswer,
): Promise<ExitCode> {
  const json = parsed.flag("json");
  const path = parsed.text("output");
  const waits = parsed.flag("wait") || path !== undefined;
  const receipt = waits ? await receiptOf(client, answer, parseWait(parsed.text("timeout"), 10_000)) : null;
  if (path !== undefined && receipt !== null) await writeWhole(path, `${receipt.signed}\n`);
  if (json) terminal.out(`${JSON.stringify({ ...answer, receipt })}\n`);
  else terminal.out(`${sentenceOf(answer)}\n${receipt === null ? "" : receiptTextOf(receipt)}`);
  return parsed.flag("region") && receipt?.complete === true ? 0 : 1;
}

function sentenceOf({ region, ids, commandId }: LocalChangeAnswer): string {
  const what = ids === 1 ? "1 id" : `${ids} ids`;
  const later = "other regions learn of it when the region is connected again";
  return `accepted in region ${region} only (${what}); ${later}. Repeat it there with command id ${commandId}`;
}

/** Null: the region's broker has no receipt of its own, because the log has the change by now. */
async function receiptOf(
  client: OperatorClient,
  { commandId }: LocalChangeAnswer,
  timeoutMs: number,
): Promise<LocalReceipt | null> {
  const path = `/local-receipts/${commandId}?timeoutMs=${timeoutMs}`;
  const outcome = (await client.get(path, timeoutMs + 15_000)) as { type: string; receipt?: LocalReceipt };
  return outcome.receipt ?? null;
}

function receiptTextOf({ signed }: LocalReceipt): string {
  const statement = localStatementIn(signed);
  return statement === undefined ? "" : localStatementText(statement, null);
}

/** @param kid the key that verified it; null: it is not verified, and came from the cluster itself */
export function localStatementText(statement: LocalReceiptStatement, kid: string | null): string {
  const { status, region, command, actor, at, answeredBy, change, promise, nodes, brokers } = statement;
  const verified = kid === null ? "" : `genuine, signed with key ${kid}\n`;
  const head = `${status}: receipt of region ${region} alone, for command ${command} by ${actor}, at ${at}, by ${answeredBy}`;
  const what = `${change.kind} ${change.ids.slice(0, 5).join(", ")}${change.count > 5 ? ` and ${change.count - 5} more` : ""}`;
  const stored = brokers.map(({ broker, stored: has }) => `${broker}${has ? "" : " (NOT stored)"}`).join(", ");
  const rows = nodes.map((node) => [node.node, node.role, node.status, node.fencedAt ?? "", node.reason]);
  const table = formatTable(["NODE", "ROLE", "STATUS", "FENCED AT", ""], rows);
  return `${verified}${head}\n${what}\nstored by ${stored}\n${table}complete would mean: ${promise}\n`;
}
