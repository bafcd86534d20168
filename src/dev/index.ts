/** The demo identity provider and the demo app: the entry point of dev. */

export { type DemoApp, type DemoAppOptions, startDemoApp } from "./demo-app-server.ts";
export { type AssertionVerdict, requestedHost, verifyAssertion } from "./demo-assertion.ts";
export { type DemoGuideOptions, type GuideTarget, guideTargets } from "./demo-guide.ts";
export { createDemoKeys } from "./demo-provider-key-file.ts";
export { type DemoProvider, type DemoProviderOptions, startDemoProvider } from "./demo-provider-server.ts";
export { type DemoUser, demoUsers, UnknownDemoUserError } from "./demo-users.ts";
export type { ListenAddress } from "./listen-server.ts";
