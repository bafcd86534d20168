// @ts-check
/**
 * Act: the dialog before a change, and its receipt on the same spot.
 *
 * - First the people affected, as computed by the server; then a reason and a typed name where required.
 * - The command has its id before the first attempt, so "Ask again" repeats the same change and never makes another:
 *   what the reader has entered is fixed then. A change that was refused gets another id, under which the leader looks
 *   at it anew.
 * - Nothing says that a change was made before the server has said so.
 */
import { ask, count, fill, find, h, openDialog, words } from "./dom.js";
import { createPanel, watchReceipt } from "./receipt-panel.js";
import { mayChange } from "./standing.js";
import { selectionOf } from "./table.js";

const routesMax = 8;
/** A field is read once its reader has paused. */
const typingMs = 400;

const newId = () => {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
};

/** @param {string} label @param {any} losses */
const routeList = (label, losses) => {
  if (losses === undefined || losses.routes.length === 0) return null;
  const said = words.act;
  const shown = losses.routes.slice(0, routesMax);
  const left = losses.routes.length - shown.length + (losses.moreRoutes ?? 0);
  return h(
    "div",
    {},
    h("h3", {}, label),
    h(
      "ul",
      {},
      ...shown.map((/** @type {any} */ { route, people }) =>
        h("li", {}, fill(people === 1 ? said.routeOne : said.route, route, count(people))),
      ),
      left > 0 && h("li", { class: "muted" }, fill(said.more, count(left))),
    ),
  );
};

/** @param {any} preview */
const previewOf = (preview) => {
  const said = words.act;
  const { people, sessions, routes, self, final, held, changes, refusal, may, role } = preview;
  /** @param {string} text */
  const warning = (text) => h("p", { class: "notice" }, text);
  return [
    h("p", {}, fill(people === 1 ? said.peopleOne : said.people, count(people))),
    sessions > 0 && h("p", {}, fill(sessions === 1 ? said.sessionsOne : said.sessions, count(sessions))),
    routeList(said.lost, routes?.lost),
    routeList(said.cut, routes?.cut),
    routeList(said.gained, routes?.gained),
    self === "session" && warning(said.selfSession),
    self === "access" && warning(said.selfAccess),
    final === true && warning(said.final),
    held === true && warning(said.held),
    changes === false && h("p", {}, said.unchanged),
    may === false && warning(fill(said.noRole, role)),
    typeof refusal === "string" && warning(fill(said.refused, refusal)),
  ].filter((part) => part !== null && part !== false);
};

/** What the reader fills in for an act. @param {any} act */
const createFields = (act) => {
  const said = words.act;
  const fields = (act.fields ?? []).map((/** @type {any} */ field) => {
    const { name, label, type, value, choices, required, previewed } = field;
    const option = (/** @type {[string, string]} */ [choice, text]) =>
      h("option", { value: choice, selected: choice === value }, text);
    const control =
      choices === undefined
        ? h("input", {
            name,
            type: type === "list" ? "text" : type,
            value: value ?? null,
            required: required === true,
            autocomplete: "off",
          })
        : h("select", { name }, ...choices.map(option));
    const element = h("label", {}, h("span", {}, label), control);
    return { name, type, control, element, previewed: previewed === true };
  });
  /** @returns {Record<string, unknown>} */
  const valuesOf = (/** @type {any[]} */ some) => {
    /** @type {Record<string, unknown>} */
    const values = {};
    for (const { name, type, control } of some) {
      if (type === "checkbox") values[name] = control.checked;
      else if (control.value.trim() === "") continue;
      else if (type === "number") values[name] = Number(control.value);
      else if (type === "list")
        values[name] = control.value.split(/[\s,;]+/).filter((/** @type {string} */ part) => part !== "");
      else if (type === "datetime-local") values[name] = new Date(control.value).toISOString();
      else values[name] = control.value;
    }
    return values;
  };
  const previewed = fields.filter((/** @type {any} */ field) => field.previewed);
  const isRequired = act.reason === "required";
  const reason = h("textarea", { rows: 2, maxlength: 500, required: isRequired, "aria-describedby": "reason-hint" });
  const hint = h("small", { id: "reason-hint", class: "muted" }, isRequired ? said.reasonNeeded : said.reasonHint);
  return {
    elements: fields.map((/** @type {any} */ { element }) => element),
    reasonElements: act.reason === undefined ? [] : [h("label", {}, h("span", {}, said.reason), reason), hint],
    fix() {
      for (const { control } of fields) control.disabled = true;
      reason.disabled = true;
    },
    values() {
      const values = valuesOf(fields);
      if (act.reason !== undefined && reason.value.trim() !== "") values["reason"] = reason.value.trim();
      return values;
    },
    /** The body of the preview request; null: a required field is empty. */
    previewed() {
      const isMissing = previewed.some(
        (/** @type {any} */ { control }) => control.required && control.value.trim() === "",
      );
      return isMissing ? null : valuesOf(previewed);
    },
    /** @param {() => void} listener */
    onPreviewed(listener) {
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let typing;
      const later = () => {
        clearTimeout(typing);
        typing = setTimeout(listener, typingMs);
      };
      for (const { control } of previewed) control.addEventListener("input", later);
    },
  };
};

