/** Branding: the look of the pages, from its keys. Pure. Refuses colours that people cannot read. */
import type { BrandingConfig } from "./config.ts";
import type { Globals } from "./schema/schema.ts";
import type { ProblemReporter } from "./source/source-locations.ts";
import { contrastMin, contrastOn, nearestReadable, surfaces } from "./values/colour.ts";

const paragraphCharsMax = 1_000;
type Theme = keyof typeof surfaces;

/** Without any key of it. */
export const plainBranding: BrandingConfig = {
  organizationName: "",
  logoUrl: "",
  faviconUrl: "",
  light: { primary: null, secondary: null },
  dark: { primary: null, secondary: null },
  firstParagraph: "",
  support: null,
};

export function resolveBranding(globals: Globals, report: ProblemReporter): BrandingConfig {
  const colourOf = (key: ColourKey, theme: Theme): string | null => {
    const colour = globals[key]?.toLowerCase() ?? null;
    if (colour === null) return null;
    const contrast = contrastOn(colour, surfaces[theme]);
    if (contrast < contrastMin)
      report.error(
        [key],
        `${colour} has a contrast of ${contrast.toFixed(1)}:1 on the ${theme} pages, and text needs ${contrastMin}:1`,
        `write "${nearestReadable(colour, theme)}", the nearest shade that people can read`,
      );
    return colour;
  };
  if (globals.error_message_first_paragraph.length > paragraphCharsMax)
    report.error(
      ["error_message_first_paragraph"],
      `is longer than ${paragraphCharsMax} characters`,
      "shorten it, and link to the rest with support.url",
    );
  const primary = colourOf("primary_color", "light");
  const secondary = colourOf("secondary_color", "light") ?? primary;
  const lighter = (colour: string | null): string | null => (colour === null ? null : nearestReadable(colour, "dark"));
  const { label, url } = globals.support;
  if (url !== "" && label === "") report.error(["support", "label"], "is missing", "write who helps, as IT help desk");
  return {
    organizationName: globals.organization_name.trim(),
    logoUrl: globals.logo_url,
    faviconUrl: globals.favicon_url,
    light: { primary, secondary },
    dark: {
      primary: colourOf("darkmode_primary_color", "dark") ?? lighter(primary),
      secondary: colourOf("darkmode_secondary_color", "dark") ?? lighter(secondary),
    },
    firstParagraph: globals.error_message_first_paragraph.trim(),
    support: label === "" ? null : { label, url: url === "" ? null : url },
  };
}

type ColourKey = "primary_color" | "secondary_color" | "darkmode_primary_color" | "darkmode_secondary_color";
