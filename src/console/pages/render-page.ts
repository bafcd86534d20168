/** Page rendering: turns a page of `src/auth` into a document and its headers. Pure. */
import type { Page, PageReader, RenderPage } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { type PageText, textFor, texts } from "../text/texts.ts";
import { accessRequestPage } from "./access-request-page.ts";
import { chooseProviderPage } from "./choose-provider-page.ts";
import { errorPage, signInErrorPage } from "./error-page.ts";
import { type PageFrame, renderFrame } from "./layout.ts";
import type { PageLook } from "./look.ts";
import type { PageContext } from "./page-context.ts";
import { routesPage } from "./routes-page.ts";
import { keepAddressPage, returnPage, signInLoopPage } from "./sign-in-pages.ts";
import { signedOutPage, signOutConfirmPage } from "./sign-out-pages.ts";
import { userInfoPage } from "./user-info-page.ts";

/** @param known the languages to choose from; the first is for readers of any other */
export function createPageRenderer(look: PageLook, known: readonly [PageText, ...PageText[]] = texts): RenderPage {
  return (page: Page, reader: PageReader) => {
    const text = textFor(reader.language, known);
    return renderFrame(frameOf(page, { text, look }), look, reader, text);
  };
}

function frameOf(page: Page, context: PageContext): PageFrame {
  switch (page.type) {
    case "access-request":
      return accessRequestPage(page, context);
    case "error":
      return errorPage(page, context);
    case "routes":
      return routesPage(page, context);
    case "user-info":
      return userInfoPage(page, context);
    case "sign-out-confirm":
      return signOutConfirmPage(page, context);
    case "signed-out":
      return signedOutPage(page, context);
    case "sign-in-error":
      return signInErrorPage(page, context);
    case "keep-address":
      return keepAddressPage(page, context);
    case "return":
      return returnPage(page, context);
    case "choose-provider":
      return chooseProviderPage(page, context);
    case "sign-in-loop":
      return signInLoopPage(page, context);
    default:
      return unreachable(page);
  }
}