/** A text that has to be typed before the button works. @param {HTMLButtonElement} send @param {string | null} wanted */
const createTypedName = (send, wanted) => {
  const input = h("input", { autocomplete: "off", spellcheck: "false" });
  const label = h("span", {});
  const element = h("label", {}, label, input);
  let expected = wanted;
  let isRefused = false;
  const check = () => {
    element.hidden = expected === null;
    if (expected !== null) label.textContent = fill(words.act.typed, expected);
    send.disabled = isRefused || (expected !== null && input.value.trim() !== expected);
  };
  input.addEventListener("input", check);
  check();
  return {
    element,
    check,
    typed: () => input.value.trim(),
    confirmed: () => (expected === null ? {} : { confirm: input.value.trim() }),
    /** The server asks for this text. @param {string} text */
    expect(text) {
      expected = text;
      check();
      input.focus();
    },
    /** @param {any} preview */
    applyPreview(preview) {
      expected ??= preview.confirm?.typed ?? null;
      isRefused = preview.may === false || typeof preview.refusal === "string";
      check();
    },
  };
};

/** @param {HTMLElement} status @param {any} body */
const showRefusal = (status, body) => {
  const said = words.act;
  if (body?.code === "sign-in-again" && String(body.signInUrl ?? "").startsWith("/.pomerium/")) {
    const url = new URL(body.signInUrl, location.origin);
    url.searchParams.set("to", `${location.pathname}${location.search}`);
    status.replaceChildren(`${said.signInAgain} `, h("a", { href: url.href }, said.signIn));
  } else status.textContent = fill(said.refused, body?.error ?? "");
};

/** The change has been made: its receipt takes the place of the form. @param {any} act @param {any} answer @param {HTMLDialogElement} dialog @param {string} title */
const showDone = (act, answer, dialog, title) => {
  const said = words.act;
  document.dispatchEvent(new CustomEvent("changed", { detail: { act, answer } }));
  let isAgain = false;
  dialog.addEventListener("close", () => (isAgain ? void openAct(act) : location.reload()), { once: true });
  const close = h("button", { type: "button", click: () => dialog.close() }, String(words.close));
  const isUnchanged = answer?.changed === false;
  const isRegional = answer?.accepted === "region";
  if (act.receipt === false || isUnchanged || isRegional || !answer?.commandId) {
    const heading = h("h2", { id: "act-title" }, isUnchanged ? said.unchangedDone : said.done);
    const note = isRegional && h("p", {}, fill(said.inRegion, answer.region));
    dialog.replaceChildren(heading, ...(note === false ? [] : [note]), h("div", { class: "actions" }, close));
  } else {
    const target = `command:${answer.commandId}`;
    const panel = createPanel(target);
    const href = `/.pomerium/admin/receipts/${encodeURIComponent(target)}`;
    const link = h("a", { class: "button", href }, words.receipt.open);
    dialog.replaceChildren(h("h2", { id: "act-title" }, title), panel, h("div", { class: "actions" }, link, close));
    dialog.addEventListener("close", () => panel.dispatchEvent(new Event("receipt-left")), { once: true });
    const repeat = () => {
      isAgain = true;
      dialog.close();
    };
    panel.addEventListener("receipt-done", (event) => {
      if (!(event instanceof CustomEvent) || event.detail !== "lost") return;
      const again = h("button", { type: "button", class: "first", click: repeat }, words.receipt.again);
      link.before(again);
      again.focus();
    });
    watchReceipt(panel);
  }
  close.focus();
};

