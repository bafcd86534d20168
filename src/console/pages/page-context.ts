/** Page context: what every page is rendered with, besides its own content. Pure. */
import type { PageText } from "../text/texts.ts";
import type { PageLook } from "./look.ts";

export type PageContext = Readonly<{ text: PageText; look: PageLook }>;
