/** Pages, built from a configuration: their look, the scripts that they load, and the pictures that they show. */
import { readdirSync, readFileSync } from "node:fs";
import type { FastifyInstance } from "fastify";
import type { RenderPage } from "../../../auth/index.ts";
import type { Config } from "../../../config/index.ts";
import {
  createPageAssets,
  createPageRenderer,
  createPictureStore,
  fetchPicture,
  lookOf,
  type PageAssets,
  type PageLook,
  registerAssets,
  themeSheet,
} from "../../../console/index.ts";
import type { Logger } from "../../../replication/index.ts";
import { systemClock } from "../../../replication/runtime/index.ts";
import { packageFile } from "../../terminal/package-file.ts";

/** In a checkout the sources themselves; in a published package what `npm run build` made of them. */
const folder = import.meta.url.endsWith(".ts") ? "src/console/web" : "dist/web";

/** The scripts and style sheets of the pages, read once in a process. */
export function readPageAssets(): PageAssets {
  const names = readdirSync(packageFile(folder)).filter((name) => /\.(?:js|css)$/.test(name));
  return createPageAssets(
    Object.fromEntries(names.map((name) => [name, readFileSync(packageFile(`${folder}/${name}`), "utf8")])),
  );
}

export type PageParts = Readonly<{
  render: RenderPage;
  look: PageLook;
  /** The path of a script or style sheet; null: there is none of that name. */
  assetPath: (name: string) => string | null;
  pictureUrl: (url: string) => string | null;
  registerAssets: (app: FastifyInstance) => void;
}>;

export function pagePartsOf(
  { branding, routes }: Pick<Config, "branding" | "routes">,
  assets: PageAssets,
  logger: Pick<Logger, "warn">,
): PageParts {
  const pictures = createPictureStore(
    [branding.logoUrl, branding.faviconUrl, ...routes.map(({ logoUrl }) => logoUrl)],
    {
      fetchPicture,
      now: systemClock.monotonic,
      onFailed: (url, error) =>
        logger.warn(
          { url: new URL(url).origin, error: error instanceof Error ? error.message : "" },
          "logo could not be fetched; pages show initials in its place",
        ),
    },
  );
  const look = lookOf(branding, {
    assets: {
      page: assets.pathOf("page.js"),
      portal: assets.pathOf("portal.js"),
      portalSheet: assets.pathOf("portal.css"),
      access: assets.pathOf("access.js"),
    },
    pictureUrl: pictures.pathOf,
  });
  const themed = createPageAssets({ "theme.css": themeSheet(branding) });
  const all = { find: (name: string) => assets.find(name) ?? themed.find(name) };
  return {
    render: createPageRenderer(look),
    look,
    assetPath: (name) => assets.pathOf(name) ?? themed.pathOf(name),
    pictureUrl: pictures.pathOf,
    registerAssets: (app) => registerAssets(app, all, pictures),
  };
}
