/** States: what a view shows where it has nothing, could not load something, or knows that it is behind. Pure. */
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import type { CallAnswer, ViewContext, ViewPage } from "../view.ts";
import { actionLink } from "./values.ts";

/** One sentence and at most one action. */
export function emptyState(sentence: HtmlValue, action: Readonly<{ href: string; label: string }> | null = null): Html {
  return html`<p>${sentence}</p>${action !== null && actionLink(action.href, action.label)}`;
}

/** Where filters are set: a way back to the whole list. */
export function noneMatch({ words, path }: Pick<ViewContext, "words" | "path">): Html {
  return emptyState(words.frame.noneMatch, { href: path, label: words.frame.clearFilters });
}

type Failure = Extract<CallAnswer<unknown>, { type: "failed" }>;

/** What could not be contentOf, and the way to try again. */
export function errorState(
  failed: Failure,
  { words, path, query }: Pick<ViewContext, "words" | "path" | "query">,
): Html {
  const sentence =
    failed.status === 503
      ? words.frame.failedBrokers
      : failed.status === 403
        ? failed.code === "out-of-scope"
          ? words.frame.failedScope
          : words.frame.failed
        : `${words.frame.failed} ${failed.error}`;
  const again = query.size === 0 ? path : `${path}?${query}`;
  return html`<div class="problem" role="alert" data-status="${failed.status}"><p>${sentence}</p>${actionLink(again, words.frame.tryAgain)}</div>`;
}

/** The page of one thing that could not be loaded; `gone` and a link to the list if there is no such thing. */
export function failedPage(
  failed: Failure,
  context: Pick<ViewContext, "words" | "path" | "query">,
  { title, gone, back, list }: Readonly<Record<"title" | "gone" | "back" | "list", string>>,
): ViewPage {
  const isGone = failed.status === 404;
  return {
    ...(isGone ? { status: 404 as const } : {}),
    title,
    lead: isGone ? gone : context.words.frame.failed,
    content: isGone ? actionLink(list, back) : errorState(failed, context),
    command: null,
  };
}

/** The answer's content, or the error in its place. */
export function contentOf<Body>(
  answer: CallAnswer<Body>,
  context: Pick<ViewContext, "words" | "path" | "query">,
  content: (body: Body) => HtmlValue,
): HtmlValue {
  return answer.type === "answered" ? content(answer.body) : errorState(answer, context);
}
