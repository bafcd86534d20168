/**
 * Configuration: its type, its parser and loader, and the location of every problem in it. The package's entry point.
 */

export type {
  AutocertConfig,
  BearerConfig,
  Config,
  DataSource,
  DecisionApiConfig,
  DownstreamMtls,
  HostPort,
  OnStale,
  PolicySource,
  Problem,
  RouteConfig,
  Service,
  SourceLocation,
  SourceLocationTree,
  SubjectNamePattern,
  SubjectNameType,
  SubPolicyConfig,
  TlsFiles,
  TokenIssuerConfig,
  TracingConfig,
  TunnelConfig,
  Upstream,
} from "./config.ts";
export { type LoadOptions, type LoadResult, loadConfig, readKeyFile } from "./config-loader.ts";
export { canonicalConfig, canonicalJson } from "./hash.ts";
export { type ParseOptions, type ParseResult, parseConfig, type WrittenPolicy } from "./parse-config.ts";
export { type Reload, reloadConfig } from "./reload.ts";
export { canonicalAddress, readSubjectNames, type SubjectNames, servedNames } from "./resolve/certificate-names.ts";
export { certificateReader } from "./resolve/certificate-reader.ts";
export { exampleSecret, type FileContent, type ReadFile } from "./resolve/key-material.ts";
export type { GeneratedSecrets } from "./resolve/secrets.ts";
export type { Environment, Overrides } from "./source/overrides.ts";
export { formatPath, formatProblem, locationIn, locationOf, type Path } from "./source/source-locations.ts";
export { readYaml, type YamlDocument } from "./source/yaml-document.ts";
export type { RequestTemplate, ResourceTemplates, TemplatePart } from "./values/decision-values.ts";
export { type HeaderPart, type HeaderTemplate, parseHeaderTemplate } from "./values/header-template.ts";
export type { AccessLogField, AuthorizeLogField } from "./values/log-fields.ts";
export { formatDuration, isLoopback, parseDuration, parseHostPort, speaksHttp2 } from "./values/network-values.ts";
export { everyService } from "./values/process-values.ts";
export { suggest } from "./values/suggest.ts";
export type {
  BalancingConfig,
  BreakerConfig,
  HealthCheckConfig,
  OutlierConfig,
  Probe,
  StatusRange,
} from "./values/upstream-settings.ts";
export { windowLimits } from "./window-limits.ts";
