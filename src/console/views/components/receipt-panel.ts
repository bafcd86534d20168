/**
 * Receipt panel: a change, and which nodes enforce it. Pure.
 *
 * The server draws what is known at the time of the page. The script (receipt-panel.js) watches the receipt until it is
 * complete or lost, in a page, in a dialog and after a reload, and draws the same rows.
 */
import type { Receipt, ReceiptNode } from "../../../replication/index.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import type { ConsoleText, ViewContext } from "../view.ts";
import { commandLine, formatCount, type StatusPillKind, statusPill } from "./values.ts";

export type ShownReceipt = Pick<Receipt, "status" | "nodes" | "link"> &
  Readonly<{
    /** When the leader recorded the change (ISO 8601); null or absent: not known. */
    recordedAt?: string | null;
  }>;

export const receiptScript = "receipt-panel.js";

/** @param target `command:` and a command id, or `link:` and a link. @param receipt null: the script asks for it */
export function receiptPanel(target: string, receipt: ShownReceipt | null, context: ViewContext): Html {
  const { words } = context;
  const said = words.receipt;
  const nodes = receipt?.nodes ?? [];
  const done = nodes.filter(({ status }) => status !== "unconfirmed").length;
  const name = target.replace(/^(?:command|link):/, "");
  return html`<section class="receipt" data-receipt="${target}" data-status="${receipt?.status ?? "unknown"}" aria-label="${said.title}"><div class="receipt-head"><output class="figure" data-part="figure">${
    receipt !== null &&
    receipt.status !== "lost" &&
    `${formatCount(done, context)}/${formatCount(nodes.length, context)}`
  }</output><div><p class="receipt-said" data-part="said" role="status">${receipt !== null && sentenceOf(receipt, context)}</p><p class="muted" data-part="more">${
    receipt?.status === "lost" && said.lostText
  }</p></div></div><div class="table-box"><table><caption class="quiet">${said.table}</caption><thead><tr><th scope="col">${said.node}</th><th scope="col">${said.status}</th><th scope="col">${said.after}</th></tr></thead><tbody data-part="rows">${nodes.map(
    (node) => rowOf(node, receipt, said),
  )}</tbody></table></div><div class="actions" data-part="actions"></div>${commandLine(`cardea receipt ${name} --wait`, context)}</section>`;
}

function sentenceOf(receipt: ShownReceipt, context: ViewContext): string {
  const said = context.words.receipt;
  const { nodes, status } = receipt;
  const number = (count: number): string => formatCount(count, context);
  const fenced = nodes.filter((node) => node.status === "fenced").length;
  const applied = nodes.filter((node) => node.status === "applied").length;
  if (status === "lost") return said.lost;
  if (status === "incomplete") return said.waiting(number(applied + fenced), number(nodes.length));
  if (fenced > 0) return said.withFenced(number(applied), number(fenced));
  const ms = Math.max(...nodes.map((node) => afterMs(node, receipt) ?? Number.NaN));
  return Number.isNaN(ms) || ms < 0 ? said.everywhereUntimed : said.everywhere(`${number(ms)} ms`);
}

function afterMs({ confirmedAt }: ReceiptNode, receipt: ShownReceipt | null): number | null {
  const at = Date.parse(receipt?.recordedAt ?? "");
  return Number.isNaN(at) || confirmedAt === null || confirmedAt === undefined ? null : Math.max(0, confirmedAt - at);
}

const kinds = { applied: "good", fenced: "fenced", unconfirmed: "waiting" } as const satisfies Record<
  ReceiptNode["status"],
  StatusPillKind
>;

function rowOf(node: ReceiptNode, receipt: ShownReceipt | null, said: ConsoleText["receipt"]): HtmlValue {
  const ms = afterMs(node, receipt);
  return html`<tr data-node="${node.node}" data-status="${node.status}"><td>${node.node}<small class="muted"> ${node.region}</small></td><td>${statusPill(
    kinds[node.status],
    said.statuses[node.status],
  )}</td><td class="after">${node.status === "fenced" ? said.fencedText : ms !== null && `${ms} ms`}${
    roleNote(node.role, said) !== null && html` <small class="muted">${roleNote(node.role, said)}</small>`
  }</td></tr>`;
}

/** What the receipt of a node of this role does not say. Null: nothing. */
function roleNote(role: string, { roles }: ConsoleText["receipt"]): string | null {
  return Object.hasOwn(roles, role) ? roles[role as keyof typeof roles] : null;
}
