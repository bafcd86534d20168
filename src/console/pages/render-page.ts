/** Page rendering: turns a page of `src/auth` into HTML. Pure. */
import type { Page } from "../../auth/index.ts";
import { unreachable } from "../../events/index.ts";
import { chooseProviderPage } from "./choose-provider-page.ts";
import { errorPage, signInErrorPage } from "./error-page.ts";
import { keepAddressPage, returnPage, signInLoopPage } from "./sign-in-pages.ts";
import { signedOutPage, signOutConfirmPage } from "./sign-out-pages.ts";
import { userInfoPage } from "./user-info-page.ts";

export function renderPage(page: Page): string {
  switch (page.type) {
    case "error":
      return errorPage(page);
    case "user-info":
      return userInfoPage(page);
    case "sign-out-confirm":
      return signOutConfirmPage(page);
    case "signed-out":
      return signedOutPage(page);
    case "sign-in-error":
      return signInErrorPage(page);
    case "keep-address":
      return keepAddressPage(page);
    case "return":
      return returnPage(page);
    case "choose-provider":
      return chooseProviderPage(page);
    case "sign-in-loop":
      return signInLoopPage(page);
    default:
      return unreachable(page);
  }
}
