/**
 * Configuration: its type, its parser and loader, and the location of every problem in it. The package's entry point.
 */

export { plainBranding } from "./branding.ts";
export type {
  AutocertConfig,
  BearerConfig,
  BrandingConfig,
  Config,
  DecisionApiConfig,
  DownstreamMtls,
  OnStale,
  RecordedFields,
  RouteConfig,
  SignInProviderConfig,
  TlsFiles,
  TracingConfig,
  TunnelConfig,
} from "./config.ts";
export { type LoadOptions, type LoadResult, loadConfig, readKeyFile } from "./config-loader.ts";
export { canonicalConfig, canonicalJson } from "./hash.ts";
export { type IdleLifetimes, idleLifetimesOf, reportedEvery } from "./idle-lifetimes.ts";
export { type ParseOptions, type ParseResult, parseConfig, type WrittenPolicy } from "./parse-config.ts";
export { type Reload, reloadConfig } from "./reload.ts";
export { canonicalAddress, readSubjectNames, type SubjectNames, servedNames } from "./resolve/certificate-names.ts";
export { certificateReader } from "./resolve/certificate-reader.ts";
export { exampleSecret, type FileContent, type ReadFile } from "./resolve/key-material.ts";
export type { GeneratedSecrets } from "./resolve/secrets.ts";
export type { Setting, SettingsSection } from "./settings.ts";
export {
  type RouteSignIn,
  type SignInClient,
  type SignInClients,
  signInClientsOf,
} from "./sign-in-clients.ts";
export type { Environment, Overrides } from "./source/overrides.ts";
export {
  formatPath,
  formatProblem,
  locationIn,
  locationOf,
  type Path,
  type PolicySource,
  type Problem,
  type SourceLocation,
  type SourceLocationTree,
} from "./source/source-locations.ts";
export { readYaml, type YamlDocument } from "./source/yaml-document.ts";
export { textOn } from "./values/colour.ts";
export type { DataSource } from "./values/data-values.ts";
export type { RequestTemplate, ResourceTemplates, TemplatePart } from "./values/decision-values.ts";
export type { DirectoryConfig } from "./values/directory-values.ts";
export { type HeaderPart, type HeaderTemplate, parseHeaderTemplate } from "./values/header-template.ts";
export { type HomeRegion, postgresServerOf } from "./values/home-values.ts";
export type { ScimClientConfig, SubPolicyConfig, TokenIssuerConfig } from "./values/identity-values.ts";
export type { AccessLogField, AuthorizeLogField } from "./values/log-fields.ts";
export {
  formatDuration,
  type HostPort,
  isLoopback,
  parseDuration,
  parseHostPort,
  speaksHttp2,
  type Upstream,
} from "./values/network-values.ts";
export { type OperatorEntry, routeGroupPattern } from "./values/operator-entries.ts";
export type { PostgresSinkConfig } from "./values/postgres-sink.ts";
export { everyService, type Service } from "./values/process-values.ts";
export type { RouteRequestAccess } from "./values/request-access.ts";
export { defaultProviderName, type ProviderKind } from "./values/sign-in-provider-values.ts";
export { type SentSignal, type SignalReceiverConfig, sentSignals } from "./values/signal-receivers.ts";
export { defaultSignalActions, type SignalTransmitterConfig, type SubjectMatch } from "./values/signal-transmitters.ts";
export type { OtlpSinkConfig } from "./values/sinks/otlp-sink-values.ts";
export type { S3SinkConfig } from "./values/sinks/s3-sink-values.ts";
export type { SinkBatchConfig, SinkEndpointConfig } from "./values/sinks/sink-endpoint-values.ts";
export type { SinkFormat } from "./values/sinks/sink-format.ts";
export type { FileRotation } from "./values/sinks/sink-values.ts";
export type { WebhookBody, WebhookSinkConfig } from "./values/sinks/webhook-sink-values.ts";
export { suggest } from "./values/suggest.ts";
export type { SubjectNamePattern, SubjectNameType } from "./values/tls-values.ts";
export type {
  BalancingConfig,
  BreakerConfig,
  HealthCheckConfig,
  OutlierConfig,
  Probe,
  StatusRange,
} from "./values/upstream-settings.ts";
export { windowLimits } from "./window-limits.ts";
