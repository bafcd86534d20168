/** Identity sources: where do people and groups come from, and are they current? Pure. */
import type { z } from "zod";
import type { operatorOperations } from "../../api/operator-operations.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { type Act, actButton, actScripts } from "../components/act.ts";
import { contentOf, emptyState } from "../components/states.ts";
import { dataTable, type TableColumn, type TableRow } from "../components/table.ts";
import {
  actionLink,
  consolePath,
  formatCount,
  type StatusPillKind,
  statusPill,
  timeValue,
} from "../components/values.ts";
import type { View, ViewContext } from "../view.ts";

export const identityView: View = {
  id: "directory",
  path: "/directory",
  menu: { group: "system", label: ({ identity }) => identity.title, key: "i" },
  role: "viewer",
  scripts: [...actScripts],
  async render(context) {
    const { words, call } = context;
    const said = words.identity;
    const [nodes, directories, held, tokens, transmitters, receivers] = await Promise.all([
      call("GET /nodes"),
      call("GET /directories"),
      call("GET /held"),
      call("GET /scim/tokens"),
      call("GET /signals/transmitters"),
      call("GET /signals/streams"),
    ]);
    const waiting = held.type === "answered" ? held.body.held.filter(({ status }) => status === "held").length : 0;
    const providers = nodes.type === "answered" ? nodes.body.signInProviders.length : 0;
    const clients = tokens.type === "answered" ? new Set(tokens.body.tokens.map(({ client }) => client)).size : 0;
    const sources = providers + clients + (directories.type === "answered" ? directories.body.directories.length : 0);
    return {
      title: said.title,
      lead: sources === 0 ? said.noSources : said.lead(sources),
      content: html`${
        waiting > 0 &&
        html`<p class="notice">${said.heldNotice(waiting)} ${actionLink(`${consolePath}/held`, said.toHeld)}</p>`
      }<section><h2>${said.providers}</h2>${contentOf(nodes, context, (body) => providersOf(body.signInProviders, context))}</section><section><h2>${said.directories}</h2>${contentOf(
        directories,
        context,
        (body) => directoriesOf(body.directories, context),
      )}</section><section><h2>${said.scim}</h2>${contentOf(tokens, context, (body) => tokensOf(body.tokens, context))}</section><section><h2>${said.transmitters}</h2>${contentOf(
        transmitters,
        context,
        (body) => transmittersOf(body.transmitters, context),
      )}</section><section><h2>${said.receivers}</h2>${contentOf(receivers, context, (body) => receiversOf(body.streams, context))}</section>`,
      command: "cardea directories list",
    };
  },
};

type AnswerTo<Name extends keyof typeof operatorOperations> = (typeof operatorOperations)[Name] extends {
  answer: infer Schema extends z.ZodType;
}
  ? z.infer<Schema>
  : never;

function listOf(
  id: string,
  caption: string,
  parts: Readonly<{ columns: readonly TableColumn[]; rows: readonly TableRow[]; empty: string }>,
  context: ViewContext,
): Html {
  const { columns, rows, empty } = parts;
  return dataTable({ id, caption, columns, rows, next: null, empty: emptyState(empty) }, context);
}

function providersOf(providers: readonly object[], context: ViewContext): Html {
  const said = context.words.identity;
  const kinds: Readonly<Record<string, StatusPillKind>> = { up: "good", down: "bad" };
  const rows = providers.map((provider): TableRow => {
    const { name, title, provider: kind, status, idpId } = provider as Readonly<Record<string, string>>;
    const known = status === "up" || status === "down" ? status : "unknown";
    return {
      id: name ?? "",
      href: null,
      cells: [
        html`${isolateText(title || name || "")}<br><small class="muted">${kind}</small>`,
        statusPill(kinds[known] ?? "off", said.statuses[known]),
        html`<code>${idpId}</code>`,
      ],
    };
  });
  const columns = [
    { key: "name", label: said.provider.name },
    { key: "status", label: said.provider.status },
    { key: "id", label: said.provider.id, wide: true as const },
  ];
  return listOf("providers", said.providers, { columns, rows, empty: said.noProviders }, context);
}

type Directory = AnswerTo<"GET /directories">["directories"][number];

function directoriesOf(directories: readonly Directory[], context: ViewContext): Html {
  const said = context.words.identity;
  const rows = directories.map((directory): TableRow => {
    const { name, provider, intervalS, last, complete } = directory;
    const minutes = formatCount(Math.max(1, Math.round(intervalS / 60)), context);
    const number = (count: number): string => formatCount(count, context);
    return {
      id: name,
      href: null,
      cells: [
        html`${isolateText(name)}<br><small class="muted">${provider}, ${said.every(minutes)}</small>`,
        html`${last === null ? said.neverRan : timeValue(last.endedAt, context, { style: "relative" })}${last?.problem && html`<br><small>${isolateText(last.problem)}</small>`}`,
        resultPill(directory, context),
        last === null ? null : said.delta(number(last.added), number(last.removed)),
        complete === null ? null : said.people(number(complete.people), number(complete.groups)),
        syncButton(name, context),
      ],
    };
  });
  const columns = [
    { key: "name", label: said.directory.name },
    { key: "last", label: said.directory.last },
    { key: "result", label: said.directory.result },
    { key: "changes", label: said.directory.changes, wide: true as const },
    { key: "has", label: said.directory.has, wide: true as const },
    { key: "act", label: said.act },
  ];
  return listOf("directories", said.directories, { columns, rows, empty: said.noDirectories }, context);
}

