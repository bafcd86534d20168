/** Terminal output: tables and receipts as text. Pure. */
import { formatLink } from "../../events/index.ts";
import type { Receipt } from "../../replication/index.ts";
import { isLostHistory } from "../../replication/log/index.ts";
import { durabilityWords, type ReceiptStatement, statementIn } from "../../replication/wire/index.ts";

/** Left-aligned columns, two spaces apart; control characters never reach the terminal. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows].map((row) => row.map(maskControlCharacters));
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? "").length)));
  return `${all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n")}\n`;
}

/** Format characters include those that reverse the direction of text. */
export function maskControlCharacters(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\u{fffd}");
}

/** A message may have several lines, and quote what a file or another server says. */
export function maskMessage(text: string): string {
  return text.split("\n").map(maskControlCharacters).join("\n");
}

/** @returns what a signed receipt promises; undefined: it is not signed */
export function promiseIn({ signed }: Pick<Receipt, "signed">): string | undefined {
  return signed === null ? undefined : statementIn(signed)?.promise;
}

/** A signed receipt that has been checked. */
export function statementText(statement: ReceiptStatement, kid: string): string {
  const { cluster, broker, epoch, at, link, command, durability } = statement;
  const rests = durability === undefined ? "" : `  durability ${durability}: ${durabilityWords[durability]}\n`;
  const changes = statement.changes?.map(({ type, count, kind, ids }) => {
    const some = ids.slice(0, 3).join(", ");
    return `  ${maskControlCharacters(`${type}: ${count} ${kind}${count === 1 ? "" : "s"}: ${some}${count > 3 ? ", …" : ""}`)}\n`;
  });
  const rows = statement.nodes.map((n) => [
    n.node,
    n.region,
    n.role,
    n.status,
    n.enforced === null ? "" : (n.enforced.split(".")[1] ?? ""),
    n.confirmedAt ?? "",
    [
      n.reason,
      n.status === "unconfirmed" ? `${isLostHistory(n) ? "possibly leased until" : "fenced at"} ${n.fencedAt}` : "",
    ]
      .filter((text) => text !== "")
      .join("; "),
  ]);
  const nodes = rows.length === 0 ? "no enforcement node held a lease\n" : formatTable(statementHead, rows);
  const end = statement.complete
    ? `complete${statement.wait === "region" ? ` in region ${maskControlCharacters(statement.region ?? "")}` : ""}: ${statement.promise}`
    : statement.status;
  return `genuine: cluster ${maskControlCharacters(cluster)}, broker ${maskControlCharacters(broker)}, epoch ${epoch}, ${at}, key ${kid}
change ${link ?? "(not in the log)"}${command === null ? "" : ` of command ${maskControlCharacters(command)}`}
${(changes ?? ["  (not read)\n"]).join("")}${rests}${nodes}${regionLines(statement.regions ?? [], statement.at)}${maskControlCharacters(end)}\n`;
}

const statementHead = ["NODE", "REGION", "ROLE", "STATUS", "ENFORCED", "CONFIRMED", ""];

/** The regions of which a receipt says more than its nodes do: absent nodes, or a region that is cut off. */
function regionLines(regions: NonNullable<ReceiptStatement["regions"]>, at: string): string {
  return regions
    .filter(({ absent, cutOff }) => absent > 0 || cutOff)
    .map(({ region, absent, cutOff, heardAt }) => {
      const age =
        heardAt === null || at === ""
          ? ""
          : `; last heard ${heardAt}, ${seconds(Date.parse(at) - Date.parse(heardAt))} before`;
      const missing = absent > 0 ? `; ${absent} absent and long fenced` : "";
      return `region ${maskControlCharacters(region)} ${cutOff ? "cut off" : "in reach"}${missing}${age}\n`;
    })
    .join("");
}

/** One line per node, then the verdict. */
export function receiptText(receipt: Receipt, promise?: string): string {
  const rows = receipt.nodes.map((n) => [
    n.node,
    n.region,
    n.role,
    n.status,
    n.status === "unconfirmed" ? unconfirmedText(receipt, n) : (confirmedText(n) ?? n.reason),
  ]);
  // A change that is not in the log is not sent to any node.
  const none = receipt.status === "lost" ? "" : "no enforcement node holds a lease\n";
  const nodes = receipt.nodes.length === 0 ? none : formatTable(["NODE", "REGION", "ROLE", "STATUS", ""], rows);
  const at = receipt.at === null ? "" : new Date(receipt.at).toISOString();
  const regions = (receipt.regions ?? []).map(({ heardAt, ...region }) => ({
    ...region,
    heardAt: heardAt === null ? null : new Date(heardAt).toISOString(),
  }));
  return `${nodes}${regionLines(regions, at)}${formatVerdict(receipt, promise)}\n${retryHint(receipt)}`;
}

/** `by 04:00:05.120Z` */
function confirmedText({ confirmedAt }: Receipt["nodes"][number]): string | undefined {
  return typeof confirmedAt === "number" ? `by ${new Date(confirmedAt).toISOString().slice(11)}` : undefined;
}

/** The command that checks an incomplete receipt again; empty for any other receipt. */
function retryHint({ status, wait, region, link, commandId, completeInMs }: Receipt): string {
  const target = link === null ? commandId : formatLink(link);
  if (status !== "incomplete" || target === null) return "";
  const timeoutS = Math.min(3_600, Math.max(10, Math.ceil(completeInMs / 1_000) + 5));
  return `to check again: cardea receipt ${target} --wait${wait === "region" ? ` --region${region === null ? "" : `=${region}`}` : ""} --timeout ${timeoutS}s\n`;
}

/** @param promise what a complete receipt of this change means */
export function formatVerdict(receipt: Receipt, promise?: string): string {
  const at = receipt.link === null ? "" : ` at position ${receipt.link.position}, epoch ${receipt.link.epoch}`;
  if (receipt.status === "lost") return `lost: this link is not in the log${at}`;
  const where =
    receipt.wait === "region" && receipt.region !== null ? ` in region ${maskControlCharacters(receipt.region)}` : "";
  if (receipt.complete) return `complete${where}${at}: ${promise ?? "every node enforces it, or is fenced"}`;
  const awaited = receipt.nodes.filter((n) => where === "" || n.region === receipt.region);
  const open = awaited.filter((n) => n.status === "unconfirmed").length;
  return `incomplete${where}${at}: ${open} of ${awaited.length} unconfirmed; fencing completes it within ${seconds(receipt.completeInMs)}`;
}

function unconfirmedText(receipt: Receipt, node: Receipt["nodes"][number]): string {
  const { reason, fencedInMs } = node;
  if (fencedInMs === null) return reason;
  if (!isLostHistory(node)) return `${reason}; fenced in ${seconds(fencedInMs)}${clockTime(receipt, fencedInMs)}`;
  const until = receipt.at === null ? "" : ` until ${new Date(receipt.at + fencedInMs).toISOString().slice(11, 19)}Z`;
  return `${reason}; possibly leased${until} (${seconds(fencedInMs)})`;
}

/** ` (at 04:00:05Z)` */
function clockTime({ at }: Receipt, inMs: number): string {
  return at === null ? "" : ` (at ${new Date(at + inMs).toISOString().slice(11, 19)}Z)`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