/**
 * The act with what was selected as its subject, for when it has to be made again.
 * @param {any} act @param {{ title: string, amount: string, withSelection: (body: object) => object }} selected
 */
const settle = ({ selection: _, single: __, ...act }, { title, amount, withSelection }) => ({
  ...act,
  title,
  text: fill(act.text, amount),
  verb: fill(act.verb, amount),
  body: withSelection(act.body),
  ...(act.preview === undefined ? {} : { preview: withSelection(act.preview) }),
});

/** @param {any} written */
export const openAct = async (written) => {
  if (!mayChange()) return;
  const said = words.act;
  let act = written;
  const table = act.selection === undefined ? null : find(`#${CSS.escape(act.selection.table)}`, HTMLElement);
  const selected = table === null ? [] : selectionOf(table);
  if (act.selection !== undefined && selected.length === 0) return;
  if (selected.length === 1) act = { ...act, ...act.single };
  const withSelection = (/** @type {object} */ body) =>
    act.selection === undefined ? body : { ...body, [act.selection.field]: selected.map(({ id }) => id) };
  const amount = count(selected.length);
  const title = fill(act.title, amount);
  let commandId = newId();
  /** What was sent, where it is not known whether it was recorded. @type {object | null} */
  let unknown = null;
  const preview = h(
    "div",
    { class: "preview", "aria-live": "polite", hidden: act.preview === undefined },
    said.previewing,
  );
  const status = h("p", { role: "status" });
  const send = h("button", { class: act.look === "bad" ? "danger" : "first" }, fill(act.verb, amount));
  const cancel = h("button", { type: "button", click: () => dialog.close() }, String(words.cancel));
  const fields = createFields(act);
  const typed = createTypedName(send, act.typed ?? null);
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!mayChange()) {
      status.textContent = String(words.unconfirmed);
      return;
    }
    send.disabled = true;
    status.textContent = said.sending;
    const change = unknown ?? { ...withSelection(act.body), ...fields.values(), commandId };
    const post = (/** @type {object} */ confirmed) =>
      ask(act.path, { method: "POST", body: { ...change, ...confirmed } });
    let { ok, status: code, body } = await post(typed.confirmed());
    const isWanted = body?.code === "confirm-required" && typeof body.confirm === "string";
    if (isWanted && body.confirm === typed.typed())
      ({ ok, status: code, body } = await post({ confirm: body.confirm }));
    else if (isWanted) {
      status.textContent = body.error;
      return typed.expect(body.confirm);
    }
    if (ok) return showDone(settle(act, { title, amount, withSelection }), body, dialog, title);
    typed.check();
    if (code !== 0 && code < 500) {
      if (unknown === null) commandId = newId();
      return showRefusal(status, body);
    }
    unknown = change;
    fields.fix();
    status.textContent = said.notKnown;
    send.textContent = said.askAgain;
  };
  const form = h(
    "form",
    { class: "act", submit },
    h("h2", { id: "act-title" }, title),
    h("p", {}, fill(act.text, amount)),
    ...fields.elements,
    preview,
    ...fields.reasonElements,
    typed.element,
    status,
    h("div", { class: "actions" }, cancel, send),
  );
  const dialog = openDialog({ class: "act-dialog", "aria-labelledby": "act-title" }, form);
  cancel.focus();
  if (act.preview === undefined) return;
  let asked = 0;
  const askPreview = async () => {
    asked += 1;
    const own = asked;
    const given = fields.previewed();
    preview.hidden = given === null;
    if (given === null) return;
    preview.textContent = said.previewing;
    const command = { ...withSelection(act.preview), ...given };
    const { ok, body } = await ask("/preview", { method: "POST", body: { command } });
    if (own !== asked) return; // a later one has been asked for
    if (ok) {
      preview.replaceChildren(...previewOf(body));
      typed.applyPreview(body);
    } else preview.textContent = body?.error === undefined ? said.noPreview : fill(said.refused, body.error);
  };
  fields.onPreviewed(() => void askPreview());
  await askPreview();
};

for (const button of document.querySelectorAll("button[data-act]")) {
  if (!(button instanceof HTMLButtonElement)) continue;
  button.hidden = false;
  button.addEventListener("click", () => void openAct(JSON.parse(button.dataset["act"] ?? "{}")));
}
