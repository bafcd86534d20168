/** Receipts: which changes are in force everywhere; and one receipt, which fills in. Pure. */
import { type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { receiptPanel, receiptScript, type ShownReceipt } from "../components/receipt-panel.ts";
import { contentOf, emptyState, errorState } from "../components/states.ts";
import { dataTable, linkWith, type TableRow } from "../components/table.ts";
import { actionLink, consolePath, formatCount, personChip, statusPill, timeValue } from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";

export const receiptsView: View = {
  id: "receipts",
  path: "/receipts",
  menu: { group: "record", label: ({ people }) => people.receipts.title, key: "r" },
  role: "viewer",
  render,
};

export const receiptView: View = {
  id: "receipt",
  path: "/receipts/:target",
  menu: null,
  within: "receipts",
  role: "viewer",
  scoped: true,
  scripts: [receiptScript],
  render: renderOne,
};

const kinds = { complete: "good", incomplete: "waiting", lost: "bad", unknown: "off" } as const;

async function render(context: ViewContext): Promise<ViewPage> {
  const { query, words, call, path } = context;
  const said = words.people.receipts;
  const before = Number(query.get("before"));
  const answer = await call("GET /receipts", { query: before > 0 ? { before } : {} });
  const command = "cardea receipts list";
  if (answer.type === "failed")
    return { title: said.title, lead: words.frame.failed, content: errorState(answer, context), command };
  const { receipts, next } = answer.body;
  const open = receipts.filter(({ status }) => status !== "complete").length;
  const rows = receipts.map((receipt): TableRow => {
    const { applied, fenced, unconfirmed, actor } = receipt;
    const done = (applied ?? 0) + (fenced ?? 0);
    const all = done + (unconfirmed ?? 0);
    return {
      id: receipt.commandId,
      href: `${consolePath}/receipts/${encodeURIComponent(`command:${receipt.commandId}`)}`,
      cells: [
        isolateText(receipt.text),
        timeValue(receipt.at, context, { style: "relative" }),
        statusPill(kinds[receipt.status], said.statuses[receipt.status]),
        actor.kind === "person" ? personChip(actor, context) : isolateText(actor.name),
        applied === null ? words.frame.unknown : said.counted(formatCount(done, context), formatCount(all, context)),
        // When a silent node was fenced is not known afterwards.
        receipt.enforcedMs === null || (fenced ?? 0) > 0 ? "" : said.ms(formatCount(receipt.enforcedMs, context)),
      ],
    };
  });
  const older = next !== null && actionLink(linkWith(path, query, { before: String(next) }), said.older);
  return {
    title: said.title,
    lead: receipts.length === 0 ? said.empty : said.lead(formatCount(open, context)),
    content: html`${dataTable(
      {
        id: "receipts",
        caption: said.caption,
        columns: [
          { key: "change", label: said.change },
          { key: "when", label: said.when },
          { key: "status", label: said.status },
          { key: "by", label: said.by, wide: true },
          { key: "nodes", label: said.nodes, align: "end", wide: true },
          { key: "after", label: said.after, align: "end", wide: true },
        ],
        rows,
        next: null,
        empty: emptyState(said.empty),
      },
      context,
    )}${older && html`<p>${older}</p>`}`,
    command,
  };
}

async function renderOne(context: ViewContext): Promise<ViewPage> {
  const { params, words, call } = context;
  const said = words.people.receipts;
  const target = params["target"] ?? "";
  const name = target.replace(/^(?:command|link):/, "");
  if (!/^(?:command|link):[\w.-]{1,200}$/.test(target))
    return { status: 404, title: said.one, lead: said.bad, content: backLink(context), command: null };
  const answer = await call("GET /receipts/:target", { params: { target }, query: { wait: "none", timeoutMs: 0 } });
  const isMissing = answer.type === "failed" && (answer.status === 404 || answer.status === 400);
  if (isMissing) return { status: 404, title: said.one, lead: said.none, content: backLink(context), command: null };
  const shown = answer.type === "answered" ? (answer.body as unknown as ShownReceipt) : null;
  return {
    title: said.one,
    lead: said.oneLead,
    content: html`${answer.type === "failed" && contentOf(answer, context, () => null)}${
      shown?.recordedAt != null &&
      html`<p class="muted">${said.recordedAt} ${timeValue(shown.recordedAt, context, { style: "absolute" })}</p>`
    }${receiptPanel(target, shown, context)}<p class="muted">${said.target} <code>${name}</code></p>`,
    command: null,
  };
}

function backLink({ words }: ViewContext): HtmlValue {
  return actionLink(`${consolePath}/receipts`, words.people.receipts.title);
}
