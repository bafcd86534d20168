/** Pages and the operator API: the entry point of the console. */

export { createPageAssets, type PageAssets } from "./assets/page-assets.ts";
export { fetchPicture } from "./assets/picture-fetch.ts";
export { createPictureStore } from "./assets/picture-store.ts";
export { registerAssets } from "./assets/register-assets.ts";
export type { ErasureReport } from "./erasure-report.ts";
export type { BlastRadius, PreviewAnswer } from "./held/blast-radius.ts";
export type { HeldView } from "./held/operator-held.ts";
export { createHomeLookup } from "./home-lookup.ts";
export { parseLastKnown } from "./last-known.ts";
export type { LocalChangeAnswer } from "./local-changes.ts";
export { type AccessRecorder, createAccessRecorder } from "./operator-access.ts";
export { operatorApiPrefix, registerOperatorApi } from "./operator-api.ts";
export { isAdministrator, type OperatorCaller, operatorCallerOf } from "./operator-caller.ts";
export type { ChangeAnswer, RevokedManyAnswer } from "./operator-changes.ts";
export type { ConfigurationAnswer, ConfigurationView } from "./operator-configurations.ts";
export { operatorOpenApi } from "./operator-openapi.ts";
export {
  type DirectoryView,
  directoryStateOf,
  type MembershipView,
  type ScimTokenView,
} from "./operator-provisioning.ts";
export type { OperatorApiDeps } from "./operator-route.ts";
export type { LastKnownState } from "./operator-schemas.ts";
export { mintOperatorToken, type OperatorToken, verifyOperatorToken } from "./operator-token.ts";
export type { EraseAnswer } from "./operator-user-changes.ts";
export type { GroupView, SessionView, UserView } from "./operator-views.ts";
export { escapeHtml, type Html, type HtmlValue, html, safeUrl } from "./pages/html.ts";
export { definitionList, type Frame, isolateText, linkButton, renderLayout, renderPlainPage } from "./pages/layout.ts";
export { lookOf, type PageLook } from "./pages/look.ts";
export { createPageRenderer } from "./pages/render-page.ts";
export type { AccessFailure, AccessProgress, WhatReport, WhoReport } from "./past/access-reports.ts";
export type { ExplainAnswer } from "./past/explain-route.ts";
export type { AskAnswer } from "./provisioning/directory-people.ts";
export { registerReceiptKeys } from "./receipt-keys.ts";
export { describeReasons, type PageText, texts } from "./text/texts.ts";
