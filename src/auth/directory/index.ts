/** Entry point of directory sync: the contract of directory sources, and the adapters. */

export {
  type DirectoryAdapter,
  defineAdapter,
  httpsUrl,
  parseSettings,
  type SettingProblem,
  type SourceParts,
  text,
} from "./adapter-contract.ts";
export { directoryAdapters, findAdapter } from "./directory-adapters.ts";
export {
  createDirectoryDuty,
  type DirectoryDuty,
  type DirectoryDutyDeps,
  type OpenDirectory,
} from "./directory-duty.ts";
export { DirectoryError, type DirectoryErrorKind } from "./directory-error.ts";
export {
  createDirectoryHttp,
  type DirectoryAnswer,
  type DirectoryHttp,
  type DirectoryRequest,
  type LimitOf,
} from "./directory-fetch.ts";
export { checkPage, plainText } from "./page-check.ts";
export {
  type DirectoryGroup,
  type DirectoryMembers,
  type DirectoryPage,
  type DirectoryPerson,
  type DirectoryProblem,
  type DirectorySource,
  emptyPage,
  type ReadRequest,
} from "./source.ts";
