/** Directory adapters: every source of people and groups that `directories` can name, by `provider`. */
import type { DirectoryAdapter } from "./adapter-contract.ts";
import { fileAdapter } from "./sources/file/file-adapter.ts";

export const directoryAdapters: readonly DirectoryAdapter[] = [fileAdapter];

export function findAdapter(provider: string): DirectoryAdapter | undefined {
  return directoryAdapters.find((adapter) => adapter.provider === provider);
}
