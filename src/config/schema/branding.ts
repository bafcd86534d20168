/** Schema of the pages' look: Pomerium's branding keys, the name of the organization, and where people get help. */
import * as z from "zod";
import { stringMatching, stringValue, type ValueType } from "../values/value-type.ts";
import { cardea, pomerium } from "./keys.ts";

const colour = (): ValueType<string> =>
  stringMatching({
    label: "color",
    json: { type: "string" },
    pattern: /^#(?:[0-9a-f]{3}|[0-9a-f]{6})$/i,
    what: "a color",
    example: "#14594b",
  });

/** A URL that a page may show as a picture, but never one that it could run. */
export const picture = (): ValueType<string> =>
  stringMatching({
    label: "URL",
    json: { type: "string" },
    pattern: /^(?:(?:https?:\/\/|data:image\/)[^\s"'<>\\`]{1,65536})?$/i,
    what: "the address of an image",
    example: "https://static.example.com/wiki.svg",
  });

/** A place where people get help: a web page, or an address for email. */
const contactUrl = (): ValueType<string> =>
  stringMatching({
    label: "URL",
    json: { type: "string" },
    pattern: /^(?:(?:https?:\/\/[^\s"'<>\\`@]{1,2000})|mailto:[A-Za-z0-9._%+-]{1,100}@[A-Za-z0-9.-]{1,200})?$/,
    what: "a web address or mailto:",
    example: "mailto:help@example.com",
  });

const shortText = (example: string): ValueType<string> =>
  stringMatching({
    label: "text",
    json: { type: "string" },
    pattern: /^[^\p{Cc}]{0,200}$/u,
    what: "a line of at most 200 characters",
    example,
  });

const inBranding = { configPaths: ["branding"] } as const;

export const brandingKeys = {
  organization_name: cardea(
    shortText("Acme").prefault(""),
    "The name at the top of each page. Empty: Cardea.",
    inBranding,
  ),
  logo_url: pomerium(
    picture().prefault(""),
    "The picture at the top of each page: `https`, `http` or `data:image/`. This node fetches it and serves it under `/.pomerium/assets/`, so browsers ask no other host. At most 256 KiB, no redirects.",
    inBranding,
  ),
  favicon_url: pomerium(picture().prefault(""), "The icon of the pages, as `logo_url`. Empty: none.", inBranding),
  primary_color: pomerium(
    colour().optional(),
    "The color of links and of the first button, as `#rrggbb`. It needs a contrast of 4.5:1 on the pages' surfaces; `cardea check` suggests the nearest that has it.",
    inBranding,
  ),
  secondary_color: pomerium(
    colour().optional(),
    "The color of the mark and of pictures' initials, with the same contrast. Absent: `primary_color`.",
    inBranding,
  ),
  darkmode_primary_color: pomerium(
    colour().optional(),
    "As `primary_color`, on dark surfaces. Absent: a lighter shade of `primary_color`.",
    inBranding,
  ),
  darkmode_secondary_color: pomerium(
    colour().optional(),
    "As `secondary_color`, on dark surfaces. Absent: a lighter shade of `secondary_color`.",
    inBranding,
  ),
  error_message_first_paragraph: pomerium(
    stringValue().prefault(""),
    "A paragraph at the top of each error page, as plain text of at most 1,000 characters.",
    inBranding,
  ),
  support: cardea(
    z.strictObject({
      label: cardea(shortText("the IT help desk").prefault(""), "Who helps people, worded to fit within a sentence.", {
        inConfig: "value",
      }),
      url: cardea(contactUrl().prefault(""), "Where: a web page, or `mailto:` and an address. Empty: no link.", {
        inConfig: "value",
      }),
    }),
    "Where people get help; every page about a problem names it. Absent: your administrator.",
    inBranding,
  ),
};