function resultPill({ runningSince, asked, last }: Directory, { words }: ViewContext): HtmlValue {
  const said = words.identity;
  if (runningSince !== null) return statusPill("waiting", said.running);
  if (asked) return statusPill("waiting", said.asked);
  if (last === null) return statusPill("off", said.neverRan);
  const kinds = { complete: "good", partial: "waiting", withheld: "waiting", failed: "bad" } as const;
  return statusPill(kinds[last.result], said.results[last.result]);
}

function syncButton(name: string, context: ViewContext): HtmlValue {
  const said = context.words.identity;
  const act: Act = {
    title: said.syncTitle(name),
    text: said.syncText,
    verb: said.syncVerb,
    path: `/directories/${encodeURIComponent(name)}/sync`,
    body: {},
    receipt: false,
  };
  return actButton(act, said.sync, context, { role: "operator" });
}

function tokensOf(tokens: AnswerTo<"GET /scim/tokens">["tokens"], context: ViewContext): Html {
  const said = context.words.identity;
  const rows = tokens.map(({ id, client, scopes, status, expiresAt }): TableRow => {
    const act: Act = {
      title: said.revokeTokenTitle(id),
      text: said.revokeTokenText,
      verb: said.revokeTokenVerb,
      look: "bad",
      path: `/scim/tokens/${encodeURIComponent(id)}/revoke`,
      body: {},
    };
    return {
      id,
      href: null,
      cells: [
        isolateText(client),
        html`<code>${id}</code>`,
        statusPill(status === "active" ? "good" : "off", said.tokenStatuses[status]),
        scopes.join(", "),
        timeValue(expiresAt, context, { style: "relative", absent: context.words.frame.never }),
        status === "active" ? actButton(act, said.revokeToken, context, { role: "administrator" }) : null,
      ],
    };
  });
  const columns = [
    { key: "client", label: said.token.client },
    { key: "id", label: said.token.id },
    { key: "status", label: said.token.status },
    { key: "scopes", label: said.token.scopes, wide: true as const },
    { key: "expires", label: said.token.expires, wide: true as const },
    { key: "act", label: said.act },
  ];
  return listOf("tokens", said.scim, { columns, rows, empty: said.noTokens }, context);
}

function transmittersOf(
  transmitters: AnswerTo<"GET /signals/transmitters">["transmitters"],
  context: ViewContext,
): Html {
  const said = context.words.identity;
  const rows = transmitters.map(({ name, issuer, delivery, reported, notEnded }): TableRow => {
    const status = reported?.status ?? null;
    const kind = status === "enabled" ? "good" : status === null ? "off" : "waiting";
    return {
      id: name,
      href: null,
      cells: [
        isolateText(name),
        statusPill(kind, status ?? said.noReport),
        formatCount(notEnded, context),
        delivery,
        isolateText(issuer),
      ],
    };
  });
  const columns = [
    { key: "name", label: said.transmitter.name },
    { key: "status", label: said.transmitter.status },
    { key: "notEnded", label: said.transmitter.notEnded, align: "end" as const },
    { key: "delivery", label: said.transmitter.delivery, wide: true as const },
    { key: "issuer", label: said.transmitter.issuer, wide: true as const },
  ];
  return listOf("transmitters", said.transmitters, { columns, rows, empty: said.noTransmitters }, context);
}

function receiversOf(streams: AnswerTo<"GET /signals/streams">["streams"], context: ViewContext): Html {
  const said = context.words.identity;
  const kinds = { enabled: "good", paused: "waiting", disabled: "off", none: "off" } as const;
  const rows = streams.map(
    ({ receiver, status, pending, more, delivered, refused, deliveredAt, failure }): TableRow => ({
      id: receiver,
      href: null,
      cells: [
        html`${isolateText(receiver)}${failure !== null && html`<br><small>${isolateText(failure.reason)}</small>`}`,
        statusPill(failure !== null && status === "enabled" ? "bad" : kinds[status], said.receiverStatuses[status]),
        `${formatCount(pending, context)}${more ? "+" : ""}`,
        formatCount(delivered, context),
        formatCount(refused, context),
        timeValue(deliveredAt, context, { style: "relative", absent: context.words.frame.never }),
        streamButton(receiver, status, context),
      ],
    }),
  );
  const columns = [
    { key: "name", label: said.receiver.name },
    { key: "status", label: said.receiver.status },
    { key: "pending", label: said.receiver.pending, align: "end" as const },
    { key: "delivered", label: said.receiver.delivered, align: "end" as const, wide: true as const },
    { key: "refused", label: said.receiver.refused, align: "end" as const, wide: true as const },
    { key: "last", label: said.receiver.last, wide: true as const },
    { key: "act", label: said.act },
  ];
  return listOf("receivers", said.receivers, { columns, rows, empty: said.noReceivers }, context);
}

function streamButton(receiver: string, status: string, context: ViewContext): HtmlValue {
  const said = context.words.identity;
  if (status === "none") return null;
  const isOn = status === "enabled";
  const verb = isOn ? said.pauseVerb : said.resumeVerb;
  const act: Act = {
    title: said.streamTitle(verb, receiver),
    text: isOn ? said.pauseText : said.resumeText,
    verb,
    path: `/signals/streams/${encodeURIComponent(receiver)}/status`,
    body: { status: isOn ? "paused" : "enabled" },
    reason: "optional",
    receipt: false,
  };
  return actButton(act, isOn ? said.pause : said.resume, context, { role: "administrator" });
}
