/** Look: what the configuration says about the appearance of pages, in the form that they use. Pure. */
import type { BrandingConfig } from "../../config/index.ts";
import { baseSheet, brandSheet } from "./tokens.ts";

export type PageLook = Readonly<{
  organization: string;
  /** Pictures as browsers load them: `data:`, or a path of this host. Null: none. */
  logoUrl: string | null;
  faviconUrl: string | null;
  /** The style sheet of every page. */
  sheet: string;
  firstParagraph: string;
  support: BrandingConfig["support"];
  /** Paths of scripts and of the portal's style sheet; null: pages have none. */
  assets: Readonly<{ page: string | null; portal: string | null; portalSheet: string | null; access?: string | null }>;
  /** The path of a picture that a node serves for a URL. */
  pictureUrl: (url: string) => string | null;
}>;

export function lookOf(branding: BrandingConfig, parts: Pick<PageLook, "assets" | "pictureUrl">): PageLook {
  return {
    organization: branding.organizationName === "" ? "Cardea" : branding.organizationName,
    logoUrl: parts.pictureUrl(branding.logoUrl),
    faviconUrl: parts.pictureUrl(branding.faviconUrl),
    sheet: baseSheet + brandSheet(branding),
    firstParagraph: branding.firstParagraph,
    support: branding.support,
    ...parts,
  };
}
