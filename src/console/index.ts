/** Pages and the operator API: the entry point of the console. */

export type { ActivityAnswer, ChangesPage, ChangeView } from "./api/changes/change-schemas.ts";
export type { ErasureReport } from "./api/erasure-report.ts";
export type { BlastRadius, PreviewAnswer } from "./api/held/blast-radius.ts";
export type { HeldView } from "./api/held/operator-held.ts";
export { createHomeLookup } from "./api/home-lookup.ts";
export type { ConfigurationDiff, RouteEffect } from "./api/lab/configuration-diff.ts";
export type { ConfigurationHistory } from "./api/lab/configuration-history.ts";
export {
  type CheckedText,
  type PolicyLab,
  PolicyLabError,
  type TestedText,
  type TextProblem,
} from "./api/lab/policy-lab.ts";
export { type MarkdownSource, replayMarkdown } from "./api/lab/replay-markdown.ts";
export type { ReplayFailure, ReplayProgress, ReplayResult } from "./api/lab/replay-result.ts";
export { parseLastKnown } from "./api/last-known.ts";
export type { ListedGroup } from "./api/lists/group-list.ts";
export { createListCursors } from "./api/lists/list-cursor.ts";
export type { MemberWithOrigin } from "./api/lists/member-origin.ts";
export type { LocalChangeAnswer } from "./api/local-changes.ts";
export { operatorApiPrefix } from "./api/operation-call.ts";
export { type AccessRecorder, createAccessRecorder } from "./api/operator-access.ts";
export { registerOperatorApi } from "./api/operator-api.ts";
export { type ApprovedRoute, type OperatorCaller, operatorCallerOf } from "./api/operator-caller.ts";
export type { ChangeAnswer, RevokedManyAnswer } from "./api/operator-changes.ts";
export type { ConfigurationAnswer, ConfigurationView } from "./api/operator-configurations.ts";
export { operatorOpenApi } from "./api/operator-openapi.ts";
export {
  type DirectoryView,
  directoryStateOf,
  type MembershipView,
  type ScimTokenView,
} from "./api/operator-provisioning.ts";
export type { OperatorApiDeps, PolicyOfRoute } from "./api/operator-route.ts";
export type { LastKnownState } from "./api/operator-schemas.ts";
export { mintOperatorToken, type OperatorToken, verifyOperatorToken } from "./api/operator-token.ts";
export type { EraseAnswer } from "./api/operator-user-changes.ts";
export type { GroupView, SessionView, UserView } from "./api/operator-views.ts";
export type { AccessFailure, AccessProgress, WhatReport, WhoReport } from "./api/past/access-reports.ts";
export type { ExplainAnswer } from "./api/past/explain-route.ts";
export type { Preview } from "./api/preview/preview-schemas.ts";
export type { AskAnswer } from "./api/provisioning/directory-people.ts";
export type { ListedReceipt } from "./api/receipts/receipt-schemas.ts";
export type { RequestDetail, RequestList, RequestView } from "./api/requests/request-schemas.ts";
export type { Me } from "./api/roles/me-operations.ts";
export {
  isAdministrator,
  type OperatorRole,
  operatorRoles,
  type RoleEntries,
} from "./api/roles/operator-roles.ts";
export type { SettingsAnswer } from "./api/roles/settings-operations.ts";
export type { SearchHit } from "./api/search/search-operations.ts";
export { createPageAssets, type PageAssets } from "./assets/page-assets.ts";
export { fetchPicture } from "./assets/picture-fetch.ts";
export { createPictureStore } from "./assets/picture-store.ts";
export { registerAssets } from "./assets/register-assets.ts";
export { escapeHtml, type Html, type HtmlValue, html, safeUrl } from "./pages/html.ts";
export { definitionList, type Frame, isolateText, linkButton, renderLayout, renderPlainPage } from "./pages/layout.ts";
export { lookOf, type PageLook } from "./pages/look.ts";
export { createPageRenderer } from "./pages/render-page.ts";
export { themeSheet } from "./pages/tokens.ts";
export { registerReceiptKeys } from "./receipt-keys.ts";
export { describeReasons, describeRoute, type PageText, texts } from "./text/texts.ts";
export { type ConsoleDeps, registerConsole } from "./views/register-console.ts";
