/** Pages as a configuration without branding renders them, without scripts. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page, PageReader, RenderPage } from "../../src/auth/index.ts";
import { type BrandingConfig, plainBranding } from "../../src/config/index.ts";
import {
  createPageAssets,
  createPageRenderer,
  lookOf,
  type PageAssets,
  type PageLook,
  type PageText,
} from "../../src/console/index.ts";

export const anyReader: PageReader = { host: "app.example.com", language: "" };

export function pageRenderer(
  branding: Partial<BrandingConfig> = {},
  text?: PageText,
  assets: PageLook["assets"] = { page: null, portal: null, portalSheet: null },
): RenderPage {
  const look = lookOf({ ...plainBranding, ...branding }, { assets, pictureUrl: (url) => (url === "" ? null : url) });
  return text === undefined ? createPageRenderer(look) : createPageRenderer(look, [text]);
}

/** The scripts and style sheets of the pages, as a node serves them from a checkout. */
export function sourceAssets(): PageAssets {
  const folder = join(import.meta.dirname, "..", "..", "src", "console", "web");
  const names = readdirSync(folder).filter((name) => /\.(?:js|css)$/.test(name));
  return createPageAssets(Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), "utf8")])));
}

export function pathsOf(assets: PageAssets): PageLook["assets"] {
  return {
    page: assets.pathOf("page.js"),
    portal: assets.pathOf("portal.js"),
    portalSheet: assets.pathOf("portal.css"),
    access: assets.pathOf("access.js"),
  };
}

export const renderPage = pageRenderer();

export function htmlOf(page: Page, reader = anyReader): string {
  return renderPage(page, reader).html;
}
