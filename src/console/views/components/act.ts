/**
 * Act: a button that makes a change, with what comes before and after it: the people and routes that it concerns, a
 * reason, a typed name, and its receipt. Pure.
 *
 * Only the script (act.js) can make a change, so without scripts there is no button. A button that the reader's role
 * does not permit is left out.
 */

import { type Operation, operatorOperations } from "../../api/operator-operations.ts";
import { type HtmlValue, html } from "../../pages/html.ts";
import type { OperatorRole, ViewContext } from "../view.ts";
import { hasRole, isLimited } from "../view.ts";

export type Act = Readonly<{
  /** The heading of the dialog, and its first sentence. */
  title: string;
  text: string;
  /** The button that makes the change: a verb and its object. With a selection each `{}` is how many are selected. */
  verb: string;
  /** In place of these where one row is selected. */
  single?: Readonly<{ title: string; text: string; verb: string }>;
  look?: "first" | "bad";
  /** Below the prefix of the operator API: `/users/…/suspend`. */
  path: string;
  body: Readonly<Record<string, unknown>>;
  /** The command of `POST /preview`; absent: none is shown. */
  preview?: Readonly<Record<string, unknown>>;
  /** Absent: it is not asked for. */
  reason?: "optional" | "required";
  /** What has to be typed; absent: what the preview says, if anything. */
  typed?: string;
  /** Fields of the body that the reader fills in, in addition to the reason. */
  fields?: readonly Readonly<{
    name: string;
    label: string;
    /** `list`: several values, separated by spaces, commas or semicolons. */
    type: "text" | "number" | "datetime-local" | "checkbox" | "list";
    value?: string;
    /** A number in milliseconds is entered in these units. */
    choices?: readonly (readonly [value: string, label: string])[];
    required?: boolean;
    /** The command of the preview has it, too, so the preview is made again when it changes. */
    previewed?: true;
  }>[];
  /** The rows that the act is about: their ids are this field of the body, and of the command of the preview. */
  selection?: Readonly<{ table: string; field: string }>;
  /** Shows the receipt of the change; absent: true. */
  receipt?: boolean;
}>;

export const actScripts = ["act.js"] as const;

/** The changes that confine themselves to the groups of routes of a limited role. */
const confined = Object.entries(operatorOperations as Readonly<Record<string, Operation>>).flatMap(
  ([name, { scoped }]) =>
    scoped === true && name.startsWith("POST ")
      ? [new RegExp(`^${name.slice("POST ".length).replace(/:\w+/g, "[^/]+")}$`)]
      : [],
);

/** A button for the act; nothing if the reader's role does not suffice, or is limited and the act is not. */
export function actButton(
  act: Act,
  label: string,
  { reader }: Pick<ViewContext, "reader">,
  { role, primary = false }: Readonly<{ role: OperatorRole; primary?: boolean }>,
): HtmlValue {
  if (!hasRole(reader, role)) return null;
  if (reader.limits[role] !== null && !confined.some((path) => path.test(act.path))) return null;
  const { preview: _, ...unseen } = act;
  const shown = isLimited(reader) ? unseen : act; // the preview is not confined to some routes
  return html`<button type="button" class="${act.look === "bad" ? "danger" : act.look}" data-act="${JSON.stringify(shown)}"${primary && html` data-primary`} hidden>${label}</button>`;
}
