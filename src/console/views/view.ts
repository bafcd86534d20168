/**
 * View: one page of the console, and what it is rendered with. Pure.
 *
 * - A view gets data only through `call`, which asks the operator API with the reader's own rights. What the API
 *   refuses to the reader, the page does not have.
 * - A view returns the parts of a page; the frame (frame.ts) puts them into a document.
 */
import type { UnixMs } from "../../events/index.ts";
import type { CallOperation } from "../api/operation-call.ts";
import { type OperatorRole, operatorRoles } from "../api/roles/operator-roles.ts";
import type { HtmlValue } from "../pages/html.ts";
import type { PageText } from "../text/texts.ts";

export type { CallAnswer, CallOperation, CallParts } from "../api/operation-call.ts";
export type { OperatorRole } from "../api/roles/operator-roles.ts";

export const menuGroups = ["overview", "who", "access", "record", "system"] as const;

export type View = Readonly<{
  /** The value of `data-page`, and the key of its menu entry. */
  id: string;
  /** Below `/.pomerium/admin`, in Fastify's form: `/sessions/:id`. The overview is `/`. */
  path: string;
  /** Its place in the menu, where `key` follows `g`. Null: it is reached from other views. */
  menu: Readonly<{ group: (typeof menuGroups)[number]; label: (words: ConsoleText) => string; key?: string }> | null;
  /** The menu entry that is current while this view is shown; absent: its own. */
  within?: string;
  /** The least role that may open it. */
  role: OperatorRole;
  /** Its data is confined to the groups of routes of a limited role; absent: it is closed to such a reader. */
  scoped?: true;
  /** Also for approvers of access requests who have no role; all other views are closed to them. */
  approver?: true;
  /** Scripts besides those of the frame: names of files in src/console/web. */
  scripts?: readonly string[];
  /** Style sheets besides that of the frame: names of files in src/console/web. */
  styles?: readonly string[];
  render(context: ViewContext): Promise<ViewPage>;
}>;

export type ConsoleText = PageText["console"];

/** The reader. */
export type ViewReader = Readonly<{
  /** The highest, whatever its limit. */
  role: OperatorRole;
  /** The groups of routes to which each role is limited; null: the role is for all routes, or is not given. */
  limits: Readonly<Record<OperatorRole, readonly string[] | null>>;
  /** The reader has no role, and only decides about access requests. */
  isApprover: boolean;
  /** Null: a token, which stands for no person. */
  userId: string | null;
  name: string;
  email: string;
  /** When the right to read ends, by what is known now. */
  until: UnixMs;
}>;

export type ViewContext = Readonly<{
  text: PageText;
  words: ConsoleText;
  reader: ViewReader;
  /** Of the path, decoded. */
  params: Readonly<Record<string, string>>;
  query: URLSearchParams;
  /** The path of this page without its query. */
  path: string;
  now: UnixMs;
  call: CallOperation;
  /** The path of an asset; null: there is none of that name. */
  asset: (name: string) => string | null;
}>;

export type ViewPage = Readonly<{
  /** Default 200. */
  status?: 200 | 404 | 503;
  title: string;
  /** One sentence that answers the question of the page. */
  lead: HtmlValue;
  /** Controls beside the title. */
  actions?: HtmlValue;
  filters?: HtmlValue;
  content: HtmlValue;
  /** The same act in a shell, without the prompt: `cardea cluster status`. Null: the command line has none. */
  command: string | null;
}>;

export function hasRole({ role }: Pick<ViewReader, "role">, least: OperatorRole): boolean {
  return operatorRoles.indexOf(role) >= operatorRoles.indexOf(least);
}

/** Whether the reader sees some groups of routes alone. */
export function isLimited({ limits }: Pick<ViewReader, "limits">): boolean {
  return limits.viewer !== null;
}
